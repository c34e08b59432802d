using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Tells nobody what the fleet concludes: for who asks only for its snapshot.</summary>
internal sealed class SilentSink : IFleetSink
{
    public static SilentSink Instance { get; } = new();

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

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role)
    {
    }

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
    }

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults)
    {
    }

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults)
    {
    }

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot)
    {
    }

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs)
    {
    }

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs)
    {
    }

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
    }

    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
    }
}
