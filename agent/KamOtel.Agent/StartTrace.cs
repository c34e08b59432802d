using System.Diagnostics;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>
/// The start of one server as a trace: from its exec until it is ready, or until it ended before that; in it the time that
/// each module took, and in that what it did to thread-local slots.
/// </summary>
internal sealed class StartTrace(InstanceContext instance)
{
    /// <summary>More events than this make a span unreadable; the rest is a number.</summary>
    public const int MaxEvents = 128;

    /// <summary>The same for calls before the fork: a server has some ten.</summary>
    public const int MaxCalls = 256;

    private const string VerdictName = "kamotel.verdict";

    /// <summary>More modules than Kamailio has.</summary>
    private const int MaxSteps = 512;

    /// <summary>A point in time: some who draw spans leave those of no length out.</summary>
    private const ulong CallNs = 1000;

    private readonly List<TraceEvent> _events = [];
    private readonly List<(Observation Call, CallContext Context, CallChain? Chain)> _calls = [];
    private readonly List<TraceSpan> _crashes = [];
    private readonly List<(ulong TimeNs, StartStep Step, string? Module, ProcessId Process)> _steps = [];
    private readonly Dictionary<(ProcessId, int, ulong), Action<CallChain>> _awaited = [];
    private long _eventsLeft;
    private long _callsLeft;
    private ulong _endNs;
    private ulong _cutNs;
    private InstanceSnapshot? _ready;
    private int? _status;
    private (ProcessId Process, int Status)? _rootEnd;
    private bool _forked;

    /// <summary>What names the trace to others before it is sent.</summary>
    public ActivityTraceId TraceId { get; } = ActivityTraceId.CreateRandom();

    /// <summary>Its first span, once it was sent: what comes later hangs below it. Written and read by the sender.</summary>
    public ActivityContext Sent { get; set; }

    /// <summary>It ended, and the authors of all its calls are known.</summary>
    public bool IsComplete => _endNs != 0 && _awaited.Count == 0;

    /// <summary>When it ended, in nanoseconds of boot time; 0 while it has not.</summary>
    public ulong EndNs => _endNs;

    public void AddVerdict(in TelemetryItem item) => AddEvent(VerdictEvent(in item));

    /// <summary>A call. In Thread#1 before the fork it is a span, for that is what the workers inherit; else an event.</summary>
    public void AddCall(in TelemetryItem item)
    {
        Observation call = item.Observation;
        if (item.Call.Phase != CallPhase.BeforeFork || !call.MainThread)
        {
            var e = new TraceEvent(Words.Of(call.Kind), item.TimeNs, AttributesOf(in call, item.Call));
            if (AddEvent(e) && call.HasStack)
            {
                _awaited[KeyOf(in call)] = chain => AddAuthor(e.Attributes, chain);
            }
            return;
        }
        if (_calls.Count == MaxCalls)
        {
            _callsLeft++;
            return;
        }
        int index = _calls.Count;
        _calls.Add((call, item.Call, null));
        if (call.HasStack)
        {
            _awaited[KeyOf(in call)] = chain => _calls[index] = _calls[index] with { Chain = chain };
        }
    }

    public void AddChain(in TelemetryItem item)
    {
        if (_awaited.Remove(KeyOf(item.Observation), out Action<CallChain>? take))
        {
            take(item.Chain!);
        }
    }

    public void AddStep(in TelemetryItem item)
    {
        string? module = item.Module;
        StartStep step = item.Step;
        if (_steps.Count < MaxSteps && !_steps.Exists(s => s.Step == step && s.Module == module))
        {
            _steps.Add((item.TimeNs, step, module, item.Observation.Process));
        }
    }

    public void AddFork(in TelemetryItem item)
    {
        _forked = true;
        var attributes = new TraceAttributes();
        attributes.Set("process.pid", (long)item.Observation.Other.Tgid);
        attributes.Set("process.parent_pid", (long)item.Observation.Process.Tgid);
        attributes.Set("kamotel.role", item.Forked is { } role ? Words.Of(role) : null);
        _ = AddEvent(new TraceEvent("fork", item.TimeNs, attributes));
    }

    public void AddExit(in TelemetryItem item)
    {
        if (item.Role == ProcessRole.Root)
        {
            _rootEnd = (item.Observation.Process, item.Observation.Status);
        }
    }

    /// <summary>A crash while the server starts.</summary>
    public void AddCrash(in TelemetryItem item)
    {
        if (_crashes.Count < MaxEvents)
        {
            _crashes.Add(CrashTelemetry.SpanOf(instance, item.Crash!));
        }
        else
        {
            _eventsLeft++;
        }
    }

    public void AddComplaint(in TelemetryItem item)
    {
        var attributes = new TraceAttributes();
        attributes.Set("process.pid", (long)item.Observation.Process.Tgid);
        attributes.Set("thread.id", (long)item.Observation.Tid);
        (Complaint complaint, ComplaintContext context) = item.Complaint!.Value;
        attributes.AddRange(CrashTelemetry.AttributesOf(complaint, in context));
        _ = AddEvent(new TraceEvent("memory complaint", item.TimeNs, attributes));
    }

    public void EndReady(in TelemetryItem item)
    {
        _ready = item.Snapshot;
        _endNs = Math.Max(item.TimeNs, 1);
    }

    /// <summary>It ended before it was ready. Its root tells why: workers only follow it.</summary>
    public void EndEarly(in TelemetryItem item)
    {
        _rootEnd ??= (item.Observation.Process, item.Observation.Status);
        _status = _rootEnd.Value.Status;
        _endNs = Math.Max(item.TimeNs, 1);
    }

    /// <summary>A change of verdict as an event.</summary>
    public static TraceEvent VerdictEvent(in TelemetryItem item)
    {
        var attributes = new TraceAttributes();
        attributes.Set("kamotel.verdict", Words.Of(item.Snapshot!.Verdict));
        attributes.Set("kamotel.verdict.before", item.Detail);
        attributes.Set("kamotel.reason", item.Snapshot.Reason);
        return new TraceEvent(VerdictName, item.TimeNs, attributes);
    }

    /// <summary>Nobody watches it any longer, and it is not over.</summary>
    public void Cut(ulong timeNs) => _cutNs = timeNs;

    /// <summary>The trace as far as it is known.</summary>
    public TraceSpan Build()
    {
        ulong end = _endNs != 0 ? _endNs : Math.Max(_cutNs, Latest());
        var root = new TraceSpan($"{instance.Program} start", instance.StartedNs, Math.Max(end, instance.StartedNs));
        Describe(root);
        // A verdict that came after the end is its status.
        root.Events.AddRange(_events.Where(e => e.TimeNs <= root.EndNs || e.Name != VerdictName));
        // Content with having looked, as `kamailio -c` is, it fails nobody.
        string? failure = _status is { } status && (status != 0 || _forked) ? Words.OfStatus(status) : null;
        if (failure is not null)
        {
            root.Error = $"ended before it was ready: {failure}";
        }
        List<TraceSpan> modules = AddModules(root, failure);
        foreach ((Observation call, CallContext context, CallChain? chain) in _calls)
        {
            TraceSpan parent = modules.Find(m => call.TimeNs >= m.StartNs && call.TimeNs < m.EndNs) ?? root;
            parent.Children.Add(CallSpan(in call, context, chain));
        }
        root.Children.AddRange(_crashes);
        foreach (TraceSpan span in root.All())
        {
            span.Children.Sort(static (a, b) => a.StartNs.CompareTo(b.StartNs));
        }
        return root;
    }

    /// <summary>Where OpenTelemetry has a word for it, that one.</summary>
    internal static void AddAuthor(TraceAttributes attributes, CallChain chain)
    {
        attributes.Set("kamotel.author", chain.Author);
        attributes.Set("kamotel.asked_by", chain.AskedBy);
        attributes.Set("kamotel.path", chain.Path.IsEmpty ? null : string.Join(" → ", chain.Path));
        attributes.Set("code.stacktrace", chain.Frames.IsEmpty ? null : chain.Stacktrace);
        if (chain.Author is null)
        {
            attributes.Set("kamotel.chain.end", Words.Of(chain.End));
            attributes.Set("kamotel.chain.detail", chain.WhyUnknown);
        }
    }

    private static (ProcessId, int, ulong) KeyOf(in Observation call) => (call.Process, call.Tid, call.TimeNs);

    private static TraceAttributes AttributesOf(in Observation call, in CallContext context)
    {
        var attributes = new TraceAttributes();
        attributes.Set("process.pid", (long)call.Process.Tgid);
        attributes.Set("thread.id", (long)call.Tid);
        attributes.Set("kamotel.thread.main", call.MainThread);
        attributes.Set("kamotel.phase", Words.Of(context.Phase));
        attributes.Set("kamotel.key", (long?)call.Key);
        attributes.Set("kamotel.value.kind", Words.Of(context.Value));
        return attributes;
    }

    private TraceSpan CallSpan(in Observation call, in CallContext context, CallChain? chain)
    {
        var span = new TraceSpan($"CRYPTO_THREAD_{Words.Of(call.Kind)}", call.TimeNs, call.TimeNs + CallNs);
        span.Attributes.AddRange(AttributesOf(in call, in context));
        span.Attributes.Set("code.function.name", span.Name);
        span.Attributes.Set("kamotel.slot", SlotOf(in call, chain));
        if (chain is not null)
        {
            AddAuthor(span.Attributes, chain);
        }
        return span;
    }

    private string? SlotOf(in Observation call, CallChain? chain)
    {
        if (chain is not null && SlotNames.Of(chain, call.Value) is { } shown)
        {
            return shown;
        }
        uint? key = call.Kind == ObservationKind.SetLocal ? call.Key : null;
        return _ready?.SharedSlots.FirstOrDefault(s => s.Key == key)?.Name;
    }

    private void Describe(TraceSpan root)
    {
        TraceAttributes attributes = root.Attributes;
        ProcessId process = _ready?.Root ?? _rootEnd?.Process ?? _steps.LastOrDefault().Process;
        attributes.Set("process.pid", process.Tgid != 0 ? (long)process.Tgid : null);
        attributes.Set("process.executable.name", instance.Program);
        attributes.Set("kamotel.target", instance.Target);
        attributes.Set("kamotel.instance", instance.Id.ToString());
        attributes.AddRange(ContainerAttributes.Of(instance));
        if (_ready is { } ready)
        {
            DescribeVerdict(root, ready);
            attributes.Set("kamotel.processes", (long)ready.Processes.Length);
            attributes.Set("kamotel.main_thread_calls_before_fork", ready.MainThreadCallsBeforeFork);
            attributes.Set("kamotel.covered", ready.Gaps == CoverageGaps.None);
        }
        if (_status is { } status)
        {
            bool bySignal = (status & 0x7f) != 0;
            attributes.Set(bySignal ? "kamotel.exit.signal" : "process.exit.code", (long)(bySignal ? status & 0x7f : (status >> 8) & 0xff));
        }
        attributes.Set("kamotel.unfinished", _endNs == 0 ? true : null);
        attributes.Set("kamotel.events.left_out", _eventsLeft > 0 ? _eventsLeft : null);
        attributes.Set("kamotel.calls.left_out", _callsLeft > 0 ? _callsLeft : null);
    }

    /// <summary>A verdict as attributes and status.</summary>
    internal static void DescribeVerdict(TraceSpan span, InstanceSnapshot snapshot)
    {
        span.Attributes.Set("kamotel.verdict", Words.Of(snapshot.Verdict));
        span.Attributes.Set("kamotel.reason", snapshot.Reason);
        if (snapshot.Verdict >= Verdict.Hazard)
        {
            span.Error = snapshot.Reason;
            span.Attributes.Set("kamotel.runbook.url", Words.RunbookOf(snapshot.Verdict));
        }
    }

    /// <summary>
    /// The span of all modules, and in it one for each: until the next that was seen begins. What the end of the process cut
    /// off has failed.
    /// </summary>
    private List<TraceSpan> AddModules(TraceSpan root, string? failure)
    {
        var spans = new List<TraceSpan>();
        (ulong TimeNs, StartStep Step, string? Module, ProcessId Process)[] steps = [.. _steps.Where(s => s.TimeNs <= root.EndNs).OrderBy(static s => s.TimeNs)];
        int done = Array.FindIndex(steps, static s => s.Step == StartStep.ModulesDone);
        ulong end = done >= 0 ? steps[done].TimeNs : root.EndNs;
        string? cut = done >= 0 ? null : failure;
        TraceSpan? all = null;
        foreach ((ulong time, StartStep step, string? module, ProcessId process) in steps)
        {
            if (step == StartStep.ModulesDone)
            {
                break;
            }
            if (spans.LastOrDefault() is { } before && !ReferenceEquals(before, all))
            {
                before.EndNs = time;
            }
            TraceSpan span = step == StartStep.Modules ? all = new TraceSpan("initialise modules", time, end) : new TraceSpan($"initialise {module}", time, end);
            span.Attributes.Set("process.pid", (long)process.Tgid);
            span.Attributes.Set("kamotel.module", module);
            (step == StartStep.Modules ? root : all ?? root).Children.Add(span);
            spans.Add(span);
        }
        if (cut is not null)
        {
            foreach (TraceSpan open in spans.Where(s => s.EndNs == end))
            {
                open.Error = cut;
            }
        }
        // The innermost first: what happens between two modules is in the span of all.
        spans.Reverse();
        return spans;
    }

    private ulong Latest() => _events.Select(static e => e.TimeNs).Concat(_calls.Select(static c => c.Call.TimeNs)).Concat(_steps.Select(static s => s.TimeNs)).DefaultIfEmpty(instance.StartedNs).Max();

    private bool AddEvent(TraceEvent e)
    {
        if (_events.Count < MaxEvents)
        {
            _events.Add(e);
            return true;
        }
        _eventsLeft++;
        return false;
    }
}

/// <summary>The starts that are under way. One thread.</summary>
internal sealed class StartTraces(TelemetryCounters counters)
{
    /// <summary>More servers than ever start at once on a host.</summary>
    private const int MaxStarts = 1024;

    /// <summary>More servers than end before the crash of one is known.</summary>
    private const int MaxEnded = 64;

    /// <summary>How long a start that is over waits for the authors of its last calls.</summary>
    private const ulong HoldNs = 3_000_000_000;

    private readonly Dictionary<InstanceId, StartTrace> _starts = [];

    /// <summary>Starts that are over, of servers that live: what comes later belongs to their traces.</summary>
    private readonly Dictionary<InstanceId, StartTrace> _over = [];

    /// <summary>Starts of the servers that ended last.</summary>
    private readonly List<(InstanceId Id, StartTrace Trace)> _ended = [];

    /// <summary>Starts that are over and wait.</summary>
    private readonly List<(InstanceId Id, StartTrace Trace)> _held = [];

    /// <summary>The trace that an instance's start is told in, while it lives and a little longer.</summary>
    public ActivityTraceId? TraceOf(InstanceId id) => StartOf(id)?.TraceId;

    /// <summary>Takes what happened; hands out the spans that it makes.</summary>
    public void Take(in TelemetryItem item, Action<SpanItem> made)
    {
        Release(item.TimeNs, made);
        InstanceId id = item.Instance.Id;
        if (item.Kind == ItemKind.Found)
        {
            Begin(item.Instance);
            return;
        }
        if (!_starts.TryGetValue(id, out StartTrace? start))
        {
            TakeLater(in item, made);
            return;
        }
        switch (item.Kind)
        {
            case ItemKind.Call:
                start.AddCall(in item);
                break;
            case ItemKind.Attributed:
                start.AddChain(in item);
                break;
            case ItemKind.Entered:
                start.AddStep(in item);
                break;
            case ItemKind.Forked:
                start.AddFork(in item);
                break;
            case ItemKind.Exited:
                start.AddExit(in item);
                break;
            case ItemKind.Crashed:
                start.AddCrash(in item);
                break;
            case ItemKind.Complained:
                start.AddComplaint(in item);
                break;
            case ItemKind.Verdict:
                start.AddVerdict(in item);
                break;
            case ItemKind.Ready:
                start.EndReady(in item);
                _ = _starts.Remove(id);
                _over[id] = start;
                End(id, start, made);
                break;
            case ItemKind.Ended:
                start.EndEarly(in item);
                _ = _starts.Remove(id);
                Remember(id, start);
                End(id, start, made);
                break;
            default:
                break;
        }
    }

    /// <summary>Hands out what waits, and what is under way, as it is.</summary>
    public void Flush(ulong nowNs, Action<SpanItem> made)
    {
        Release(ulong.MaxValue, made);
        foreach (StartTrace start in _starts.Values)
        {
            start.Cut(nowNs);
            made(new SpanItem(start.Build(), start));
        }
        _starts.Clear();
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

    private void End(InstanceId id, StartTrace start, Action<SpanItem> made)
    {
        if (start.IsComplete || _held.Count >= MaxStarts)
        {
            made(new SpanItem(start.Build(), start));
        }
        else
        {
            _held.Add((id, start));
        }
    }

    private void Release(ulong nowNs, Action<SpanItem> made)
    {
        for (int i = 0; i < _held.Count; i++)
        {
            StartTrace start = _held[i].Trace;
            if (start.IsComplete || (nowNs > start.EndNs && nowNs - start.EndNs > HoldNs))
            {
                _held.RemoveAt(i--);
                made(new SpanItem(start.Build(), start));
            }
        }
    }

    private void TakeLater(in TelemetryItem item, Action<SpanItem> made)
    {
        switch (item.Kind)
        {
            case ItemKind.Attributed:
                InstanceId id = item.Instance.Id;
                if (_held.Find(h => h.Id == id).Trace is { } held)
                {
                    held.AddChain(in item);
                    Release(0, made);
                }
                break;
            case ItemKind.Verdict:
                // In the order of time: a start that waits goes first.
                Flush(item.Instance.Id, made);
                made(new SpanItem(VerdictSpan(in item), _over.GetValueOrDefault(item.Instance.Id)));
                break;
            case ItemKind.Crashed:
                Flush(item.Instance.Id, made);
                made(new SpanItem(CrashTelemetry.SpanOf(item.Instance, item.Crash!), StartOf(item.Instance.Id)));
                break;
            case ItemKind.Ended:
                if (_over.Remove(item.Instance.Id, out StartTrace? over))
                {
                    Remember(item.Instance.Id, over);
                }
                break;
            default:
                break;
        }
    }

    /// <summary>A crash may be told of when the server is gone.</summary>
    private void Remember(InstanceId id, StartTrace start)
    {
        if (_ended.Count >= MaxEnded)
        {
            _ended.RemoveAt(0);
        }
        _ended.Add((id, start));
    }

    private StartTrace? StartOf(InstanceId id) =>
        _starts.GetValueOrDefault(id) ?? _over.GetValueOrDefault(id) ?? _ended.FindLast(e => e.Id == id).Trace;

    private void Flush(InstanceId id, Action<SpanItem> made)
    {
        int at = _held.FindIndex(h => h.Id == id);
        if (at >= 0)
        {
            StartTrace start = _held[at].Trace;
            _held.RemoveAt(at);
            made(new SpanItem(start.Build(), start));
        }
    }

    /// <summary>A change of verdict after the start: the inspection that found it, or the death that proved it.</summary>
    private static TraceSpan VerdictSpan(in TelemetryItem item)
    {
        InstanceSnapshot snapshot = item.Snapshot!;
        ulong since = Math.Min(item.TimeNs, snapshot.Damage?.TimeNs ?? snapshot.InspectedNs ?? item.TimeNs);
        var span = new TraceSpan($"{item.Instance.Program} verdict", since, item.TimeNs);
        span.Attributes.Set("process.pid", (long)snapshot.Root.Tgid);
        span.Attributes.Set("process.executable.name", item.Instance.Program);
        span.Attributes.Set("kamotel.target", item.Instance.Target);
        span.Attributes.Set("kamotel.instance", item.Instance.Id.ToString());
        span.Attributes.AddRange(ContainerAttributes.Of(item.Instance));
        StartTrace.DescribeVerdict(span, snapshot);
        span.Attributes.Set("kamotel.shared_slots", (long)snapshot.SharedSlots.Length);
        span.Events.Add(StartTrace.VerdictEvent(in item));
        return span;
    }
}

/// <summary>A span with those below it, on its way out.</summary>
/// <param name="Root">The span.</param>
/// <param name="Start">The start that it is, or belongs to; null when that was not seen.</param>
internal sealed record SpanItem(TraceSpan Root, StartTrace? Start)
{
    /// <summary>Sends the span and those below it, parents first.</summary>
    /// <param name="source">Where they come from.</param>
    /// <param name="admit">Waits until there is room for one; false when there will be none, so that it is left out.</param>
    /// <param name="dropped">Takes how many below one that was left out are left out with it.</param>
    public async ValueTask EmitAsync(ActivitySource source, Func<ValueTask<bool>> admit, Action<int> dropped)
    {
        // A trace that nothing was sent of yet has a name already: others may have told it.
        ActivityContext parent = Start is null ? default
            : Start.Sent != default ? Start.Sent
            : new ActivityContext(Start.TraceId, default, ActivityTraceFlags.Recorded);
        ActivityContext sent = await EmitAsync(source, Root, parent, admit, dropped);
        if (Start is not null && Start.Sent == default)
        {
            Start.Sent = sent;
        }
    }

    private static async ValueTask<ActivityContext> EmitAsync(ActivitySource source, TraceSpan span, ActivityContext parent, Func<ValueTask<bool>> admit, Action<int> dropped)
    {
        if (!await admit())
        {
            dropped(span.All().Count() - 1);
            return default;
        }
        ActivityContext context = Emit(source, span, parent);
        foreach (TraceSpan child in span.Children)
        {
            _ = await EmitAsync(source, child, context, admit, dropped);
        }
        return context;
    }

    private static ActivityContext Emit(ActivitySource source, TraceSpan span, ActivityContext parent)
    {
        using Activity? activity = source.StartActivity(
            span.Name, ActivityKind.Internal, parent, tags: span.Attributes, links: null, WallClock.ToTime(span.StartNs));
        if (activity is null)
        {
            return default;
        }
        if (span.Error is { } error)
        {
            activity.SetStatus(ActivityStatusCode.Error, error);
        }
        foreach (TraceEvent e in span.Events)
        {
            activity.AddEvent(new ActivityEvent(e.Name, WallClock.ToTime(e.TimeNs), new ActivityTagsCollection(e.Attributes)));
        }
        activity.SetEndTime(WallClock.ToTime(span.EndNs).UtcDateTime);
        return activity.Context;
    }
}
