using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>
/// When an advice is given: all that is said here holds, of what was observed. What is not known of a server fulfils nothing;
/// a null in a list stands for what is known to be absent, or, of authors, for one that is not known.
/// </summary>
/// <remarks>Set and not init: what generated code finds no value for, it initialises with nothing at all.</remarks>
internal sealed record AdviceCondition
{
    /// <summary>In a list of modules: any.</summary>
    public const string Any = "*";

    /// <summary>One of these verdicts.</summary>
    public required ImmutableArray<Verdict> Verdict { get; init; }

    /// <summary>The server has not ended.</summary>
    public bool Runs { get; set; }

    /// <summary>Kamailio's version.</summary>
    public VersionRange? Kamailio { get; init; }

    /// <summary>OpenSSL's version.</summary>
    public VersionRange? OpenSsl { get; init; }

    /// <summary>One of these values of <c>tls_threads_mode</c>; null: a Kamailio that has none.</summary>
    public ImmutableArray<int?> TlsThreadsMode { get; set; } = [];

    /// <summary>One of these modules does TLS; null: none does.</summary>
    public ImmutableArray<string?> TlsBackEnd { get; set; } = [];

    /// <summary>One of these modules is loaded.</summary>
    public ImmutableArray<string> Modules { get; set; } = [];

    /// <summary>There is a shared slot that one of these modules set; null: one of which it is not known who set it.</summary>
    public ImmutableArray<string?> Authors { get; set; } = [];

    /// <summary>And one of these asked for it.</summary>
    public ImmutableArray<string> AskedBy { get; set; } = [];

    /// <summary>And it is one of these.</summary>
    public ImmutableArray<string> Slots { get; set; } = [];

    /// <summary>And it was set then.</summary>
    public ImmutableArray<CallPhase> Phase { get; set; } = [];

    /// <summary>One of these things was missed.</summary>
    public ImmutableArray<CoverageGaps> Gaps { get; set; } = [];

    /// <summary>The latest inspection of a process ended so.</summary>
    public ImmutableArray<InspectionStatus> Inspection { get; set; } = [];

    /// <summary>Something is said of a shared slot.</summary>
    public bool IsAboutSlots => !Authors.IsEmpty || !AskedBy.IsEmpty || !Slots.IsEmpty || !Phase.IsEmpty;

    /// <summary>What a text may name, as <c>{name}</c>: what is known whenever the condition holds.</summary>
    public IEnumerable<string> Names
    {
        get
        {
            (string Name, bool Known)[] names =
            [
                ("kamailio", Kamailio is not null),
                ("openssl", OpenSsl is not null),
                ("tlsThreadsMode", !TlsThreadsMode.IsEmpty && !TlsThreadsMode.Contains(null)),
                ("tlsBackEnd", !TlsBackEnd.IsEmpty && !TlsBackEnd.Contains(null)),
                ("modules", !Modules.IsEmpty),
                ("authors", !Authors.IsEmpty && !Authors.Contains(null)),
                ("askedBy", !AskedBy.IsEmpty),
                ("slots", !Slots.IsEmpty),
            ];
            return names.Where(static n => n.Known).Select(static n => n.Name);
        }
    }

    /// <summary>The values of <see cref="Names"/> for a server; null when the condition does not hold of it.</summary>
    public IReadOnlyDictionary<string, string>? Match(InstanceSnapshot instance)
    {
        ServerFacts facts = instance.Facts;
        ImmutableArray<string> loaded = facts.Modules.IsDefault ? [] : facts.Modules;
        SharedSlot[] slots = IsAboutSlots ? [.. instance.SharedSlots.Where(IsMeant)] : [];
        bool holds =
            Verdict.Contains(instance.Verdict)
            && !(Runs && instance.Ended)
            && (Kamailio is null || Kamailio.Has(facts.Kamailio))
            && (OpenSsl is null || OpenSsl.Has(facts.OpenSsl))
            // Only a Kamailio whose version could be read is known to have none.
            && (TlsThreadsMode.IsEmpty || (TlsThreadsMode.Contains(facts.TlsThreadsMode) && (facts.TlsThreadsMode is not null || ReleaseVersion.TryParse(facts.Kamailio, out _))))
            && (TlsBackEnd.IsEmpty || (TlsBackEnd.Contains(facts.TlsBackEnd) && (facts.TlsBackEnd is not null || !loaded.IsEmpty)))
            && (Modules.IsEmpty || Modules.Any(loaded.Contains))
            && (!IsAboutSlots || slots.Length > 0)
            && (Gaps.IsEmpty || Gaps.Any(gap => instance.Gaps.HasFlag(gap)))
            && (Inspection.IsEmpty || instance.Processes.Any(p => p.Inspection is { } status && Inspection.Contains(status)));
        return !holds ? null : new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["kamailio"] = facts.Kamailio ?? "",
            ["openssl"] = facts.OpenSsl ?? "",
            ["tlsThreadsMode"] = $"{facts.TlsThreadsMode}",
            ["tlsBackEnd"] = facts.TlsBackEnd ?? "",
            ["modules"] = Listed(loaded.Where(m => Modules.Contains(m))),
            ["authors"] = Listed(slots.Select(static s => s.Origin?.Chain.Author)),
            ["askedBy"] = Listed(slots.Select(static s => s.Origin?.Chain.AskedBy)),
            ["slots"] = Listed(slots.Select(static s => s.Name)),
        };
    }

    private bool IsMeant(SharedSlot slot)
    {
        CallChain? chain = slot.Origin?.Chain;
        return (Authors.IsEmpty || Authors.Contains(chain?.Author))
            && (AskedBy.IsEmpty || (chain?.AskedBy is { } asked && (AskedBy.Contains(asked) || AskedBy.Contains(Any))))
            && (Slots.IsEmpty || (slot.Name is { } name && Slots.Contains(name)))
            && (Phase.IsEmpty || (slot.Origin is { } origin && Phase.Contains(origin.BeforeForkNs is null ? CallPhase.AfterFork : CallPhase.BeforeFork)));
    }

    /// <summary><c>a</c>, <c>a and b</c>, <c>a, b and c</c>.</summary>
    private static string Listed(IEnumerable<string?> names)
    {
        string[] known = [.. names.OfType<string>().Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)];
        return known is [.. { Length: > 0 } front, var last] ? $"{string.Join(", ", front)} and {last}" : string.Concat(known);
    }
}
