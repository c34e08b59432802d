using System.Collections.Immutable;
using System.Threading.Channels;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>What an item of telemetry tells.</summary>
internal enum ItemKind
{
    Found,
    Call,
    Attributed,
    Entered,
    Forked,
    Exited,
    Crashed,
    Complained,
    Ready,
    Verdict,
    Confirmed,
    Gap,
    Ended,
    Span,
}

/// <summary>One conclusion of the fleet on its way to logs and spans.</summary>
internal readonly record struct TelemetryItem(ItemKind Kind, InstanceContext Instance)
{
    public Observation Observation { get; init; }

    public CallContext Call { get; init; }

    public ProcessRole Role { get; init; }

    /// <summary>Attributed: who made the call.</summary>
    public CallChain? Chain { get; init; }

    /// <summary>Entered: which step.</summary>
    public StartStep Step { get; init; }

    /// <summary>Entered: the module that is initialised.</summary>
    public string? Module { get; init; }

    /// <summary>Forked: what the child is, or null when only the future tells.</summary>
    public ProcessRole? Forked { get; init; }

    /// <summary>Crashed.</summary>
    public Crash? Crash { get; init; }

    /// <summary>Complained: of what, and what the fleet knows of it.</summary>
    public (Complaint Complaint, ComplaintContext Context)? Complaint { get; init; }

    public InstanceSnapshot? Snapshot { get; init; }

    public CoverageGaps Gap { get; init; }

    public string? Detail { get; init; }

    public ulong TimeNs { get; init; }

    /// <summary>Confirmed: how long it was watched.</summary>
    public ulong WindowNs { get; init; }

    /// <summary>What becomes a span. Null for what becomes a log record.</summary>
    public SpanItem? Span { get; init; }

    public Signal Signal => Span is null ? Signal.Logs : Signal.Traces;
}

/// <summary>
/// Hands the fleet's conclusions over to <see cref="TelemetryExport"/> through one bounded channel. Never blocks: what
/// does not fit is counted. Watch loop only.
/// </summary>
internal sealed class TelemetrySink(OtlpSettings settings, TelemetryCounters counters, Exemplars exemplars) : IFleetSink
{
    /// <summary>Items that may wait; a start of a large server is some hundred.</summary>
    public const int Capacity = 8192;

    private readonly Channel<TelemetryItem> _channel = Channel.CreateBounded<TelemetryItem>(
        new BoundedChannelOptions(Capacity) { SingleReader = true, FullMode = BoundedChannelFullMode.Wait });

    /// <summary>Calls that wait for their author; beyond these a call is told without it.</summary>
    private const int MaxAwaited = 4096;

    private readonly StartTraces _starts = new(counters);
    private readonly Dictionary<(ProcessId, int, ulong), TelemetryItem> _awaited = [];

    public ChannelReader<TelemetryItem> Items => _channel.Reader;

    public void InstanceFound(InstanceContext instance, in Observation observation) =>
        Offer(new TelemetryItem(ItemKind.Found, instance) { Observation = observation, TimeNs = observation.TimeNs });

    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
        var item = new TelemetryItem(ItemKind.Call, instance) { Observation = observation, Call = call, TimeNs = observation.TimeNs };
        OfferSpan(in item);
        if (call is { Phase: CallPhase.BeforeFork, Value: SlotValueKind.Pointer } && observation.MainThread && settings.Traces && _starts.TraceOf(instance.Id) is { } trace)
        {
            exemplars.Called(instance.Target, observation.Kind, trace);
        }
        if (settings.Logs && !(observation.HasStack && _awaited.Count < MaxAwaited && _awaited.TryAdd(KeyOf(in observation), item)))
        {
            Write(in item);
        }
    }

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
        OfferSpan(new TelemetryItem(ItemKind.Attributed, instance) { Observation = call, Chain = chain, TimeNs = call.TimeNs });
        if (_awaited.Remove(KeyOf(in call), out TelemetryItem item))
        {
            Write(item with { Chain = chain });
        }
    }

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module) =>
        OfferSpan(new TelemetryItem(ItemKind.Entered, instance) { Observation = observation, Step = step, Module = module, TimeNs = observation.TimeNs });

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role) =>
        Offer(new TelemetryItem(ItemKind.Forked, instance) { Observation = observation, Forked = role, TimeNs = observation.TimeNs });

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role) =>
        Offer(new TelemetryItem(ItemKind.Exited, instance) { Observation = observation, Role = role, TimeNs = observation.TimeNs });

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults)
    {
        if (settings.Traces && _starts.TraceOf(instance.Id) is { } trace)
        {
            exemplars.Crashed(instance.Target, crash, trace);
        }
        Offer(new TelemetryItem(ItemKind.Crashed, instance) { Crash = crash, TimeNs = crash.TimeNs });
    }

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults) =>
        Offer(new TelemetryItem(ItemKind.Complained, instance) { Observation = observation, Complaint = (complaint, context), TimeNs = observation.TimeNs });

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot) =>
        Offer(new TelemetryItem(ItemKind.Ready, instance) { Snapshot = snapshot, TimeNs = snapshot.ReadyNs ?? snapshot.StartedNs });

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs)
    {
        if (snapshot.Verdict >= Verdict.Hazard && settings.Traces && _starts.TraceOf(instance.Id) is { } trace)
        {
            exemplars.Judged(instance.Target, snapshot.Verdict, trace);
        }
        Offer(new TelemetryItem(ItemKind.Verdict, instance) { Snapshot = snapshot, Detail = Words.Of(before), TimeNs = timeNs });
    }

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs) =>
        Offer(new TelemetryItem(ItemKind.Confirmed, instance) { Snapshot = snapshot, WindowNs = windowNs, TimeNs = timeNs });

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs) =>
        Offer(new TelemetryItem(ItemKind.Gap, instance) { Gap = gap, Detail = detail, TimeNs = timeNs });

    public void InstanceEnded(InstanceContext instance, in Observation observation) =>
        Offer(new TelemetryItem(ItemKind.Ended, instance) { Observation = observation, TimeNs = observation.TimeNs });

    /// <summary>No more will come: what waits for an author goes without, and a start that is under way is cut off.</summary>
    /// <param name="nowNs">Boot time in nanoseconds.</param>
    public void Complete(ulong nowNs)
    {
        foreach (TelemetryItem item in _awaited.Values)
        {
            Write(in item);
        }
        _awaited.Clear();
        _starts.Flush(nowNs, WriteSpan);
        _ = _channel.Writer.TryComplete();
    }

    private static (ProcessId, int, ulong) KeyOf(in Observation call) => (call.Process, call.Tid, call.TimeNs);

    private void Offer(in TelemetryItem item)
    {
        // Forks, and ends as they should be, are part of the span only.
        if (settings.Logs && item.Kind != ItemKind.Forked && (item.Kind != ItemKind.Exited || item.Observation.Status != 0))
        {
            Write(in item);
        }
        OfferSpan(in item);
    }

    private void OfferSpan(in TelemetryItem item)
    {
        if (settings.Traces)
        {
            _starts.Take(in item, WriteSpan);
        }
    }

    private void WriteSpan(SpanItem span) => Write(new TelemetryItem(ItemKind.Span, default!) { Span = span });

    private void Write(in TelemetryItem item)
    {
        if (!_channel.Writer.TryWrite(item))
        {
            counters.CountDropped(item.Signal, DropReason.QueueFull, item.Span?.Root.All().Count() ?? 1);
        }
    }
}
