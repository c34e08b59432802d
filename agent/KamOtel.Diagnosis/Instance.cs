using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>One running server.</summary>
internal sealed class Instance(InstanceContext context)
{
    private readonly Dictionary<ProcessId, TrackedProcess> _processes = [];
    private readonly HashSet<(CoverageGaps, string)> _gapsTold = [];
    private TrackedProcess? _first;

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

    public ServerFacts Facts { get; set; } = ServerFacts.Unknown;

    /// <summary>When to inspect next, in nanoseconds of boot time; null when nothing asks for it.</summary>
    public ulong? InspectAtNs { get; set; }

    /// <summary>When processes that are young now will have settled: the first of them, and the last that is waited for.</summary>
    public (ulong FirstNs, ulong LastNs)? Settling { get; set; }

    /// <summary>The earlier of both.</summary>
    public ulong? NextInspectionNs => Settling is { LastNs: var settled } && !(settled > InspectAtNs) ? settled : InspectAtNs;

    /// <summary>When it was inspected last, in nanoseconds of boot time; 0 when never.</summary>
    public ulong InspectedNs { get; set; }

    /// <summary>What inspections say; null until one could tell.</summary>
    public Conclusion? Conclusion { get; set; }

    /// <summary>What the dying held, of the last moments.</summary>
    public List<ProcessInspection> Dead { get; } = [];

    /// <summary>Deaths and complaints of the last moments that are damage if the server has a shared slot, the oldest first.</summary>
    public List<Damage> Suspects { get; } = [];

    /// <summary>Damage, with a shared slot: the first complaint and the first death, in the order in which they were proven.</summary>
    public List<Damage> Damages { get; } = [];

    /// <summary>All crashes and complaints, whatever they mean.</summary>
    public Faults Faults { get; } = new();

    /// <summary>Which complaints were told.</summary>
    public ComplaintTelling Complaints { get; } = new();

    /// <summary>Calls that came with a stack and of which it is not known yet who made them.</summary>
    public int ChainsOwed { get; set; }

    /// <summary>Who set what.</summary>
    public SlotOrigins Origins { get; } = new();

    /// <summary>How often processes used what they share, while that was watched.</summary>
    public ImmutableArray<SharedUse> Uses { get; set; } = [];

    /// <summary>It had workers, and the last one is gone: what the root tidies up now says nothing of the server as it ran.</summary>
    public bool IsStopping => _processes.Count == 1 && (ReadyNs is not null || Root is { Forked: > 0 });

    public IReadOnlyDictionary<ProcessId, TrackedProcess> Processes => _processes;

    public void Add(TrackedProcess process)
    {
        _first ??= process;
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

    /// <summary>Null while the only child of a would-be launcher may still become root, or launcher.</summary>
    public ProcessRole? RoleAtFork(TrackedProcess parent, TrackedProcess child) =>
        Context.SinceExec && parent.Forked == 1 && LeadsToRoot(parent) ? null : RoleOf(child);

    /// <summary>Who ends in order and leaves its only child behind was a launcher, though nobody could know it before.</summary>
    public ProcessRole RoleAtEnd(TrackedProcess process, int status) =>
        Context.SinceExec && status == 0 && process is { Forked: 1, OnlyChild: { } child } && (!child.Gone || child.Forked == 1) && LeadsToRoot(process)
            ? ProcessRole.Launcher : RoleOf(process);

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

    /// <summary>The successful inspections of the processes that are there, root's first.</summary>
    public IEnumerable<ProcessInspection> Inspections(Func<TrackedProcess, bool> which) =>
        ByAge().Where(which).Select(static p => p.Inspection).OfType<ProcessInspection>().Where(static i => i.Status == InspectionStatus.Inspected);

    public InspectionRequest Request() => new(Context.Id, Root?.Id ?? default, [.. ByAge().Select(static p => p.Id)]);

    public InstanceSnapshot Snapshot() => new()
    {
        Id = Context.Id,
        Target = Context.Target,
        Container = Context.Container,
        Program = Context.Program,
        Root = Root?.Id ?? default,
        Processes =
        [
            .. _processes.Values
                .OrderBy(static p => p.Id.StartTicks).ThenBy(static p => p.Id.Tgid)
                .Select(p => new ProcessSnapshot(p.Id, p.ParentId, RoleOf(p), Slots(p), p.Ledger.Count - p.MainThreadSlots.Count)
                {
                    Inspection = p.Inspection?.Status,
                    Settled = p.Settled,
                    Holding = HoldingOf(p),
                }),
        ],
        StartedNs = Context.StartedNs,
        ReadyNs = ReadyNs,
        Verdict = Assessment.Verdict,
        Reason = Assessment.Reason,
        Gaps = Assessment.Gaps,
        MainThreadCallsBeforeFork = Root?.MainThreadCallsBeforeFork ?? 0,
        LibraryGapNs = LibraryGapNs,
        SinceExec = Context.SinceExec,
        Facts = Facts,
        InspectedNs = InspectedNs == 0 ? null : InspectedNs,
        IsConcluded = Conclusion is not null,
        SharedSlots = SharedSlots(),
        SharedUses = Uses,
        Damage = Damages.Count > 0 ? Damages[0] : null,
        Faults = Faults.Snapshot(),
    };

    /// <summary>A process that lives, or a launcher that the root has come from.</summary>
    public TrackedProcess? Find(ProcessId id)
    {
        if (_processes.TryGetValue(id, out TrackedProcess? living))
        {
            return living;
        }
        return AboveWorkers().FirstOrDefault(p => p.Id == id);
    }

    /// <summary>The root and the launchers above it, though they are gone.</summary>
    private IEnumerable<TrackedProcess> AboveWorkers()
    {
        for (TrackedProcess? at = _first; at is not null; at = at.OnlyChild)
        {
            yield return at;
            if (ReferenceEquals(at, Root))
            {
                break;
            }
        }
    }

    /// <summary>What processes share, with what is known of its making.</summary>
    public ImmutableArray<SharedSlot> SharedSlots() =>
        Conclusion is not { } conclusion ? []
        : [.. conclusion.Shared.Select(s => s with { Name = Origins.NameOf(s.Key), Origin = Origins.Of(s.Key, s.Value, p => AboveWorkers().Contains(p)) })];

    private IEnumerable<TrackedProcess> ByAge() =>
        _processes.Values.OrderBy(p => !ReferenceEquals(p, Root)).ThenBy(static p => p.Id.StartTicks).ThenBy(static p => p.Id.Tgid);

    private Holding HoldingOf(TrackedProcess process) =>
        process.Inspection is not { Status: InspectionStatus.Inspected } inspection ? Holding.Unknown
        : Conclusion is { } conclusion && conclusion.Shared.Any(s => s.Holders.Contains(process.Id)) ? Holding.Shared
        : inspection.MainThreadSlots.Any(inspection.IsOpenSsl) ? Holding.Own : Holding.Nothing;

    private ImmutableArray<SlotSnapshot> Slots(TrackedProcess process) =>
    [
        .. process.MainThreadSlots
            .OrderBy(static s => s.Key.Extended).ThenBy(static s => s.Key.Key).ThenBy(static s => s.Key.Context)
            // The keys of OpenSSL 3.6 are numbers of its own.
            .Select(s => new SlotSnapshot(s.Key, s.Value.Value, s.Value.Inherited, s.Value.SetNs) { Name = s.Key.Extended ? null : Origins.NameOf(s.Key.Key) }),
    ];

    /// <summary>It is the root, or the root would move down to it if those above it ended.</summary>
    private bool LeadsToRoot(TrackedProcess process)
    {
        TrackedProcess? at = Root;
        while (at is { Forked: 1, OnlyChild: { } child } && !ReferenceEquals(at, process))
        {
            at = child;
        }
        return ReferenceEquals(at, process);
    }

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

/// <summary>What inspections say of an instance.</summary>
/// <param name="Shared">The slots that processes share.</param>
/// <param name="TimeNs">Boot time of the inspection in nanoseconds.</param>
internal sealed record Conclusion(ImmutableArray<SharedSlot> Shared, ulong TimeNs);
