using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Keeps the last that was told of each server.</summary>
internal sealed class ToldServers : IFleetSink
{
    private readonly Dictionary<InstanceId, InstanceSnapshot> _told = [];
    private readonly HashSet<InstanceId> _forked = [];
    private readonly HashSet<InstanceId> _ended = [];

    /// <summary>
    /// Every server: as it is in <paramref name="end"/>, or as it was told of last. One that was a hazard, and is none any more,
    /// is shown as it was then: it was one, and it may be again.
    /// </summary>
    public IReadOnlyList<InstanceSnapshot> All(FleetSnapshot end)
    {
        foreach (InstanceSnapshot now in end.Instances)
        {
            Keep(now);
        }
        return [.. _told.Values.Select(i => i with { Ended = _ended.Contains(i.Id) }).OrderBy(static i => i.StartedNs).ThenBy(static i => i.Id.Tgid)];
    }

    /// <summary>The last that was told of a server; null when nothing was, or when it was no server.</summary>
    public InstanceSnapshot? Find(InstanceId id) => _told.TryGetValue(id, out InstanceSnapshot? last) ? last with { Ended = _ended.Contains(id) } : null;

    /// <summary>Keeps nothing of it any more.</summary>
    public void Forget(InstanceId id)
    {
        _ = _told.Remove(id);
        _ = _forked.Remove(id);
        _ = _ended.Remove(id);
    }

    public void InstanceFound(InstanceContext instance, in Observation observation)
    {
    }

    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
    }

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
    }

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module)
    {
    }

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role) => _forked.Add(instance.Id);

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
    }

    /// <summary>A server tells of its end before its crash is known.</summary>
    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults) => Keep(instance, faults);

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults) => Keep(instance, faults);

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot) => Keep(snapshot);

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs) => Keep(snapshot);

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs) => Keep(snapshot);

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
    }

    /// <summary>What ended before it was ready and is content was no server, but a look at the configuration.</summary>
    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        _ = _ended.Add(instance.Id);
        if (!_told.TryGetValue(instance.Id, out InstanceSnapshot? last) || last.ReadyNs is not null || last.Verdict >= Verdict.Hazard || !instance.SinceExec)
        {
            return;
        }
        if (observation.Status == 0 && !_forked.Contains(instance.Id))
        {
            _ = _told.Remove(instance.Id);
        }
        else if (last.Verdict == Verdict.Unknown)
        {
            _told[instance.Id] = last with { Reason = $"it ended before it was ready: {Words.OfStatus(observation.Status)}" };
        }
    }

    private void Keep(InstanceContext instance, ImmutableArray<Fault> faults)
    {
        if (_told.TryGetValue(instance.Id, out InstanceSnapshot? known))
        {
            _told[instance.Id] = known with { Faults = faults };
        }
    }

    private void Keep(InstanceSnapshot snapshot)
    {
        if (!_told.TryGetValue(snapshot.Id, out InstanceSnapshot? before) || before.Verdict < Verdict.Hazard || snapshot.Verdict >= before.Verdict)
        {
            _told[snapshot.Id] = snapshot;
        }
        else
        {
            _told[snapshot.Id] = before with { Faults = snapshot.Faults };
        }
    }
}
