using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Tells two what the fleet concludes, one after the other.</summary>
internal sealed class CompositeSink(IFleetSink first, IFleetSink second) : IFleetSink
{
    public void InstanceFound(InstanceContext instance, in Observation observation)
    {
        first.InstanceFound(instance, in observation);
        second.InstanceFound(instance, in observation);
    }

    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
        first.Call(instance, in observation, in call);
        second.Call(instance, in observation, in call);
    }

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
        first.Attributed(instance, in call, chain);
        second.Attributed(instance, in call, chain);
    }

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module)
    {
        first.Entered(instance, in observation, step, module);
        second.Entered(instance, in observation, step, module);
    }

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role)
    {
        first.Forked(instance, in observation, role);
        second.Forked(instance, in observation, role);
    }

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
        first.Exited(instance, in observation, role);
        second.Exited(instance, in observation, role);
    }

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults)
    {
        first.Crashed(instance, crash, faults);
        second.Crashed(instance, crash, faults);
    }

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults)
    {
        first.Complained(instance, in observation, complaint, in context, faults);
        second.Complained(instance, in observation, complaint, in context, faults);
    }

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot)
    {
        first.Ready(instance, snapshot);
        second.Ready(instance, snapshot);
    }

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs)
    {
        first.VerdictChanged(instance, snapshot, before, timeNs);
        second.VerdictChanged(instance, snapshot, before, timeNs);
    }

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs)
    {
        first.Confirmed(instance, snapshot, windowNs, timeNs);
        second.Confirmed(instance, snapshot, windowNs, timeNs);
    }

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
        first.GapFound(instance, gap, detail, timeNs);
        second.GapFound(instance, gap, detail, timeNs);
    }

    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        first.InstanceEnded(instance, in observation);
        second.InstanceEnded(instance, in observation);
    }
}
