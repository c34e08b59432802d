using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.KernelTests;

/// <summary>Keeps what the fleet says.</summary>
internal sealed class Recorder : IFleetSink
{
    public List<(Observation Observation, CallContext Context)> Calls { get; } = [];

    public List<(Observation Call, CallChain Chain)> Chains { get; } = [];

    public List<(StartStep Step, string? Module)> Steps { get; } = [];

    public List<(CoverageGaps Gap, string Detail)> Gaps { get; } = [];

    public List<InstanceContext> Found { get; } = [];

    public List<Crash> Crashes { get; } = [];

    public List<(Observation Observation, Complaint Complaint, ComplaintContext Context)> Complaints { get; } = [];

    public List<InstanceSnapshot> Readies { get; } = [];

    public List<(InstanceSnapshot Now, Verdict Before)> Verdicts { get; } = [];

    public List<InstanceSnapshot> Confirmations { get; } = [];

    public int Ended { get; private set; }

    public void InstanceFound(InstanceContext instance, in Observation observation) => Found.Add(instance);

    public void Call(InstanceContext instance, in Observation observation, in CallContext call) => Calls.Add((observation, call));

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain) => Chains.Add((call, chain));

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module) => Steps.Add((step, module));

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role)
    {
    }

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
    }

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults) => Crashes.Add(crash);

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults) =>
        Complaints.Add((observation, complaint, context));

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot) => Readies.Add(snapshot);

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs) => Verdicts.Add((snapshot, before));

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs) => Confirmations.Add(snapshot);

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs) => Gaps.Add((gap, detail));

    public void InstanceEnded(InstanceContext instance, in Observation observation) => Ended++;
}
