using System.Diagnostics;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>Something that becomes a span.</summary>
internal abstract class SpanItem
{
    /// <summary>Sends the span.</summary>
    public abstract void Emit(ActivitySource source);
}

/// <summary>The start of one server as a span: from its exec until it is ready, or until it ended before that.</summary>
internal sealed class StartTrace(InstanceContext instance) : SpanItem
{
    /// <summary>More events than this make a span unreadable; the rest is a number.</summary>
    private const int MaxEvents = 128;

    private readonly List<ActivityEvent> _events = [];
    private long _left;
    private ulong _endNs;
    private InstanceSnapshot? _ready;
    private string? _failure;
    private bool _forked;

    /// <summary>Its place in the trace, once it was sent.</summary>
    public ActivityContext Context { get; private set; }

    public void AddVerdict(in TelemetryItem item) => AddEvent(VerdictSpan.EventOf(in item));

    public void AddCall(in TelemetryItem item) => AddEvent(new ActivityEvent(
        Words.Of(item.Observation.Kind),
        WallClock.ToTime(item.TimeNs),
        new ActivityTagsCollection
        {
            ["process.pid"] = (long)item.Observation.Process.Tgid,
            ["thread.id"] = (long)item.Observation.Tid,
            ["kamotel.thread.main"] = item.Observation.MainThread,
            ["kamotel.phase"] = Words.Of(item.Call.Phase),
            ["kamotel.key"] = (long?)item.Observation.Key,
            ["kamotel.value.kind"] = Words.Of(item.Call.Value),
        }));

    public void AddFork(in TelemetryItem item)
    {
        _forked = true;
        var tags = new ActivityTagsCollection
        {
            ["process.pid"] = (long)item.Observation.Other.Tgid,
            ["process.parent_pid"] = (long)item.Observation.Process.Tgid,
        };
        if (item.Forked is { } role)
        {
            tags["kamotel.role"] = Words.Of(role);
        }
        AddEvent(new ActivityEvent("fork", WallClock.ToTime(item.TimeNs), tags));
    }

    public void EndReady(in TelemetryItem item)
    {
        _ready = item.Snapshot;
        _endNs = item.TimeNs;
    }

    /// <summary>It ended before it was ready. What never forked and is content was no start, but a look at the configuration, say.</summary>
    public void EndEarly(in TelemetryItem item)
    {
        _failure = item.Observation.Status == 0 && !_forked ? null : $"ended before it was ready: {Words.OfStatus(item.Observation.Status)}";
        _endNs = item.TimeNs;
    }

    /// <inheritdoc/>
    public override void Emit(ActivitySource source)
    {
        using Activity? span = source.StartActivity(
            $"{instance.Program} start", ActivityKind.Internal, parentContext: default, tags: null, links: null, WallClock.ToTime(instance.StartedNs));
        if (span is null)
        {
            return;
        }
        Context = span.Context;
        span.SetTag("process.executable.name", instance.Program);
        span.SetTag("kamotel.target", instance.Target);
        span.SetTag("kamotel.instance", instance.Id.ToString());
        if (_ready is { } ready)
        {
            span.SetTag("process.pid", (long)ready.Root.Tgid);
            span.SetTag("kamotel.verdict", Words.Of(ready.Verdict));
            span.SetTag("kamotel.reason", ready.Reason);
            span.SetTag("kamotel.processes", (long)ready.Processes.Length);
            span.SetTag("kamotel.main_thread_calls_before_fork", ready.MainThreadCallsBeforeFork);
            span.SetTag("kamotel.covered", ready.Gaps == CoverageGaps.None);
            span.SetStatus(ready.Verdict >= Verdict.Hazard ? ActivityStatusCode.Error : ActivityStatusCode.Unset, ready.Verdict >= Verdict.Hazard ? ready.Reason : null);
        }
        else if (_failure is not null)
        {
            span.SetStatus(ActivityStatusCode.Error, _failure);
        }
        if (_left > 0)
        {
            span.SetTag("kamotel.events.left_out", _left);
        }
        foreach (ActivityEvent e in _events)
        {
            span.AddEvent(e);
        }
        span.SetEndTime(WallClock.ToTime(_endNs).UtcDateTime);
    }

    private void AddEvent(ActivityEvent e)
    {
        if (_events.Count < MaxEvents)
        {
            _events.Add(e);
        }
        else
        {
            _left++;
        }
    }
}

/// <summary>A change of verdict after the start, as a span: the inspection that found it, or the death that proved it.</summary>
internal sealed class VerdictSpan(TelemetryItem item, StartTrace? start) : SpanItem
{
    /// <summary>The change as an event of a span.</summary>
    public static ActivityEvent EventOf(in TelemetryItem item) => new(
        "kamotel.verdict",
        WallClock.ToTime(item.TimeNs),
        new ActivityTagsCollection
        {
            ["kamotel.verdict"] = Words.Of(item.Snapshot!.Verdict),
            ["kamotel.verdict.before"] = item.Detail,
            ["kamotel.reason"] = item.Snapshot.Reason,
        });

    /// <inheritdoc/>
    public override void Emit(ActivitySource source)
    {
        InstanceSnapshot snapshot = item.Snapshot!;
        ulong since = Math.Min(item.TimeNs, snapshot.Damage?.TimeNs ?? snapshot.InspectedNs ?? item.TimeNs);
        using Activity? span = source.StartActivity(
            $"{item.Instance.Program} verdict", ActivityKind.Internal, start?.Context ?? default, tags: null, links: null, WallClock.ToTime(since));
        if (span is null)
        {
            return;
        }
        span.SetTag("process.pid", (long)snapshot.Root.Tgid);
        span.SetTag("process.executable.name", item.Instance.Program);
        span.SetTag("kamotel.target", item.Instance.Target);
        span.SetTag("kamotel.instance", item.Instance.Id.ToString());
        span.SetTag("kamotel.verdict", Words.Of(snapshot.Verdict));
        span.SetTag("kamotel.reason", snapshot.Reason);
        span.SetTag("kamotel.shared_slots", (long)snapshot.SharedSlots.Length);
        if (snapshot.Verdict >= Verdict.Hazard)
        {
            span.SetStatus(ActivityStatusCode.Error, snapshot.Reason);
        }
        span.AddEvent(EventOf(in item));
        span.SetEndTime(WallClock.ToTime(item.TimeNs).UtcDateTime);
    }
}

/// <summary>The starts that are under way. One thread.</summary>
internal sealed class StartTraces(TelemetryCounters counters)
{
    /// <summary>More servers than ever start at once on a host.</summary>
    private const int MaxStarts = 1024;

    private readonly Dictionary<InstanceId, StartTrace> _starts = [];

    /// <summary>Starts that are over, of servers that live: what comes later belongs to their traces.</summary>
    private readonly Dictionary<InstanceId, StartTrace> _over = [];

    /// <summary>Takes what happened; the span that it makes, or null.</summary>
    public SpanItem? Take(in TelemetryItem item)
    {
        InstanceId id = item.Instance.Id;
        if (item.Kind == ItemKind.Found)
        {
            Begin(item.Instance);
            return null;
        }
        if (!_starts.TryGetValue(id, out StartTrace? start))
        {
            return TakeLater(in item);
        }
        switch (item.Kind)
        {
            case ItemKind.Call:
                start.AddCall(in item);
                return null;
            case ItemKind.Forked:
                start.AddFork(in item);
                return null;
            case ItemKind.Verdict:
                start.AddVerdict(in item);
                return null;
            case ItemKind.Ready:
                start.EndReady(in item);
                _ = _starts.Remove(id);
                _over[id] = start;
                return start;
            case ItemKind.Ended:
                start.EndEarly(in item);
                _ = _starts.Remove(id);
                return start;
            default:
                return null;
        }
    }

    private void Begin(InstanceContext instance)
    {
        if (!instance.SinceExec)
        {
            return;
        }
        if (_starts.Count < MaxStarts)
        {
            _starts[instance.Id] = new StartTrace(instance);
        }
        else
        {
            counters.CountDropped(Signal.Traces, DropReason.QueueFull);
        }
    }

    private VerdictSpan? TakeLater(in TelemetryItem item)
    {
        switch (item.Kind)
        {
            case ItemKind.Verdict:
                return new VerdictSpan(item, _over.GetValueOrDefault(item.Instance.Id));
            case ItemKind.Ended:
                _ = _over.Remove(item.Instance.Id);
                return null;
            default:
                return null;
        }
    }
}
