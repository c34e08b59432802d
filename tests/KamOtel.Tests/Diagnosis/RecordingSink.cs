using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Diagnosis;

/// <summary>Writes down all that the fleet concludes.</summary>
internal sealed class RecordingSink : IFleetSink
{
    public List<string> Told { get; } = [];

    public List<InstanceContext> Found { get; } = [];

    public List<InstanceContext> Ended { get; } = [];

    public List<(InstanceContext Instance, Observation Observation, CallContext Call)> Calls { get; } = [];

    public List<(Observation Call, CallChain Chain)> Chains { get; } = [];

    public List<(StartStep Step, string? Module)> Steps { get; } = [];

    public List<(ProcessId Child, ProcessRole? Role)> Forks { get; } = [];

    public List<(ProcessId Process, ProcessRole Role)> Exits { get; } = [];

    public List<Crash> Crashes { get; } = [];

    public List<(Complaint Complaint, ComplaintContext Context)> Complaints { get; } = [];

    /// <summary>As they were told last.</summary>
    public ImmutableArray<Fault> Faults { get; private set; } = [];

    public List<InstanceSnapshot> Readies { get; } = [];

    public List<(InstanceSnapshot Now, Verdict Before)> Verdicts { get; } = [];

    public List<(InstanceId Instance, CoverageGaps Gap, string Detail)> Gaps { get; } = [];

    /// <summary>When verdicts changed, and when the use of shared slots was told.</summary>
    public List<ulong> Times { get; } = [];

    public Action<InstanceContext>? OnFound { get; set; }

    public void InstanceFound(InstanceContext instance, in Observation observation)
    {
        Told.Add("found");
        Found.Add(instance);
        OnFound?.Invoke(instance);
    }

    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
        Told.Add("call");
        Calls.Add((instance, observation, call));
    }

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
        Told.Add("attributed");
        Chains.Add((call, chain));
    }

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module)
    {
        Told.Add("entered");
        Steps.Add((step, module));
    }

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role)
    {
        Told.Add("forked");
        Forks.Add((observation.Other, role));
    }

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
        Told.Add("exited");
        Exits.Add((observation.Process, role));
    }

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults)
    {
        Told.Add("crashed");
        Crashes.Add(crash);
        Faults = faults;
    }

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults)
    {
        Told.Add($"complained {complaint.Kind}");
        Complaints.Add((complaint, context));
        Faults = faults;
    }

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot)
    {
        Told.Add("ready");
        Readies.Add(snapshot);
    }

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs)
    {
        Told.Add($"verdict {snapshot.Verdict}");
        Verdicts.Add((snapshot, before));
        Times.Add(timeNs);
    }

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs)
    {
        Told.Add("confirmed");
        Times.Add(timeNs);
    }

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
        Told.Add($"gap {gap}");
        Gaps.Add((instance.Id, gap, detail));
    }

    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        Told.Add("ended");
        Ended.Add(instance);
    }
}
