using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>One running server.</summary>
internal sealed class Instance(InstanceContext context)
{
    private readonly Dictionary<ProcessId, TrackedProcess> _processes = [];
    private readonly HashSet<(CoverageGaps, string)> _gapsTold = [];

    public InstanceContext Context { get; set; } = context;

    /// <summary>This instance's share in the counters of its target.</summary>
    public Counters Counters { get; } = new();

    public TrackedProcess? Root { get; private set; }

    public CoverageGaps Gaps { get; private set; }

    public bool LibrarySeen { get; set; }

    public ulong LibraryGapNs { get; set; }

    public ulong EventsLost { get; set; }

    public ulong LastForkNs { get; set; }

    public ulong? ReadyNs { get; set; }

    /// <summary>Something happened that may change the verdict.</summary>
    public bool Changed { get; set; } = true;

    public Assessment Assessment { get; set; } = new(Verdict.Unknown, "", CoverageGaps.None);

    /// <summary>What the sink was told last.</summary>
    public Assessment? Told { get; set; }

    /// <summary>It ran, and its last worker is gone: what the root tidies up now says nothing of the server as it ran.</summary>
    public bool IsStopping => ReadyNs is not null && _processes.Count == 1;

    public IReadOnlyDictionary<ProcessId, TrackedProcess> Processes => _processes;

    public void Add(TrackedProcess process)
    {
        _processes[process.Id] = process;
        process.Parent?.Children.Add(process);
        Root ??= process;
        FindRoot();
    }

    /// <summary>The process ended, or left for another program.</summary>
    public void Remove(TrackedProcess process)
    {
        process.Gone = true;
        process.Ledger.Clear();
        _ = _processes.Remove(process.Id);
        _ = process.Parent?.Children.Remove(process);
        foreach (TrackedProcess child in process.Children)
        {
            child.Parent = process.Parent;
            process.Parent?.Children.Add(child);
        }
        process.Children.Clear();
        FindRoot();
    }

    public ProcessRole RoleOf(TrackedProcess process) =>
        ReferenceEquals(process, Root) ? ProcessRole.Root
        : Root is not null && process.IsAbove(Root) ? ProcessRole.Launcher
        : ProcessRole.Worker;

    public CallPhase PhaseOf(TrackedProcess process) =>
        !ReferenceEquals(process, Root) || process.Forked > 0 ? CallPhase.AfterFork
        : Context.SinceExec ? CallPhase.BeforeFork
        : process.Children.Count > 0 ? CallPhase.AfterFork : CallPhase.Unknown;

    /// <summary>Notes a gap; true the first time that this gap (of this thing) is seen.</summary>
    public bool AddGap(CoverageGaps gap, string about = "")
    {
        Changed = true;
        Gaps |= gap;
        // As many as libraries in a server; a hostile server does not make it more than this.
        return _gapsTold.Count < 1024 && _gapsTold.Add((gap, about));
    }

    public InstanceSnapshot Snapshot() => new()
    {
        Id = Context.Id,
        Target = Context.Target,
        Program = Context.Program,
        Root = Root?.Id ?? default,
        Processes =
        [
            .. _processes.Values
                .OrderBy(static p => p.Id.StartTicks).ThenBy(static p => p.Id.Tgid)
                .Select(p => new ProcessSnapshot(p.Id, p.ParentId, RoleOf(p), Slots(p), p.Ledger.Count - p.MainThreadSlots.Count)),
        ],
        StartedNs = Context.StartedNs,
        ReadyNs = ReadyNs,
        Verdict = Assessment.Verdict,
        Reason = Assessment.Reason,
        Gaps = Assessment.Gaps,
        MainThreadCallsBeforeFork = Root?.MainThreadCallsBeforeFork ?? 0,
        LibraryGapNs = LibraryGapNs,
    };

    private static ImmutableArray<SlotSnapshot> Slots(TrackedProcess process) =>
    [
        .. process.MainThreadSlots
            .OrderBy(static s => s.Key.Extended).ThenBy(static s => s.Key.Key).ThenBy(static s => s.Key.Context)
            .Select(static s => new SlotSnapshot(s.Key, s.Value.Value, s.Value.Inherited, s.Value.SetNs)),
    ];

    private void FindRoot()
    {
        if (Context.SinceExec)
        {
            Root = Root?.Descend();
        }
        else if (Root is null or { Gone: true } or { Children.Count: 0 })
        {
            // Found running: the oldest process with children is the one that forked them.
            Root = _processes.Values.OrderBy(static p => p.Children.Count == 0).ThenBy(static p => p.Id.StartTicks).ThenBy(static p => p.Id.Tgid).FirstOrDefault() ?? Root;
        }
    }
}
