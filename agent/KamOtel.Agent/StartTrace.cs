using System.Diagnostics;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>The start of one server as a span: from its exec until it is ready, or until it ended before that.</summary>
internal sealed class StartTrace(InstanceContext instance)
{
    /// <summary>More events than this make a span unreadable; the rest is a number.</summary>
    private const int MaxEvents = 128;

    private readonly List<ActivityEvent> _events = [];
    private long _left;
    private ulong _endNs;
    private InstanceSnapshot? _ready;
    private string? _failure;

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

    public void AddFork(in TelemetryItem item) => AddEvent(new ActivityEvent(
        "fork",
        WallClock.ToTime(item.TimeNs),
        new ActivityTagsCollection
        {
            ["process.pid"] = (long)item.Observation.Other.Tgid,
            ["process.parent_pid"] = (long)item.Observation.Process.Tgid,
            ["kamotel.role"] = Words.Of(item.Role),
        }));

    public void EndReady(in TelemetryItem item)
    {
        _ready = item.Snapshot;
        _endNs = item.TimeNs;
    }

    public void EndFailed(in TelemetryItem item)
    {
        _failure = $"ended before it was ready: {Words.OfStatus(item.Observation.Status)}";
        _endNs = item.TimeNs;
    }

    /// <summary>Sends the span.</summary>
    public void Emit(ActivitySource source)
    {
        using Activity? span = source.StartActivity(
            $"{instance.Program} start", ActivityKind.Internal, parentContext: default, tags: null, links: null, WallClock.ToTime(instance.StartedNs));
        if (span is null)
        {
            return;
        }
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
        else
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

/// <summary>The starts that are under way. One thread.</summary>
internal sealed class StartTraces(TelemetryCounters counters)
{
    /// <summary>More servers than ever start at once on a host.</summary>
    private const int MaxStarts = 1024;

    private readonly Dictionary<InstanceId, StartTrace> _starts = [];

    /// <summary>Takes what happened; the start that it ends, or null.</summary>
    public StartTrace? Take(in TelemetryItem item)
    {
        InstanceId id = item.Instance.Id;
        if (item.Kind == ItemKind.Found)
        {
            if (!item.Instance.SinceExec)
            {
                return null;
            }
            if (_starts.Count < MaxStarts)
            {
                _starts[id] = new StartTrace(item.Instance);
            }
            else
            {
                counters.CountDropped(Signal.Traces, DropReason.QueueFull);
            }
            return null;
        }
        if (!_starts.TryGetValue(id, out StartTrace? start))
        {
            return null;
        }
        switch (item.Kind)
        {
            case ItemKind.Call:
                start.AddCall(in item);
                return null;
            case ItemKind.Forked:
                start.AddFork(in item);
                return null;
            case ItemKind.Ready:
                start.EndReady(in item);
                _ = _starts.Remove(id);
                return start;
            case ItemKind.Ended:
                start.EndFailed(in item);
                _ = _starts.Remove(id);
                return start;
            default:
                return null;
        }
    }
}
