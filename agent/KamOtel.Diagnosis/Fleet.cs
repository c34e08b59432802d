namespace KamOtel.Diagnosis;

/// <summary>How the fleet behaves.</summary>
public sealed record FleetOptions
{
    /// <summary>Quiet time after the last fork after which an instance counts as ready, in nanoseconds.</summary>
    public ulong SettleNs { get; init; } = 1_000_000_000;

    /// <summary>How long a process that settled is left alone before it is inspected again, in nanoseconds.</summary>
    public ulong InspectEveryNs { get; init; } = 60_000_000_000;

    /// <summary>The most slots that the ledger keeps of one process; more is a coverage gap.</summary>
    public int MaxSlotsPerProcess { get; init; } = 4096;

    /// <summary>The most targets that are counted under their own name; the rest are <c>other</c>.</summary>
    public int MaxTargets { get; init; } = 256;
}

/// <summary>
/// All that is known of the watched servers: observations in, verdicts out. Owned by one thread; has no clock
/// and does no I/O.
/// </summary>
public sealed partial class Fleet
{
    private readonly FleetOptions _options;
    private readonly IFleetSink _sink;
    private readonly IFleetJournal? _journal;
    private readonly Dictionary<InstanceId, Instance> _instances = [];
    private readonly Dictionary<ProcessId, (Instance Instance, TrackedProcess Process)> _processes = [];
    private readonly Dictionary<string, Counters> _targets = new(StringComparer.Ordinal);

    /// <summary>Instances that ended before all was known of who made their calls, and of how many calls it is not.</summary>
    private readonly Dictionary<InstanceId, (InstanceContext Context, int Chains)> _owed = [];

    /// <summary>The latest boot time of all inputs: what the fleet concludes, it concludes then.</summary>
    private ulong _nowNs;

    /// <summary>
    /// An empty fleet that tells <paramref name="sink"/> what it concludes, and <paramref name="journal"/>, if there is one,
    /// what it concludes that from.
    /// </summary>
    public Fleet(FleetOptions options, IFleetSink sink, IFleetJournal? journal = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(sink);
        _options = options;
        _sink = sink;
        _journal = journal;
    }

    /// <summary>Takes what entered another fleet. The same in the same order makes both say the same.</summary>
    public void Take(FleetInput input)
    {
        ArgumentNullException.ThrowIfNull(input);
        input.ApplyTo(this);
    }

    /// <summary>Takes one observation. Never throws, whatever the order in which observations come.</summary>
    /// <param name="observation">What was observed.</param>
    /// <param name="target">
    /// What the server is called outside, where the observation is the first of an instance and the agent knows; else the
    /// name of the task is taken.
    /// </param>
    /// <param name="container">The container that the server runs in, where it runs in one.</param>
    public void Observe(in Observation observation, string? target = null, Container? container = null)
    {
        Reach(observation.TimeNs);
        _journal?.Take(new ObservedInput(observation, target, container));
        switch (observation.Kind)
        {
            case ObservationKind.Exec:
                Exec(in observation, target, container);
                break;
            case ObservationKind.Seeded:
                Seed(in observation, target, container);
                break;
            case ObservationKind.Fork:
                Fork(in observation);
                break;
            case ObservationKind.Exit:
                Exit(in observation);
                break;
            default:
                if (observation.IsCall)
                {
                    Call(in observation);
                }
                break;
        }
    }

    /// <summary>
    /// Gives an instance its outside name when the agent learns it late; counters made so far move along.
    /// </summary>
    public void Name(InstanceId instance, string target)
    {
        _journal?.Take(new NamedInput(instance, target));
        if (!_instances.TryGetValue(instance, out Instance? known))
        {
            return;
        }
        Counters before = Target(known.Context.Target);
        before.Add(known.Counters, -1);
        if (before.IsEmpty && _instances.Values.All(i => ReferenceEquals(i, known) || i.Context.Target != known.Context.Target))
        {
            _ = _targets.Remove(known.Context.Target);
        }
        target = Admit(target);
        known.Context = known.Context with { Target = target };
        known.Counters.Rename(Target(target));
        Target(target).Add(known.Counters, 1);
    }

    /// <summary>
    /// A process mapped a libcrypto. <paramref name="probedNs"/> is the boot time since which its probes are attached:
    /// before <paramref name="mappedNs"/> when they were there already, later when calls may have been missed, null when
    /// it could not be probed. A <paramref name="mappedNs"/> of 0 says that nobody knows when it was mapped.
    /// </summary>
    /// <returns>It made a gap that the server did not have before.</returns>
    public bool LibraryMapped(ProcessId process, string library, ulong mappedNs, ulong? probedNs)
    {
        _journal?.Take(new LibraryMappedInput(process, library, mappedNs, probedNs));
        if (!_processes.TryGetValue(process, out (Instance Instance, TrackedProcess) found))
        {
            return false;
        }
        Instance instance = found.Instance;
        instance.LibrarySeen = true;
        instance.Changed = true;
        if (probedNs is null)
        {
            return AddGap(instance, CoverageGaps.ProbeFailed, library, $"{library} could not be probed", mappedNs);
        }
        if (mappedNs != 0 && probedNs > mappedNs)
        {
            ulong gap = probedNs.Value - mappedNs;
            instance.LibraryGapNs = Math.Max(instance.LibraryGapNs, gap);
            return AddGap(instance, CoverageGaps.LibraryLate, library, $"{library} ran {gap / 1e6:0.0} ms before its probes were attached", probedNs.Value);
        }
        return false;
    }

    /// <summary>
    /// Who made a call that was observed with <see cref="Observation.HasStack"/>, or crashed where the fatal signal was; told
    /// once for each of those, whatever came of its stack, and also when the instance has ended since.
    /// </summary>
    public void Attributed(in Observation call, CallChain chain)
    {
        ArgumentNullException.ThrowIfNull(chain);
        _journal?.Take(new AttributedInput(call, chain));
        if (call.Kind == ObservationKind.FatalSignal)
        {
            ChainOfCrash(in call, chain);
            return;
        }
        InstanceContext context;
        if (_instances.TryGetValue(call.Instance, out Instance? instance))
        {
            context = instance.Context;
            instance.ChainsOwed--;
            instance.Counters.CountChain(chain.Author is not null);
            instance.Changed = true;
            if (instance.Find(call.Process) is { } process)
            {
                instance.Origins.Add(process, in call, chain);
            }
        }
        else if (_owed.TryGetValue(call.Instance, out (InstanceContext Context, int Chains) ended))
        {
            context = ended.Context;
            Owe(context, ended.Chains - 1);
        }
        else
        {
            return;
        }
        Target(context.Target).CountChain(chain.Author is not null);
        _sink.Attributed(context, in call, chain);
    }

    /// <summary>A process reached a step of its start. <paramref name="module"/> is the module that it initialises, if that is the step.</summary>
    public void Entered(in Observation observation, StartStep step, string? module)
    {
        Reach(observation.TimeNs);
        _journal?.Take(new EnteredInput(observation, step, module));
        if (Locate(in observation) is var (instance, _))
        {
            _sink.Entered(instance.Context, in observation, step, module);
        }
    }

    /// <summary>The kernel side dropped <paramref name="count"/> events: nobody knows whose.</summary>
    public void EventsLost(ulong count, ulong timeNs)
    {
        if (count == 0)
        {
            return;
        }
        Reach(timeNs);
        _journal?.Take(new EventsLostInput(count, timeNs));
        foreach (Instance instance in _instances.Values)
        {
            instance.EventsLost += count;
            Want(instance, timeNs);
            _ = AddGap(instance, CoverageGaps.EventsLost, "", $"{count} events were lost, nobody knows whose", timeNs);
        }
    }

    /// <summary>Time passes: settles instances and judges what changed. Returns the boot time when it wants to be called again, or null.</summary>
    public ulong? Advance(ulong nowNs)
    {
        if (IsDue(nowNs))
        {
            Reach(nowNs);
            _journal?.Take(new AdvancedInput(nowNs));
        }
        ulong? next = null;
        foreach (Instance instance in _instances.Values)
        {
            if (instance is { ReadyNs: null, LastForkNs: > 0 } && IsForking(instance))
            {
                ulong due = ReadyAtNs(instance);
                if (due <= nowNs)
                {
                    instance.ReadyNs = instance.LastForkNs;
                    instance.Changed = true;
                    Judge(instance, ready: true);
                    _sink.Ready(instance.Context, instance.Snapshot());
                }
                else
                {
                    next = next is { } n ? Math.Min(n, due) : due;
                }
            }
            if (instance.Changed)
            {
                Judge(instance);
            }
        }
        return next;
    }

    /// <summary>The fleet as it is now.</summary>
    public FleetSnapshot Snapshot(ulong nowNs)
    {
        JudgeChanged(nowNs);
        return new FleetSnapshot(
            nowNs,
            [.. _instances.Values.OrderBy(static i => i.Context.StartedNs).ThenBy(static i => i.Context.Id.Tgid).Select(static i => i.Snapshot())],
            [.. _targets.OrderBy(static t => t.Key, StringComparer.Ordinal).Select(static t => t.Value.Snapshot(t.Key))]);
    }

    /// <summary>How many processes live.</summary>
    public int ProcessCount => _processes.Count;

    /// <summary>The latest boot time of all that entered, in nanoseconds.</summary>
    public ulong NowNs => _nowNs;

    /// <summary>Judges the servers that changed, as <see cref="Snapshot"/> does before it is taken.</summary>
    internal void JudgeChanged(ulong nowNs)
    {
        bool told = false;
        foreach (Instance instance in _instances.Values)
        {
            if (!instance.Changed)
            {
                continue;
            }
            if (!told)
            {
                told = true;
                Reach(nowNs);
                _journal?.Take(new JudgedInput(nowNs));
            }
            Judge(instance);
        }
    }

    /// <summary>It is so late now, if it was not later already: what several processors tell comes a little out of order.</summary>
    private void Reach(ulong timeNs) => _nowNs = Math.Max(_nowNs, timeNs);

    /// <summary>Time will change something: a server is to be judged, or it is ready now.</summary>
    private bool IsDue(ulong nowNs)
    {
        foreach (Instance instance in _instances.Values)
        {
            if (instance.Changed || (instance is { ReadyNs: null, LastForkNs: > 0 } && IsForking(instance) && ReadyAtNs(instance) <= nowNs))
            {
                return true;
            }
        }
        return false;
    }

    /// <summary>Its workers' inspection, when that is due within the same ticks, comes first: so it is ready with its verdict.</summary>
    private ulong ReadyAtNs(Instance instance)
    {
        ulong due = instance.LastForkNs + _options.SettleNs;
        return instance.Settling is { LastNs: var settled } && settled > due && settled <= due + (2 * ProcessId.NanosecondsPerTick) ? settled : due;
    }

    /// <summary>There is a worker: without one a server is not ready, however many there were.</summary>
    private static bool IsForking(Instance instance) => instance.Root is { Children.Count: > 0 };

    private void Exec(in Observation observation, string? target, Container? container)
    {
        if (_processes.TryGetValue(observation.Process, out (Instance Instance, TrackedProcess Process) before))
        {
            if (observation.Watched && before.Instance.Context.Id == observation.Instance)
            {
                return;
            }
            before.Process.Parent?.Disown(before.Process);
            Leave(before.Instance, before.Process, in observation);
        }
        if (!observation.Watched || observation.Instance == default || _instances.ContainsKey(observation.Instance))
        {
            return;
        }
        Instance instance = Found(in observation, target, container, sinceExec: true, observation.TimeNs);
        Join(instance, new TrackedProcess(observation.Process, parentId: null, parent: null, new Ledger()));
        instance.Counters.Execs++;
        Target(instance.Context.Target).Execs++;
    }

    private void Seed(in Observation observation, string? target, Container? container)
    {
        if (observation.Instance == default || _processes.ContainsKey(observation.Process))
        {
            return;
        }
        if (!_instances.TryGetValue(observation.Instance, out Instance? instance))
        {
            instance = Found(in observation, target, container, sinceExec: false, observation.Instance.SinceNs);
            _ = instance.AddGap(CoverageGaps.StartedBefore);
        }
        TrackedProcess? parent = ParentIn(instance, observation.Other);
        Join(instance, new TrackedProcess(observation.Process, parent?.Id, parent, new Ledger()));
        Want(instance, observation.TimeNs);
        // It runs, and its workers may have been there for months: there is nothing to wait for.
        if (instance.ReadyNs is null && instance.Processes.Count > 1)
        {
            instance.ReadyNs = observation.TimeNs;
        }
    }

    private void Fork(in Observation observation)
    {
        if (Locate(in observation) is not var (instance, parent) || observation.Other == default || _processes.ContainsKey(observation.Other))
        {
            return;
        }
        Ledger ledger = parent.Ledger.Fork(observation.Tid, observation.Other.Tgid);
        var child = new TrackedProcess(observation.Other, parent.Id, parent, ledger) { MainThreadCallsBeforeFork = parent.MainThreadCallsBeforeFork };
        parent.Forked++;
        parent.FirstForkNs ??= observation.TimeNs;
        parent.OnlyChild = parent.Forked == 1 ? child : null;
        Join(instance, child);
        instance.LastForkNs = Math.Max(instance.LastForkNs, observation.TimeNs);
        AwaitSettled(instance, child);
        if (parent.Forked == 1)
        {
            // At once at the first fork: a server may not live until its workers have settled.
            Want(instance, observation.TimeNs);
        }
        instance.Counters.Forks++;
        Target(instance.Context.Target).Forks++;
        _sink.Forked(instance.Context, in observation, instance.RoleAtFork(parent, child));
    }

    private void Exit(in Observation observation)
    {
        if (!_processes.TryGetValue(observation.Process, out (Instance Instance, TrackedProcess Process) found))
        {
            return;
        }
        (Instance instance, TrackedProcess process) = found;
        if (!observation.LastThread)
        {
            process.Ledger.RemoveThread(observation.Tid);
            instance.Changed = true;
            return;
        }
        ExitKind kind = (observation.Status & 0x7f) != 0 ? ExitKind.Signal : observation.Status != 0 ? ExitKind.Error : ExitKind.Clean;
        instance.Counters.CountExit(kind);
        Target(instance.Context.Target).CountExit(kind);
        ProcessRole role = instance.RoleAtEnd(process, observation.Status);
        _sink.Exited(instance.Context, in observation, role);
        // The kernel side may not have seen the signal itself.
        if (Suspect(instance, process, in observation))
        {
            Prove(instance, observation.TimeNs);
            Want(instance, observation.TimeNs);
        }
        EndCrash(instance, process, in observation, role);
        Leave(instance, process, in observation);
    }

    private void Call(in Observation observation)
    {
        if (Locate(in observation) is not var (instance, process))
        {
            return;
        }
        bool sets = observation.Kind is ObservationKind.SetLocal or ObservationKind.SetLocalEx;
        SlotValueKind value = sets ? SlotValue.KindOf(observation.Value) : SlotValueKind.None;
        process.LastCall = (observation.Kind, observation.Key, observation.TimeNs);
        CallPhase phase = instance.PhaseOf(process);
        ProcessRole role = instance.RoleOf(process);
        bool replacesInherited = false;
        switch (observation.Kind)
        {
            case ObservationKind.SetLocal or ObservationKind.SetLocalEx when observation.Key is { } key:
                bool extended = observation.Kind == ObservationKind.SetLocalEx;
                var slot = new SlotKey(key, extended ? observation.KeyAddress : 0, extended);
                if (!process.Ledger.Set(observation.Tid, slot, observation.Value, observation.TimeNs, _options.MaxSlotsPerProcess, out replacesInherited))
                {
                    _ = AddGap(instance, CoverageGaps.LedgerFull, "", $"process {process.Id} has more than {_options.MaxSlotsPerProcess} slots", observation.TimeNs);
                }
                break;
            case ObservationKind.CleanupLocal when observation.Key is { } key:
                process.Ledger.RemoveKey(key);
                break;
            case ObservationKind.CleanLocal:
                process.Ledger.RemoveExtended(observation.Tid);
                break;
            case ObservationKind.InitLocal:
                break;
            default:
                _ = AddGap(instance, CoverageGaps.KeyUnread, "", $"a key at 0x{observation.KeyAddress:x} in process {process.Id} could not be read", observation.TimeNs);
                break;
        }
        if (instance.Context.SinceExec && process.Forked == 0 && observation.MainThread && value is SlotValueKind.Pointer or SlotValueKind.Sentinel)
        {
            process.MainThreadCallsBeforeFork++;
        }
        instance.ChainsOwed += observation.HasStack ? 1 : 0;
        instance.Changed |= observation.MainThread;
        if (instance.Conclusion is not null && role == ProcessRole.Root && observation.MainThread && !instance.IsStopping)
        {
            // What was concluded may no longer be so, and what it sets now the next worker inherits.
            Want(instance, observation.TimeNs);
        }
        instance.Counters.CountCall(observation.Kind, observation.MainThread, phase, value);
        Target(instance.Context.Target).CountCall(observation.Kind, observation.MainThread, phase, value);
        _sink.Call(instance.Context, in observation, new CallContext(role, phase, value, replacesInherited));
    }

    /// <summary>The process of an event; made when its fork was missed. Null when nobody can know whose it is.</summary>
    private (Instance, TrackedProcess)? Locate(in Observation observation)
    {
        if (_processes.TryGetValue(observation.Process, out (Instance, TrackedProcess) found))
        {
            return found;
        }
        if (observation.Instance == default || observation.Process == default)
        {
            return null;
        }
        if (!_instances.TryGetValue(observation.Instance, out Instance? instance))
        {
            instance = Found(in observation, target: null, container: null, sinceExec: false, observation.Instance.SinceNs);
        }
        var process = new TrackedProcess(observation.Process, parentId: null, parent: null, new Ledger());
        Join(instance, process);
        _ = AddGap(instance, CoverageGaps.ForkMissed, "", $"process {process.Id} appeared without its fork having been seen", observation.TimeNs);
        return (instance, process);
    }

    private Instance Found(in Observation observation, string? target, Container? container, bool sinceExec, ulong startedNs)
    {
        string program = observation.Name == default ? "unknown" : observation.Name.ToString();
        var instance = new Instance(new InstanceContext(observation.Instance, Admit(target ?? program), program, sinceExec, startedNs) { Container = container });
        _instances[observation.Instance] = instance;
        _sink.InstanceFound(instance.Context, in observation);
        return instance;
    }

    private void Join(Instance instance, TrackedProcess process)
    {
        instance.Add(process);
        instance.Changed = true;
        _processes[process.Id] = (instance, process);
    }

    private void Leave(Instance instance, TrackedProcess process, in Observation observation)
    {
        if (instance.Processes.Count == 1)
        {
            Judge(instance); // While there still is something to judge.
        }
        instance.Remove(process);
        instance.Changed = true;
        _ = _processes.Remove(process.Id);
        if (_crashes.TryGetValue(process.Id, out PendingCrash? crash) && crash.EndNs is null)
        {
            _ = _crashes.Remove(process.Id); // It left for another program.
        }
        if (instance.Processes.Count == 0)
        {
            TellComplaintsLeft(instance);
            _ = _instances.Remove(instance.Context.Id);
            Owe(instance.Context, instance.ChainsOwed);
            _sink.InstanceEnded(instance.Context, in observation);
        }
    }

    private void Owe(InstanceContext instance, int chains)
    {
        const int Most = 1024;
        _ = _owed.Remove(instance.Id);
        if (chains > 0 && _owed.Count < Most)
        {
            _owed[instance.Id] = (instance, chains);
        }
    }

    private static TrackedProcess? ParentIn(Instance instance, ProcessId parent) =>
        instance.Processes.TryGetValue(parent, out TrackedProcess? process) ? process : null;

    /// <summary>
    /// Judges anew, and tells it when verdict or coverage changed. A reason alone moves with every fork: the snapshot has
    /// the newest, and it is told once, when the server is ready.
    /// </summary>
    private void Judge(Instance instance, bool ready = false)
    {
        instance.Changed = false;
        if (instance is { IsStopping: true, Told: { } before } && (instance.Damages.Count == 0 || before.Verdict == Verdict.Corrupted))
        {
            return;
        }
        Assessment assessment = Assessment.Of(instance);
        Assessment? told = instance.Told;
        instance.Assessment = assessment;
        if (told is not { } last || last.Verdict != assessment.Verdict || last.Gaps != assessment.Gaps || (ready && last.Reason != assessment.Reason))
        {
            instance.Told = assessment;
            if (told?.Verdict != assessment.Verdict)
            {
                instance.Counters.CountVerdict(assessment.Verdict);
                Target(instance.Context.Target).CountVerdict(assessment.Verdict);
            }
            _sink.VerdictChanged(instance.Context, instance.Snapshot(), told?.Verdict ?? Verdict.Unknown, _nowNs);
        }
    }

    /// <summary>True the first time.</summary>
    private bool AddGap(Instance instance, CoverageGaps gap, string about, string detail, ulong timeNs)
    {
        if (!instance.AddGap(gap, about))
        {
            return false;
        }
        _sink.GapFound(instance.Context, gap, detail, timeNs);
        return true;
    }

    /// <summary>The target's own name, or <c>other</c> when there are too many.</summary>
    private string Admit(string target) =>
        _targets.ContainsKey(target) || _targets.Count < _options.MaxTargets ? target : "other";

    private Counters Target(string target)
    {
        if (!_targets.TryGetValue(target, out Counters? counters))
        {
            counters = new Counters();
            _targets[target] = counters;
        }
        return counters;
    }
}
