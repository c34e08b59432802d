using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>One running server.</summary>
internal sealed class Instance(InstanceContext context)
{
    private readonly Dictionary<ProcessId, Process> _processes = [];
    private readonly HashSet<(CoverageGaps, string)> _gapsTold = [];

    public InstanceContext Context { get; set; } = context;

    /// <summary>This instance's share in the counters of its target.</summary>
    public Counters Counters { get; } = new();

    public Process? Root { get; private set; }

    public CoverageGaps Gaps { get; private set; }

    public bool LibrarySeen { get; set; }

    public ulong LibraryGapNs { get; set; }

    public ulong EventsLost { get; set; }

    public ulong LastForkNs { get; set; }

    public ulong? ReadyNs { get; set; }

    public long MainThreadCallsBeforeFork { get; set; }

    /// <summary>Something happened that may change the verdict.</summary>
    public bool Changed { get; set; } = true;

    public Assessment Assessment { get; set; } = new(Verdict.Unknown, "", CoverageGaps.None);

    public IReadOnlyDictionary<ProcessId, Process> Processes => _processes;

    public void Add(Process process)
    {
        _processes[process.Id] = process;
        process.Parent?.Children.Add(process);
        Root ??= process;
        FindRoot();
    }

    /// <summary>The process ended, or left for another program.</summary>
    public void Remove(Process process)
    {
        process.Gone = true;
        process.Ledger.Clear();
        _ = _processes.Remove(process.Id);
        _ = process.Parent?.Children.Remove(process);
        foreach (Process child in process.Children)
        {
            child.Parent = process.Parent;
            process.Parent?.Children.Add(child);
        }
        process.Children.Clear();
        FindRoot();
    }

    public ProcessRole RoleOf(Process process) =>
        ReferenceEquals(process, Root) ? ProcessRole.Root
        : Root is not null && process.IsAbove(Root) ? ProcessRole.Launcher
        : ProcessRole.Worker;

    public CallPhase PhaseOf(Process process) =>
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
        MainThreadCallsBeforeFork = MainThreadCallsBeforeFork,
        LibraryGapNs = LibraryGapNs,
    };

    private static ImmutableArray<SlotSnapshot> Slots(Process process) =>
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
