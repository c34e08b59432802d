namespace KamOtel.Diagnosis;

/// <summary>The half of the fleet that says what crashes, and complaints of the servers' memory managers, mean.</summary>
public sealed partial class Fleet
{
    /// <summary>Crashes whose process has ended and whose call chain is awaited; what comes on top is told without.</summary>
    private const int MaxAwaited = 1024;

    /// <summary>Processes that the kernel told to be dying, and those that have ended of which the call chain is still to come.</summary>
    private readonly Dictionary<ProcessId, PendingCrash> _crashes = [];

    private int _chainsAwaited;

    /// <summary>A server's memory manager complains. Counted always; told to the sink as often as <see cref="ComplaintTelling"/> says.</summary>
    /// <returns>The process is known, or was until a moment ago.</returns>
    public bool Complained(in Observation observation, Complaint complaint)
    {
        ArgumentNullException.ThrowIfNull(complaint);
        Reach(observation.TimeNs);
        _journal?.Take(new ComplainedInput(observation, complaint));
        if (Locate(in observation) is not var (instance, process))
        {
            return false;
        }
        var context = new ComplaintContext(
            instance.RoleOf(process),
            SlotNeighbourhood.Of(complaint.Address, instance.Conclusion?.Shared),
            LastCallOf(instance, process, observation.TimeNs),
            LeftOut: 0);
        Counters target = Target(instance.Context.Target);
        string module = target.AdmitModule(complaint.Module);
        target.CountComplaint(complaint.Kind, module);
        instance.Counters.CountComplaint(complaint.Kind, module);
        instance.Faults.Add(in observation, complaint, in context);
        if (instance.Complaints.Take(in observation, complaint, context) is { } told)
        {
            _sink.Complained(instance.Context, told.Observation, told.Complaint, told.Context, instance.Faults.Snapshot());
        }
        if (complaint.IsDamage)
        {
            Suspect(instance, new Damage(process.Id, context.Role, observation.TimeNs) { Complaint = complaint });
            int known = instance.Damages.Count;
            Prove(instance, observation.TimeNs);
            if (instance.Damages.Count > known)
            {
                Judge(instance);
            }
        }
        return true;
    }

    /// <summary>
    /// No more will come: tells of the crashes whose call chain did not come, and of the complaints that were only counted.
    /// What a replay tells at the end of its recording; not an input.
    /// </summary>
    public void Finish()
    {
        foreach (PendingCrash crash in _crashes.Values.Where(static c => c.EndNs is not null).OrderBy(static c => c.Fatal.TimeNs).ToArray())
        {
            crash.Chain ??= CallChain.Unknown(ChainEnd.Failed, "the agent ended before its stack was unwound");
            Tell(crash);
        }
        foreach (Instance instance in _instances.Values)
        {
            TellComplaintsLeft(instance);
        }
    }

    /// <summary>A process is about to die of a signal: what is known of its crash before it has ended.</summary>
    private void AwaitCrash(Instance instance, TrackedProcess process, in Observation observation)
    {
        // Another of its threads may die of a signal of its own while the first one's core file is written.
        _ = _crashes.TryAdd(process.Id, new PendingCrash(instance, process, observation)
        {
            LastCall = LastCallOf(instance, process, observation.TimeNs),
            InheritedSlots = InheritedSlotsOf(process),
            Chain = observation.HasStack ? null : CallChain.Unknown(ChainEnd.NotCopied, "its stack was not copied"),
        });
    }

    /// <summary>A process has ended: its crash is told, if that is what it was, at once or with its call chain.</summary>
    private void EndCrash(Instance instance, TrackedProcess process, in Observation exit, ProcessRole role)
    {
        bool told = _crashes.TryGetValue(process.Id, out PendingCrash? crash);
        if (!Crash.IsBy(exit.Status))
        {
            _ = _crashes.Remove(process.Id);
            return;
        }
        crash ??= new PendingCrash(instance, process, exit)
        {
            LastCall = LastCallOf(instance, process, exit.TimeNs),
            InheritedSlots = InheritedSlotsOf(process),
            Chain = CallChain.Unknown(ChainEnd.NotCopied, "the kernel did not tell of the signal, so its stack was not copied"),
        };
        crash.Tid = told ? crash.Fatal.Tid : null;
        crash.Signal = exit.Status & 0x7f;
        crash.Role = role;
        crash.EndNs = exit.TimeNs;
        if (crash.Chain is null && _chainsAwaited >= MaxAwaited)
        {
            crash.Chain = CallChain.Unknown(ChainEnd.Failed, $"more than {MaxAwaited} processes crashed at once");
        }
        if (crash.Chain is not null)
        {
            Tell(crash);
        }
        else
        {
            _chainsAwaited++;
        }
    }

    /// <summary>The call chain of a crash, before or after the end of the process.</summary>
    private void ChainOfCrash(in Observation fatal, CallChain chain)
    {
        if (!_crashes.TryGetValue(fatal.Process, out PendingCrash? crash) || crash.Fatal.Tid != fatal.Tid || crash.Fatal.TimeNs != fatal.TimeNs || crash.Chain is not null)
        {
            return; // Of another of its threads, or of a process that did not die of it.
        }
        crash.Chain = chain;
        if (crash.EndNs is not null)
        {
            _chainsAwaited--;
            Tell(crash);
        }
    }

    private void Tell(PendingCrash pending)
    {
        _ = _crashes.Remove(pending.Process.Id);
        Instance instance = pending.Instance;
        var crash = new Crash(pending.Process.Id, pending.Role, pending.Signal, pending.Fatal.TimeNs, pending.EndNs!.Value, pending.Chain!)
        {
            Tid = pending.Tid,
            LastCall = pending.LastCall,
            InheritedSlots = pending.InheritedSlots,
        };
        instance.Faults.Add(crash);
        Counters target = Target(instance.Context.Target);
        string module = target.AdmitModule(crash.Module);
        target.CountCrash(crash.Signal, crash.Role, module);
        instance.Counters.CountCrash(crash.Signal, crash.Role, module);
        _sink.Crashed(instance.Context, crash, instance.Faults.Snapshot());
    }

    /// <summary>At the end: nothing is lost silently.</summary>
    private void TellComplaintsLeft(Instance instance)
    {
        foreach ((Observation observation, Complaint complaint, ComplaintContext context) in instance.Complaints.TakeLeft())
        {
            _sink.Complained(instance.Context, in observation, complaint, in context, instance.Faults.Snapshot());
        }
    }

    private static int InheritedSlotsOf(TrackedProcess process) => process.MainThreadSlots.Values.Count(static s => s is { Inherited: true, IsPointer: true });

    private static LastCall? LastCallOf(Instance instance, TrackedProcess process, ulong timeNs)
    {
        if (process.LastCall is not { } last)
        {
            return null;
        }
        // The keys of OpenSSL 3.6 are numbers of its own.
        bool named = last.Kind is ObservationKind.SetLocal or ObservationKind.CleanupLocal;
        return new LastCall(
            last.Kind,
            last.Key,
            named && last.Key is { } key ? instance.Origins.NameOf(key) : null,
            timeNs > last.TimeNs ? timeNs - last.TimeNs : 0);
    }

    /// <summary>A crash of which not all is known yet. The instance and its process may be gone.</summary>
    /// <param name="instance">The instance.</param>
    /// <param name="process">The process.</param>
    /// <param name="fatal">The fatal signal; where the kernel did not tell of it, the end.</param>
    private sealed class PendingCrash(Instance instance, TrackedProcess process, Observation fatal)
    {
        public Instance Instance { get; } = instance;

        public TrackedProcess Process { get; } = process;

        public Observation Fatal { get; } = fatal;

        public LastCall? LastCall { get; init; }

        public int InheritedSlots { get; init; }

        public int? Tid { get; set; }

        public int Signal { get; set; }

        public ProcessRole Role { get; set; }

        /// <summary>Null while it is to come.</summary>
        public CallChain? Chain { get; set; }

        /// <summary>Null while the process lives.</summary>
        public ulong? EndNs { get; set; }
    }
}
