using System.Collections.Concurrent;
using System.Diagnostics;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>
/// The traces that examples of a counted thing are in, for those who see the number and want the story. Of each thing the
/// latest; as many as there are targets to count under. Any thread.
/// </summary>
internal sealed class Exemplars
{
    private readonly ConcurrentDictionary<string, ActivityTraceId> _traces = new(StringComparer.Ordinal);

    /// <summary>Thread#1 stored a pointer before the fork.</summary>
    public void Called(string target, ObservationKind call, ActivityTraceId trace) =>
        _traces[KeyOf("kamotel.thread_local.calls", [target, Words.Of(call), "main", Words.Of(CallPhase.BeforeFork), Words.Of(SlotValueKind.Pointer)])] = trace;

    /// <summary>A server came to a verdict.</summary>
    public void Judged(string target, Verdict verdict, ActivityTraceId trace) =>
        _traces[KeyOf("kamotel.verdicts", [target, Words.Of(verdict)])] = trace;

    /// <summary>A process crashed.</summary>
    public void Crashed(string target, Crash crash, ActivityTraceId trace) =>
        _traces[KeyOf("kamotel.crashes", [target, Words.SignalName(crash.Signal), Words.Of(crash.Role), crash.Module ?? ""])] = trace;

    /// <summary>The trace for a sample of an instrument, or null.</summary>
    public ActivityTraceId? For(Instrument instrument, in Sample sample) =>
        _traces.TryGetValue(KeyOf(instrument.Name, sample.Attributes), out ActivityTraceId trace) ? trace : null;

    private static string KeyOf(string instrument, string[] attributes) => string.Join('\0', attributes.Prepend(instrument));
}
