using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>The half of the fleet that decides when to look into live processes, and takes what was found there.</summary>
public sealed partial class Fleet
{
    /// <summary>However busily a server forks, its inspections are at least so far apart, in nanoseconds.</summary>
    private const ulong MinInspectionGapNs = 100_000_000;

    private const int SigAbrt = 6;
    private const int SigSegv = 11;

    /// <summary>Boot time in nanoseconds when the next inspection is due; null when none is.</summary>
    public ulong? NextInspectionNs
    {
        get
        {
            ulong? next = null;
            foreach (Instance instance in _instances.Values)
            {
                next = instance.NextInspectionNs is { } at && !(at > next) ? at : next;
            }
            return next;
        }
    }

    /// <summary>Takes the inspections that are due; each is followed by a call of <see cref="Inspected"/>.</summary>
    public IReadOnlyList<InspectionRequest> TakeDueInspections(ulong nowNs)
    {
        if (NextInspectionNs is not { } next || next > nowNs)
        {
            return [];
        }
        Reach(nowNs);
        _journal?.Take(new InspectionsTakenInput(nowNs));
        var due = new List<InspectionRequest>();
        foreach (Instance instance in _instances.Values)
        {
            if (instance.NextInspectionNs <= nowNs)
            {
                instance.InspectAtNs = null;
                instance.Settling = null;
                due.Add(instance.Request());
            }
        }
        return due;
    }

    /// <summary>
    /// What inspection found in an instance's processes. It is the truth: it decides the verdict, and mends the ledger
    /// where events were missed. Observations that were made before it must have been told before it.
    /// </summary>
    /// <param name="id">The instance; one that ended meanwhile is ignored.</param>
    /// <param name="found">One inspection a process; processes that are not of the instance are ignored.</param>
    /// <param name="facts">What the server is made of, when it was read.</param>
    /// <param name="doneNs">Boot time when all was read, in nanoseconds; 0 for the time of the last of <paramref name="found"/>.</param>
    public void Inspected(InstanceId id, IReadOnlyCollection<ProcessInspection> found, ServerFacts? facts = null, ulong doneNs = 0)
    {
        ArgumentNullException.ThrowIfNull(found);
        Reach(doneNs);
        _journal?.Take(new InspectedInput(id, [.. found], facts, doneNs));
        if (!_instances.TryGetValue(id, out Instance? instance))
        {
            return;
        }
        ulong time = 0;
        var vanished = new List<TrackedProcess>();
        foreach (ProcessInspection inspection in found)
        {
            if (!instance.Processes.TryGetValue(inspection.Process, out TrackedProcess? process))
            {
                continue;
            }
            time = Math.Max(time, inspection.TimeNs);
            if (inspection.Status == InspectionStatus.Gone && process.Inspection is { Status: InspectionStatus.Gone } before && before.TimeNs < inspection.TimeNs)
            {
                vanished.Add(process);
                continue;
            }
            process.Inspection = inspection;
            // The first process of an instance inherited nothing.
            process.Settled = (process.Id.Tgid == id.Tgid && process.Parent is null) || process.IsSettled(inspection.TimeNs, _options.SettleNs);
            if (inspection.Status == InspectionStatus.Inspected)
            {
                Mend(process, inspection);
            }
        }
        Reach(time);
        foreach (TrackedProcess process in vanished)
        {
            // Its exit was never told, twice: the event was lost.
            var exit = new Observation { Kind = ObservationKind.Exit, TimeNs = time, Process = process.Id, Tid = process.Id.Tgid, LastThread = true };
            Leave(instance, process, in exit);
        }
        if (instance.Processes.Count == 0)
        {
            return;
        }
        instance.Facts = facts ?? instance.Facts;
        instance.InspectedNs = Math.Max(instance.InspectedNs, time);
        instance.Changed = true;
        // What did damage was there, whatever is there now.
        if (instance.Damage is null && CanConclude(instance))
        {
            Conclude(instance, time);
        }
        Prove(instance, time);
        Plan(instance, time);
        Judge(instance);
    }

    /// <summary>
    /// A process is about to die of a signal. <paramref name="copy"/> is what its Thread#1 held at that moment, as far as
    /// the kernel could copy it.
    /// </summary>
    public void Dying(in Observation observation, ProcessInspection copy)
    {
        ArgumentNullException.ThrowIfNull(copy);
        Reach(observation.TimeNs);
        _journal?.Take(new DyingInput(observation, copy));
        if (Locate(in observation) is not var (instance, process))
        {
            return;
        }
        instance.Dead.Add(copy);
        instance.ChainsOwed += observation.HasStack ? 1 : 0;
        _ = Suspect(instance, process, in observation);
        // The others, while they still are there to be read.
        Want(instance, observation.TimeNs);
        Prove(instance, observation.TimeNs);
        Judge(instance);
    }

    /// <summary>
    /// How often processes used what they share, while that was watched for <paramref name="windowNs"/> nanoseconds, until
    /// <paramref name="timeNs"/>.
    /// </summary>
    public void Confirmed(InstanceId id, ImmutableArray<SharedUse> uses, ulong windowNs, ulong timeNs)
    {
        Reach(timeNs);
        _journal?.Take(new ConfirmedInput(id, uses, windowNs, timeNs));
        if (_instances.TryGetValue(id, out Instance? instance))
        {
            instance.Uses = uses;
            instance.Changed = true;
            Judge(instance);
            Target(instance.Context.Target).SharedUses += uses.Sum(static u => u.Count);
            instance.Counters.SharedUses += uses.Sum(static u => u.Count);
            _sink.Confirmed(instance.Context, instance.Snapshot(), windowNs, _nowNs);
        }
    }

    /// <summary>Notes a death that is damage if the server has a shared slot; false when it is none in any case.</summary>
    private static bool Suspect(Instance instance, TrackedProcess process, in Observation observation)
    {
        int signal = observation.Status & 0x7f;
        if (signal is not (SigSegv or SigAbrt))
        {
            return false;
        }
        instance.Suspect ??= new Damage(process.Id, instance.RoleOf(process), signal, observation.TimeNs);
        return true;
    }

    /// <summary>The ledger takes over what really is there.</summary>
    private static void Mend(TrackedProcess process, ProcessInspection inspection)
    {
        IReadOnlyDictionary<SlotKey, Slot>? parent = process.Parent?.MainThreadSlots;
        process.Ledger.Mend(
            process.Id.Tgid,
            inspection.MainThreadSlots
                .Where(s => inspection.IsOpenSsl(s) || (s.Value == SlotValue.Sentinel && s.Owner != SlotOwner.Other && inspection.MapsLibcrypto))
                .Select(static s => (new SlotKey(s.Key, Context: 0, Extended: false), s.Value)),
            inspection.TimeNs,
            (key, value) => parent is not null && parent.TryGetValue(key, out Slot slot) && slot.Value == value);
    }

    /// <summary>
    /// Until a worker had the time to give up what it inherited (in an at-fork handler, or when its modules are
    /// initialised) nobody knows whether it will: a pointer that it still has proves nothing, and the conclusion of before
    /// stays. Nor can anything be said of a server that is only about to fork its workers.
    /// </summary>
    private static bool CanConclude(Instance instance)
    {
        if (!SharedSlots.Of(instance.Inspections(static p => p.Settled)).IsEmpty)
        {
            return true;
        }
        if (!SharedSlots.Of(instance.Inspections(static _ => true)).IsEmpty)
        {
            return false;
        }
        return instance.Conclusion is not null || instance.Processes.Values.Any(p => p.Settled && instance.RoleOf(p) == ProcessRole.Worker);
    }

    private static void Conclude(Instance instance, ulong time)
    {
        ImmutableArray<SharedSlot> shared = SharedSlots.Of(instance.Inspections(static p => p.Settled));
        ImmutableArray<SharedSlot> before = instance.Conclusion?.Shared ?? [];
        instance.Conclusion = new Conclusion(
            [.. shared.Select(s => before.FirstOrDefault(b => b.Key == s.Key && b.Value == s.Value) is { } known ? s with { SinceNs = known.SinceNs } : s)],
            time);
    }

    /// <summary>Damage counts when the server has a shared slot: known before, or held at the moment of death.</summary>
    private void Prove(Instance instance, ulong time)
    {
        ulong longAgo = 2 * _options.SettleNs;
        _ = instance.Dead.RemoveAll(d => d.TimeNs + longAgo < time);
        if (instance.Damage is not null || instance.Suspect is not { } suspect)
        {
            return;
        }
        if (suspect.TimeNs + longAgo < time)
        {
            // It had nothing to do with what may come later.
            instance.Suspect = null;
            return;
        }
        ImmutableArray<SharedSlot> shared = instance.Conclusion?.Shared ?? [];
        if (shared.IsEmpty)
        {
            // Between the dead and whoever was seen with the same pointer, however young: they did not give it up in time.
            var dead = instance.Dead.Select(static d => d.Process).ToHashSet();
            shared =
            [
                .. SharedSlots.Of(instance.Inspections(p => !dead.Contains(p.Id)).Concat(instance.Dead)).Where(s => s.Holders.Any(dead.Contains)),
            ];
        }
        if (!shared.IsEmpty)
        {
            instance.Damage = suspect;
            instance.Conclusion = new Conclusion(shared, time);
            instance.Changed = true;
        }
    }

    /// <summary>When to look again: when the young have had their time, else after a long while.</summary>
    private void Plan(Instance instance, ulong time)
    {
        if (instance.IsStopping)
        {
            return;
        }
        ulong next = time + _options.InspectEveryNs;
        foreach (TrackedProcess process in instance.Processes.Values)
        {
            if (!process.Settled)
            {
                AwaitSettled(instance, process);
            }
            else if (process.Inspection is { Status: InspectionStatus.Gone or InspectionStatus.Unstable })
            {
                next = Math.Min(next, time + _options.SettleNs);
            }
        }
        if (instance is { Conclusion: null, Settling: null })
        {
            next = Math.Min(next, time + _options.SettleNs);
        }
        Want(instance, next);
    }

    /// <summary>Workers are forked in a row: one inspection when the last of them has settled tells of all.</summary>
    private void AwaitSettled(Instance instance, TrackedProcess process)
    {
        ulong at = process.SettlesAtNs(_options.SettleNs);
        (ulong first, ulong last) = instance.Settling ?? (at, at);
        first = Math.Min(first, at);
        instance.Settling = (first, at <= first + (_options.SettleNs / 2) ? Math.Max(last, at) : last);
    }

    private static void Want(Instance instance, ulong atNs)
    {
        if (instance.InspectedNs != 0)
        {
            atNs = Math.Max(atNs, instance.InspectedNs + MinInspectionGapNs);
        }
        instance.InspectAtNs = instance.InspectAtNs is { } known ? Math.Min(known, atNs) : atNs;
    }
}
