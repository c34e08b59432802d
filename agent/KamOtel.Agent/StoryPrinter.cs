using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>The human story of what happens: a line an event, the same columns in each.</summary>
internal sealed class StoryPrinter(TextWriter output, bool colored) : IFleetSink
{
    private const string Dim = "2";
    private const string Red = "31";
    private const string Green = "32";
    private const string Yellow = "33";
    private const string Bold = "1";

    /// <summary>What was advised last: a newer reason is no newer advice.</summary>
    private readonly Dictionary<InstanceId, string> _advised = [];

    public void InstanceFound(InstanceContext instance, in Observation observation) =>
        Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, instance.SinceExec ? "exec" : "found", Sentences.OfFound(instance), Bold);

    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
        Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, Words.Of(observation.Kind), Sentences.Of(in observation, in call), Sentences.IsTelling(in observation, in call) ? Yellow : "");
    }

    /// <summary>Only where something is stored: who makes keys and ends them matters to nobody.</summary>
    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
        if (call is { Kind: ObservationKind.SetLocal or ObservationKind.SetLocalEx, Key: { } key })
        {
            Print(instance, call.TimeNs, call.Process.Tgid, call.Tid, "author", $"key {key}: {Sentences.OfAuthor(in call, chain)}", chain.Author is null ? Dim : "");
        }
    }

    /// <summary>Each module: the last one is where a server hangs that does not get ready.</summary>
    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module)
    {
        if (Sentences.Of(step, module) is { } text)
        {
            Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, "step", text, Dim);
        }
    }

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role) =>
        Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, "fork", Sentences.OfFork(in observation, role), Dim);

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role) =>
        Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, "exit", Sentences.OfExit(in observation, role), (observation.Status & 0x7f) is not 0 and not 15 ? Red : Dim);

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults) =>
        Print(instance, crash.TimeNs, crash.Process.Tgid, crash.Tid ?? crash.Process.Tgid, "crash", Sentences.Of(crash), Red);

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults) =>
        Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, "complaint", Words.Of(complaint, in context), complaint.IsDamage ? Red : Yellow);

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot) =>
        Print(instance, snapshot.ReadyNs ?? instance.StartedNs, snapshot.Root.Tgid, snapshot.Root.Tgid, "ready", Sentences.OfReady(snapshot), Bold);

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs)
    {
        Print(instance, timeNs: null, snapshot.Root.Tgid, snapshot.Root.Tgid, "verdict", Sentences.OfVerdict(snapshot), snapshot.Verdict switch
        {
            Verdict.Safe => Green,
            Verdict.Unknown => Dim,
            Verdict.Exposed => Yellow,
            _ => Red,
        });
        string[] advice = [.. Advisor.For(snapshot).Select(static a => a.ToString())];
        if (_advised.GetValueOrDefault(instance.Id, "") != string.Join('\n', advice))
        {
            _advised[instance.Id] = string.Join('\n', advice);
            foreach (string line in advice)
            {
                Print(instance, timeNs: null, snapshot.Root.Tgid, snapshot.Root.Tgid, "advice", line, Bold);
            }
        }
    }

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs) =>
        Print(instance, timeNs: null, snapshot.Root.Tgid, snapshot.Root.Tgid, "confirm", Sentences.OfConfirmed(snapshot, windowNs), Red);

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs) =>
        Print(instance, timeNs: null, instance.Id.Tgid, instance.Id.Tgid, "gap", Sentences.Of(gap, detail), Yellow);

    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        _ = _advised.Remove(instance.Id);
        Print(instance, observation.TimeNs, observation.Process.Tgid, observation.Tid, "ended", instance.Target, Bold);
    }

    private void Print(InstanceContext instance, ulong? timeNs, int pid, int tid, string what, string text, string style)
    {
        string time = timeNs is not { } at ? "" : instance.SinceExec && at >= instance.StartedNs ? $"+{(at - instance.StartedNs) / 1e6:0.000} ms" : "";
        string line = $"{time,14}  {pid,7}/{tid,-7} {what,-13} {PlainText.Of(text)}";
        // Standard output may be a closed pipe; the agent goes on.
        try
        {
            output.WriteLine(colored && style.Length > 0 ? $"\u001b[{style}m{line}\u001b[0m" : line);
            output.Flush();
        }
        catch (IOException)
        {
        }
    }
}
