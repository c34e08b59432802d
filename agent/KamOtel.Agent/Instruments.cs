using System.Diagnostics.Metrics;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Prometheus;

namespace KamOtel.Agent;

/// <summary>
/// The one table of all instruments, and both sides that are fed from it: a Prometheus registry and an OpenTelemetry
/// meter. Both read the latest snapshot, so they show equal values.
/// </summary>
internal sealed class Instruments : IDisposable
{
    /// <summary>The name of the meter, and of the source of spans.</summary>
    public const string Scope = "KamOtel";

    private static readonly Exemplar.LabelKey TraceIdLabel = Exemplar.Key("trace_id");

    private static readonly double[] SecondsBuckets = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

    private readonly AgentState _state;
    private readonly TelemetryCounters _telemetry;
    private readonly CollectorRegistry _registry = Prometheus.Metrics.NewCustomRegistry();
    private readonly Meter _meter = new(Scope, CommandLine.Build.Version);
    private readonly SemaphoreSlim _scrape = new(1);
    private readonly Exemplars _exemplars;

    public Instruments(AgentState state, TelemetryCounters telemetry, Exemplars exemplars)
    {
        _state = state;
        _telemetry = telemetry;
        _exemplars = exemplars;
        MetricFactory factory = Prometheus.Metrics.WithCustomRegistry(_registry);
        // Those of what happens by chance while a page is asked for are of no use.
        factory.ExemplarBehavior = ExemplarBehavior.NoExemplars();
        foreach (Instrument instrument in Table.Where(static i => i.Kind != InstrumentKind.Histogram))
        {
            AddToPrometheus(factory, instrument);
            AddToMeter(instrument);
        }
        AttachDelay = new HistogramOfBoth(factory, _meter, AttachDelayLine);
        InspectionDuration = new HistogramOfBoth(factory, _meter, InspectionDurationLine);
        UnwindDuration = new HistogramOfBoth(factory, _meter, UnwindDurationLine);
    }

    /// <summary>From the executable mapping of a libcrypto in a watched process to its probes being attached, in seconds.</summary>
    public HistogramOfBoth AttachDelay { get; }

    /// <summary>Time to inspect one instance, in seconds.</summary>
    public HistogramOfBoth InspectionDuration { get; }

    /// <summary>Time to find out who made a call, from its stack, in seconds.</summary>
    public HistogramOfBoth UnwindDuration { get; }

    private static Instrument AttachDelayLine { get; } = new(
        "kamotel.attach.delay", InstrumentKind.Histogram, "s", "Time from the mapping of a libcrypto by a watched process to its probes being attached.", [], static (_, _) => []);

    private static Instrument InspectionDurationLine { get; } = new(
        "kamotel.inspection.duration", InstrumentKind.Histogram, "s", "Time to inspect all processes of one server.", [], static (_, _) => []);

    private static Instrument UnwindDurationLine { get; } = new(
        "kamotel.unwind.duration", InstrumentKind.Histogram, "s", "Time to find out who made a call, from the copy of its stack.", [], static (_, _) => []);

    /// <summary>All instruments.</summary>
    public static IReadOnlyList<Instrument> Table { get; } =
    [
        Counter("kamotel.thread_local.calls", "{call}", "Calls of libcrypto's thread-local functions in watched processes.", ["target", "call", "thread", "phase", "value"], static s =>
            s.Fleet.Targets.SelectMany(static t => t.Calls.Select(c => new Sample(c.Count, t.Target, Words.Of(c.Call), c.MainThread ? "main" : "other", Words.Of(c.Phase), Words.Of(c.Value))))),
        Counter("kamotel.stacks", "{stack}", "Stacks of thread-local calls, by whether they named the author.", ["target", "outcome"], static s =>
            s.Fleet.Targets.SelectMany(static t => new[] { new Sample(t.ChainsAttributed, t.Target, "attributed"), new Sample(t.ChainsUnknown, t.Target, "unknown") })),
        Counter("kamotel.execs", "{exec}", "Starts of watched programs.", ["target"], static s => s.Fleet.Targets.Select(static t => new Sample(t.Execs, t.Target))),
        Counter("kamotel.forks", "{fork}", "Processes forked by watched processes.", ["target"], static s => s.Fleet.Targets.Select(static t => new Sample(t.Forks, t.Target))),
        Counter("kamotel.exits", "{exit}", "Watched processes that ended, by how they ended.", ["target", "status"], static s =>
            s.Fleet.Targets.SelectMany(static t => t.Exits.Select((n, kind) => new Sample(n, t.Target, Words.Of((ExitKind)kind))))),
        Counter("kamotel.crashes", "{crash}", "Watched processes that crashed, by signal, role and the module that crashed; empty where it is not known.", ["target", "signal", "role", "module"], static s =>
            s.Fleet.Targets.SelectMany(static t => t.Crashes.Select(c => new Sample(c.Count, t.Target, Words.SignalName(c.Signal), Words.Of(c.Role), c.Module)))),
        Counter("kamotel.memory.complaints", "{complaint}", "Damage that the servers' memory managers complained of, by the module that called them; empty where it is not known.", ["target", "complaint", "module"], static s =>
            s.Fleet.Targets.SelectMany(static t => t.Complaints.Where(static c => c.Kind != ComplaintKind.OutOfSharedMemory).Select(c => new Sample(c.Count, t.Target, Words.Of(c.Kind), c.Module)))),
        Counter("kamotel.memory.unread_complaints", "{complaint}", "Complaints of memory managers that could not be read, and are counted nowhere else.", [], static s => [new Sample(s.UnreadComplaints)]),
        Counter("kamotel.shared_memory.allocation_failures", "{failure}", "Times that there was no room in a server's shared memory, by the module that asked for it; empty where it is not known.", ["target", "module"], static s =>
            s.Fleet.Targets.SelectMany(static t => t.Complaints.Where(static c => c.Kind == ComplaintKind.OutOfSharedMemory).Select(c => new Sample(c.Count, t.Target, c.Module)))),
        Gauge("kamotel.instances", "{instance}", "Running servers.", ["target"], static s => ByTarget(s, static t => t.Count())),
        Gauge("kamotel.instance.verdict", "1", "1 for the verdict in force, 0 for the others; the worst of the target's instances.", ["target", "verdict"], static s =>
            s.Fleet.Instances.GroupBy(static i => i.Target).SelectMany(static t =>
            {
                Verdict worst = t.Select(static i => i.Verdict).MaxBy(Words.SeverityOf);
                return Enum.GetValues<Verdict>().Select(v => new Sample(v == worst ? 1 : 0, t.Key, Words.Of(v)));
            })),
        Counter("kamotel.verdicts", "{verdict}", "How often an instance came to a verdict.", ["target", "verdict"], static s =>
            s.Fleet.Targets.SelectMany(static t => t.Verdicts.Select((n, verdict) => new Sample(n, t.Target, Words.Of((Verdict)verdict))))),
        Gauge("kamotel.instance.info", "1", "1, with what the target's latest instance is made of and where it runs; empty where it is not known.", ["target", "kamailio", "openssl", "tls_back_end", "tls_threads_mode", "container_id", "k8s_pod_uid", "k8s_pod_name"], static s =>
            s.Fleet.Instances.GroupBy(static i => i.Target).Select(static t => Info(t.MaxBy(static i => i.StartedNs)!))),
        Gauge("kamotel.instance.shared_slots", "{slot}", "OpenSSL slots that two or more processes share: the same pointer into shared memory.", ["target"], static s => ByTarget(s, static t => t.Sum(static i => i.SharedSlots.Length))),
        Gauge("kamotel.instance.shared_slot_info", "{slot}", "Slots that processes share, by what OpenSSL keeps there, the module that set them, and the one that asked it to; empty where it is not known.", ["target", "slot", "author", "asked_by"], static s =>
            s.Fleet.Instances.SelectMany(static i => i.SharedSlots.Select(slot => (i.Target, Name: slot.Name ?? "", Author: slot.Origin?.Chain.Author ?? "", AskedBy: slot.Origin?.Chain.AskedBy ?? "")))
                .GroupBy(static slot => slot).Select(static slots => new Sample(slots.Count(), slots.Key.Target, slots.Key.Name, slots.Key.Author, slots.Key.AskedBy))),
        Counter("kamotel.shared_slot.uses", "{use}", "Uses of shared slots that were counted while that was watched.", ["target"], static s => s.Fleet.Targets.Select(static t => new Sample(t.SharedUses, t.Target))),
        Gauge("kamotel.instance.holders", "{process}", "Living processes by what their Thread#1 holds.", ["target", "holding"], static s => By<Holding>(s, static p => p.Holding, Words.Of)),
        Gauge("kamotel.instance.inspected_processes", "{process}", "Living processes by how their latest inspection ended.", ["target", "status"], static s => By<InspectionStatus>(s, static p => p.Inspection, Words.Of)),
        Gauge("kamotel.instance.inspection_time", "s", "When the target was inspected last, since the Unix epoch; the oldest of its instances.", ["target"], static s =>
            s.Fleet.Instances.GroupBy(static i => i.Target).Where(static t => t.All(static i => i.InspectedNs is not null))
                .Select(static t => new Sample(Math.Round(WallClock.ToTime(t.Min(static i => i.InspectedNs!.Value)).ToUnixTimeMilliseconds() / 1e3, 1), t.Key))),
        Gauge("kamotel.instance.processes", "{process}", "Living processes of watched servers, by role.", ["target", "role"], static s => ByRole(s, static p => p.Count())),
        Gauge("kamotel.instance.live_slots", "{slot}", "OpenSSL slots in Thread#1 that hold a pointer.", ["target", "role"], static s => ByRole(s, static p => p.Sum(static q => q.PointerSlots))),
        Gauge("kamotel.instance.inherited_slots", "{slot}", "Slots of workers' Thread#1 that still hold the pointer that the parent had at the fork.", ["target"], static s =>
            ByTarget(s, static t => t.Sum(static i => i.Processes.Sum(static p => p.InheritedSlots)))),
        Gauge("kamotel.instance.covered", "1", "1 when nothing was missed of the target's instances since their exec.", ["target"], static s =>
            ByTarget(s, static t => t.All(static i => i.Gaps == CoverageGaps.None) ? 1 : 0)),
        Gauge("kamotel.instance.gap", "1", "1 when this kind of thing was missed of one of the target's instances.", ["target", "gap"], static s =>
            s.Fleet.Instances.GroupBy(static i => i.Target).SelectMany(static t => Enum.GetValues<CoverageGaps>().Where(static g => g != CoverageGaps.None)
                .Select(gap => new Sample(t.Any(i => i.Gaps.HasFlag(gap)) ? 1 : 0, t.Key, Words.Of(gap))))),
        Gauge("kamotel.instance.start_time", "s", "When the target's latest instance was started, since the Unix epoch.", ["target"], static s =>
            ByTarget(s, static t => Math.Round(WallClock.ToTime(t.Max(static i => i.StartedNs)).ToUnixTimeMilliseconds() / 1e3, 1))),
        Gauge("kamotel.shared_memory.size", "By", "Shared memory that the target allocates from; of its instances the one with the least that is free.", ["target"], static s => BySharedMemory(s, static m => m.Size)),
        Gauge("kamotel.shared_memory.used", "By", "Shared memory that is given out, the manager's own share included; absent where it is not known.", ["target"], static s => BySharedMemory(s, static m => m.Used)),
        Gauge("kamotel.shared_memory.free", "By", "Shared memory that is left; absent where it is not known.", ["target"], static s => BySharedMemory(s, static m => m.Free)),
        Gauge("kamotel.shared_memory.max_used", "By", "The most shared memory that has been given out since the start; absent where it is not known.", ["target"], static s => BySharedMemory(s, static m => m.MaxUsed)),
        Counter("kamotel.events.received", "{event}", "Events taken from the kernel, by kind.", ["kind"], static s => s.Events.Select(static e => new Sample(e.Received, e.Kind))),
        Counter("kamotel.events.lost", "{event}", "Events dropped by the kernel side because a buffer was full, by kind.", ["kind"], static s => s.Events.Select(static e => new Sample(e.Lost, e.Kind))),
        Gauge("kamotel.probes.attached", "{probe}", "Files that carry a probe, by function, the instruction it stands on (entry: the first, whatever it is), and why it is the first.", ["function", "site", "reason"], static s =>
            s.Libraries.SelectMany(static l => l.Functions).GroupBy(static f => f).Select(static f => new Sample(f.Count(), f.Key.Name, f.Key.Site, f.Key.Reason))),
        Gauge("kamotel.libraries.probed", "{file}", "Files that carry probes.", [], static s => [new Sample(s.Libraries.Length)]),
        Counter("kamotel.attach.failures", "{file}", "Files that should carry probes and could not be probed.", [], static s => [new Sample(s.AttachFailures)]),
        AttachDelayLine,
        Counter("kamotel.inspections", "{inspection}", "Inspections of servers.", [], static s => [new Sample(s.Inspections)]),
        InspectionDurationLine,
        UnwindDurationLine,
        Counter("kamotel.unwinder.restarts", "{restart}", "Times that the process which unwinds stacks was started anew.", [], static s => [new Sample(s.UnwinderRestarts)]),
        Counter("kamotel.confirm_windows", "{window}", "Times that the use of shared slots was watched.", [], static s => [new Sample(s.ConfirmWindows)]),
        Gauge("kamotel.ring.size", "By", "Size of the ring between kernel and agent.", [], static s => [new Sample(s.RingBytes)]),
        Gauge("kamotel.ring.used", "By", "Bytes in the ring that wait to be read.", [], static s => [new Sample(s.RingUsedBytes)]),
        new("kamotel.telemetry.exported", InstrumentKind.Counter, "{item}", "Log records, spans and exports of metrics that the OTLP endpoint took.", ["signal"], static (_, t) =>
            Enum.GetValues<Signal>().Select(signal => new Sample(t.Exported(signal), Words.Of(signal)))),
        new("kamotel.telemetry.dropped", InstrumentKind.Counter, "{item}", "Log records, spans and exports of metrics that did not leave, by reason.", ["signal", "reason"], static (_, t) =>
            Enum.GetValues<Signal>().SelectMany(signal => new[]
            {
                new Sample(t.Dropped(signal, DropReason.QueueFull), Words.Of(signal), "queue_full"),
                new Sample(t.Dropped(signal, DropReason.ExportFailed), Words.Of(signal), "export_failed"),
            })),
        Gauge("kamotel.build.info", "1", "1, with what was built.", ["version", "revision"], static _ => [new Sample(1, CommandLine.Build.Version, CommandLine.Build.Revision)]),
        Gauge("kamotel.agent.memory", "By", "Resident memory of the agent.", [], static _ => [new Sample(Environment.WorkingSet)]),
        Counter("kamotel.agent.cpu_time", "s", "CPU time that the agent used.", [], static _ => [new Sample(Math.Round(Environment.CpuUsage.TotalTime.TotalSeconds, 3))]),
    ];

    /// <summary>Writes everything in Prometheus' text format, or as OpenMetrics, which has exemplars.</summary>
    public async Task WritePrometheusAsync(Stream stream, bool openMetrics, CancellationToken cancellation)
    {
        await _scrape.WaitAsync(cancellation);
        try
        {
            await _registry.CollectAndExportAsTextAsync(stream, openMetrics ? ExpositionFormat.OpenMetricsText : ExpositionFormat.PrometheusText, cancellation);
        }
        finally
        {
            _ = _scrape.Release();
        }
    }

    public void Dispose()
    {
        _meter.Dispose();
        _scrape.Dispose();
    }

    private static Instrument Counter(string name, string unit, string help, string[] attributes, Func<AgentSnapshot, IEnumerable<Sample>> read) =>
        new(name, InstrumentKind.Counter, unit, help, attributes, (snapshot, _) => read(snapshot));

    private static Instrument Gauge(string name, string unit, string help, string[] attributes, Func<AgentSnapshot, IEnumerable<Sample>> read) =>
        new(name, InstrumentKind.Gauge, unit, help, attributes, (snapshot, _) => read(snapshot));

    private static IEnumerable<Sample> ByTarget(AgentSnapshot snapshot, Func<IEnumerable<InstanceSnapshot>, double> value) =>
        snapshot.Fleet.Instances.GroupBy(static i => i.Target).Select(t => new Sample(value(t), t.Key));

    /// <summary>Of a target's instances the one that is nearest to its end, all figures of the same; one whose figures are not known is the last choice.</summary>
    private static IEnumerable<Sample> BySharedMemory(AgentSnapshot snapshot, Func<SharedMemoryPool, ulong?> value) =>
        snapshot.Fleet.Instances.Where(static i => i.Facts.SharedMemory is not null).GroupBy(static i => i.Target)
            .Select(t => (Target: t.Key, Value: value(t.OrderByDescending(static i => i.StartedNs).Select(static i => i.Facts.SharedMemory!).MinBy(static m => m.Free ?? ulong.MaxValue)!)))
            .Where(static t => t.Value is not null).Select(static t => new Sample(t.Value!.Value, t.Target));

    private static IEnumerable<Sample> ByRole(AgentSnapshot snapshot, Func<IEnumerable<ProcessSnapshot>, double> value) =>
        snapshot.Fleet.Instances.GroupBy(static i => i.Target).SelectMany(t => Enum.GetValues<ProcessRole>()
            .Select(role => new Sample(value(t.SelectMany(static i => i.Processes).Where(p => p.Role == role)), t.Key, Words.Of(role))));

    private static IEnumerable<Sample> By<T>(AgentSnapshot snapshot, Func<ProcessSnapshot, T?> of, Func<T, string> word)
        where T : struct, Enum =>
        snapshot.Fleet.Instances.GroupBy(static i => i.Target).SelectMany(t => Enum.GetValues<T>()
            .Select(value => new Sample(t.Sum(i => i.Processes.Count(p => of(p) is { } own && EqualityComparer<T>.Default.Equals(own, value))), t.Key, word(value))));

    private static Sample Info(InstanceSnapshot server) => new(
        1,
        server.Target,
        server.Facts.Kamailio ?? "",
        server.Facts.OpenSsl ?? "",
        server.Facts.TlsBackEnd ?? "",
        server.Facts.TlsThreadsMode?.ToString(System.Globalization.CultureInfo.InvariantCulture) ?? "",
        server.Container?.Id ?? "",
        server.Container?.PodUid ?? "",
        server.Container?.PodName ?? "");

    private void AddToMeter(Instrument instrument)
    {
        KeyValuePair<string, object?>[] Tags(Sample sample) =>
            [.. instrument.Attributes.Select((name, i) => new KeyValuePair<string, object?>(name, sample.Attributes[i]))];
        IEnumerable<Measurement<double>> Observe() =>
            instrument.Read(_state.Current, _telemetry).Select(sample => new Measurement<double>(sample.Value, Tags(sample)));
        _ = instrument.Kind == InstrumentKind.Counter
            ? _meter.CreateObservableCounter(instrument.Name, Observe, instrument.Unit, instrument.Help)
            : (ObservableInstrument<double>)_meter.CreateObservableGauge(instrument.Name, Observe, instrument.Unit, instrument.Help);
    }

    private void AddToPrometheus(MetricFactory factory, Instrument instrument)
    {
        if (instrument.Kind == InstrumentKind.Counter)
        {
            Counter counter = factory.CreateCounter(instrument.PrometheusName, instrument.Help, instrument.Attributes);
            _registry.AddBeforeCollectCallback(() =>
            {
                foreach (Sample sample in instrument.Read(_state.Current, _telemetry))
                {
                    Counter.Child series = counter.WithLabels(sample.Attributes);
                    if (sample.Value > series.Value)
                    {
                        Exemplar exemplar = _exemplars.For(instrument, in sample) is { } trace ? Exemplar.From(TraceIdLabel.WithValue(trace.ToHexString())) : Exemplar.None;
                        series.Inc(sample.Value - series.Value, exemplar);
                    }
                }
            });
            return;
        }
        Gauge gauge = factory.CreateGauge(instrument.PrometheusName, instrument.Help, instrument.Attributes);
        _registry.AddBeforeCollectCallback(() =>
        {
            var stale = gauge.GetAllLabelValues().Select(static labels => string.Join('\0', labels)).ToHashSet(StringComparer.Ordinal);
            foreach (Sample sample in instrument.Read(_state.Current, _telemetry))
            {
                gauge.WithLabels(sample.Attributes).Set(sample.Value);
                _ = stale.Remove(string.Join('\0', sample.Attributes));
            }
            if (instrument.Attributes.Length > 0)
            {
                foreach (string labels in stale)
                {
                    gauge.RemoveLabelled(labels.Split('\0'));
                }
            }
        });
    }

    /// <summary>A histogram that both sides record.</summary>
    internal sealed class HistogramOfBoth
    {
        private readonly Prometheus.Histogram _prometheus;
        private readonly Histogram<double> _meter;

        internal HistogramOfBoth(MetricFactory factory, Meter meter, Instrument line)
        {
            _prometheus = factory.CreateHistogram(line.PrometheusName, line.Help, new HistogramConfiguration { Buckets = SecondsBuckets });
            _meter = meter.CreateHistogram(line.Name, line.Unit, line.Help, tags: null, new InstrumentAdvice<double> { HistogramBucketBoundaries = SecondsBuckets });
        }

        /// <summary>Records one value.</summary>
        public void Record(double value)
        {
            _prometheus.Observe(value);
            _meter.Record(value);
        }
    }
}
