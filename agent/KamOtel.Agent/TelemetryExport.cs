using System.Diagnostics;
using System.Globalization;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Logs;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace KamOtel.Agent;

/// <summary>
/// Sends metrics, log events and spans by OTLP. A dead or hanging endpoint costs a bounded queue and nothing else; what
/// does not get through is counted.
/// </summary>
internal sealed partial class TelemetryExport(OtlpSettings settings, TelemetrySink sink, TelemetryCounters counters, Instruments instruments, ILogger<TelemetryExport> logger)
    : IHostedService, IDisposable
{
    private const int StopWithinMs = 2000;

    private readonly ActivitySource _source = new(Instruments.Scope, CommandLine.Build.Version);
    private readonly CancellationTokenSource _stopping = new();
    private MeterProvider? _metrics;
    private TracerProvider? _tracer;
    private ILoggerFactory? _loggers;
    private ILogger? _events;
    private BaseProcessor<LogRecord>? _logProcessor;
    private Task? _drain;
    private int _logQueue;
    private int _traceQueue;

    public Task StartAsync(CancellationToken cancellationToken)
    {
        if (!settings.Any)
        {
            return Task.CompletedTask;
        }
        _ = instruments; // The meter's instruments exist before its provider looks for them.
        ResourceBuilder resource = ResourceBuilder.CreateEmpty()
            .AddTelemetrySdk()
            .AddService("kamotel", serviceVersion: CommandLine.Build.Version, autoGenerateServiceInstanceId: true)
            .AddAttributes([new("host.name", Environment.MachineName)])
            .AddEnvironmentVariableDetector();
        if (settings.Metrics)
        {
            _metrics = Sdk.CreateMeterProviderBuilder()
                .SetResourceBuilder(resource)
                .AddMeter(Instruments.Scope)
                .AddReader(new CountingReader(Make(Signal.Metrics, static o => new OtlpMetricExporter(o), out ExportReport report), settings.MetricIntervalMs, report))
                .Build();
        }
        if (settings.Traces)
        {
            var batch = new BatchExportActivityProcessorOptions();
            _traceQueue = batch.MaxQueueSize;
            OtlpTraceExporter exporter = Make(Signal.Traces, static o => new OtlpTraceExporter(o), out ExportReport report);
            _tracer = Sdk.CreateTracerProviderBuilder()
                .SetResourceBuilder(resource)
                .SetSampler(new AlwaysOnSampler()) // A start is seldom, and each matters.
                .AddSource(Instruments.Scope)
                .AddProcessor(new BindingProcessor<Activity>(exporter))
                .AddProcessor(new BatchActivityExportProcessor(
                    new CountingExporter<Activity>(exporter, report), batch.MaxQueueSize, batch.ScheduledDelayMilliseconds, batch.ExporterTimeoutMilliseconds, batch.MaxExportBatchSize))
                .Build();
        }
        if (settings.Logs)
        {
            var batch = new BatchExportLogRecordProcessorOptions();
            _logQueue = batch.MaxQueueSize;
            OtlpLogExporter exporter = Make(Signal.Logs, static o => new OtlpLogExporter(o), out ExportReport report);
            _logProcessor = new BatchLogRecordExportProcessor(
                new CountingExporter<LogRecord>(exporter, report), batch.MaxQueueSize, batch.ScheduledDelayMilliseconds, batch.ExporterTimeoutMilliseconds, batch.MaxExportBatchSize);
            _loggers = LoggerFactory.Create(logging => logging.AddOpenTelemetry(options =>
            {
                options.SetResourceBuilder(resource);
                options.IncludeFormattedMessage = true;
                options.AddProcessor(new KernelTimeProcessor());
                options.AddProcessor(new BindingProcessor<LogRecord>(exporter));
                options.AddProcessor(_logProcessor);
            }));
            _events = _loggers.CreateLogger("KamOtel.Events");
        }
        if (settings.Logs || settings.Traces)
        {
            _drain = Task.Run(DrainAsync, CancellationToken.None);
        }
        Sending(logger, string.Join(", ", new[] { settings.Metrics ? "metrics" : null, settings.Logs ? "logs" : null, settings.Traces ? "traces" : null }.OfType<string>()));
        return Task.CompletedTask;
    }

    public async Task StopAsync(CancellationToken cancellationToken)
    {
        sink.Complete(Linux.BootClock.NowNs);
        if (_drain is { } drain)
        {
            await _stopping.CancelAsync();
            await drain.WaitAsync(TimeSpan.FromMilliseconds(StopWithinMs / 4), CancellationToken.None).ContinueWith(static _ => { }, TaskScheduler.Default);
        }
        // Side by side: a hanging endpoint must not make the agent hang three times.
        await Task.WhenAll(
            Task.Run(() => _metrics?.Shutdown(StopWithinMs), CancellationToken.None),
            Task.Run(() => _tracer?.Shutdown(StopWithinMs), CancellationToken.None),
            Task.Run(() => _logProcessor?.Shutdown(StopWithinMs), CancellationToken.None))
            .WaitAsync(TimeSpan.FromMilliseconds(StopWithinMs + 500), CancellationToken.None).ContinueWith(static _ => { }, TaskScheduler.Default);
    }

    public void Dispose()
    {
        // The providers were shut down within their time; disposing them waits for a hanging endpoint without end.
        _source.Dispose();
        _stopping.Dispose();
    }

    /// <summary>An exporter, and the report of what becomes of its exports.</summary>
    private T Make<T>(Signal signal, Func<OtlpExporterOptions, T> make, out ExportReport report)
    {
        report = new ExportReport(signal, counters, logger);
        OtlpExporterOptions options = report.Watch(settings.For(Words.Of(signal).ToUpperInvariant()), settings.OwnCertificates);
        try
        {
            return make(options);
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or NotSupportedException or IOException)
        {
            // A certificate that is none, say: the SDK looks into the files.
            throw new UsageException($"{settings.Suspects}: the exporter of {Words.Of(signal)} cannot be made: {e.Message}");
        }
    }

    private async Task DrainAsync()
    {
        await foreach (TelemetryItem item in sink.Items.ReadAllAsync(CancellationToken.None))
        {
            if (item.Span is { } span)
            {
                await span.EmitAsync(_source, () => AdmitAsync(Signal.Traces), below => counters.CountDropped(Signal.Traces, DropReason.QueueFull, below));
            }
            else if (await AdmitAsync(Signal.Logs))
            {
                EventLog.Write(_events!, in item);
            }
        }
    }

    /// <summary>Waits for room for one, and counts it in; false, and counts it out, when there will be none.</summary>
    private async ValueTask<bool> AdmitAsync(Signal signal)
    {
        if (!await HasRoomAsync(signal))
        {
            counters.CountDropped(signal, DropReason.QueueFull);
            return false;
        }
        counters.CountOffered(signal);
        return true;
    }

    /// <summary>
    /// Waits until the SDK's queue has room, for it drops without a count. False when the agent stops before.
    /// </summary>
    private async ValueTask<bool> HasRoomAsync(Signal signal)
    {
        int most = Math.Max(1, signal == Signal.Logs ? _logQueue : _traceQueue);
        while (counters.InFlight(signal) >= most)
        {
            if (_stopping.IsCancellationRequested)
            {
                return false;
            }
            await Task.Delay(20, CancellationToken.None);
        }
        return true;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "sending {Signals} by OTLP")]
    private static partial void Sending(ILogger logger, string signals);

    /// <summary>A log record carries the time of what it tells, not the time when it was written.</summary>
    private sealed class KernelTimeProcessor : BaseProcessor<LogRecord>
    {
        public override void OnEnd(LogRecord data)
        {
            if (data.Attributes is EventAttributes attributes)
            {
                data.Timestamp = attributes.Time.UtcDateTime;
            }
        }
    }
}

/// <summary>The attributes of one log event, and its time.</summary>
internal sealed class EventAttributes(DateTimeOffset time) : List<KeyValuePair<string, object?>>
{
    public DateTimeOffset Time { get; } = time;

    public void Add(string name, object? value) => Add(new KeyValuePair<string, object?>(name, value));
}

/// <summary>Writes the fleet's conclusions as log events.</summary>
internal static class EventLog
{
    public static void Write(ILogger log, in TelemetryItem item)
    {
        var attributes = new EventAttributes(WallClock.ToTime(item.TimeNs));
        (ProcessId process, int? tid) = item.Crash is { } crash ? (crash.Process, crash.Tid) : (item.Observation.Process, item.Observation.Tid);
        if (process.Tgid != 0)
        {
            attributes.Add("process.pid", (long)process.Tgid);
            attributes.Add("process.creation.time", WallClock.ToTime(process.StartTicks * ProcessId.NanosecondsPerTick).ToString("O", CultureInfo.InvariantCulture));
            if (tid is { } thread)
            {
                attributes.Add("thread.id", (long)thread);
            }
        }
        attributes.Add("process.executable.name", item.Instance.Program);
        attributes.Add("kamotel.target", item.Instance.Target);
        attributes.Add("kamotel.instance", item.Instance.Id.ToString());
        attributes.AddRange(ContainerAttributes.Of(item.Instance));
        (string name, LogLevel level, string text) = Describe(in item, attributes);
        log.Log(level, new EventId((int)item.Kind + 1, name), attributes, exception: null, (_, _) => text);
    }

    private static (string Name, LogLevel Level, string Text) Describe(in TelemetryItem item, EventAttributes attributes)
    {
        Observation observation = item.Observation;
        switch (item.Kind)
        {
            case ItemKind.Found:
                attributes.Add("kamotel.since_exec", item.Instance.SinceExec);
                return ("kamotel.instance.found", LogLevel.Information, item.Instance.SinceExec ? $"{item.Instance.Program} started" : $"{item.Instance.Program} was found running");
            case ItemKind.Call:
                attributes.Add("kamotel.call", Words.Of(observation.Kind));
                attributes.Add("kamotel.thread.main", observation.MainThread);
                attributes.Add("kamotel.role", Words.Of(item.Call.Role));
                attributes.Add("kamotel.phase", Words.Of(item.Call.Phase));
                attributes.Add("kamotel.value.kind", Words.Of(item.Call.Value));
                if (observation.Key is { } key)
                {
                    attributes.Add("kamotel.key", (long)key);
                }
                if (item.Call.Value is not SlotValueKind.None)
                {
                    attributes.Add("kamotel.value", $"0x{observation.Value:x}");
                }
                if (item.Chain is { } chain)
                {
                    var author = new TraceAttributes();
                    StartTrace.AddAuthor(author, chain);
                    attributes.AddRange(author);
                }
                return ("kamotel.thread_local.call", LogLevel.Information, $"{Words.Of(observation.Kind)} in {(observation.MainThread ? "Thread#1" : "another thread")} of {Words.Of(item.Call.Role)}, {Words.Of(item.Call.Phase)}");
            case ItemKind.Exited:
                bool bySignal = (observation.Status & 0x7f) != 0;
                attributes.Add("kamotel.role", Words.Of(item.Role));
                attributes.Add(bySignal ? "kamotel.exit.signal" : "kamotel.exit.code", (long)(bySignal ? observation.Status & 0x7f : (observation.Status >> 8) & 0xff));
                return ("kamotel.process.exit", bySignal ? LogLevel.Error : LogLevel.Warning, $"{Words.Of(item.Role)} ended with {Words.OfStatus(observation.Status)}");
            case ItemKind.Crashed:
                attributes.AddRange(CrashTelemetry.AttributesOf(item.Crash!));
                return ("kamotel.crash", LogLevel.Error, $"{Words.Of(item.Crash!)}; last OpenSSL call: {Words.OfPast(item.Crash!)}");
            case ItemKind.Complained:
                (Complaint complaint, ComplaintContext context) = item.Complaint!.Value;
                attributes.AddRange(CrashTelemetry.AttributesOf(complaint, in context));
                return ("kamotel.memory.complaint", complaint.IsDamage ? LogLevel.Error : LogLevel.Warning, Words.Of(complaint, in context));
            case ItemKind.Ready:
                attributes.Add("kamotel.processes", (long)item.Snapshot!.Processes.Length);
                attributes.Add("kamotel.main_thread_calls_before_fork", item.Snapshot.MainThreadCallsBeforeFork);
                return ("kamotel.instance.ready", LogLevel.Information, $"{item.Instance.Program} is ready");
            case ItemKind.Verdict:
                attributes.Add("kamotel.verdict", Words.Of(item.Snapshot!.Verdict));
                attributes.Add("kamotel.verdict.before", item.Detail);
                attributes.Add("kamotel.reason", item.Snapshot.Reason);
                if (Advisor.For(item.Snapshot) is { IsEmpty: false } advice)
                {
                    attributes.Add("kamotel.advice", advice.Select(static a => a.ToString()).ToArray());
                }
                return ("kamotel.instance.verdict", item.Snapshot.Verdict switch { >= Verdict.Hazard => LogLevel.Error, Verdict.Exposed => LogLevel.Warning, _ => LogLevel.Information }, $"{Words.Of(item.Snapshot.Verdict)}: {item.Snapshot.Reason}");
            case ItemKind.Confirmed:
                long uses = item.Snapshot!.SharedUses.Sum(static u => u.Count);
                long users = item.Snapshot.SharedUses.Select(static u => u.Process).Distinct().Count();
                attributes.Add("kamotel.shared_uses", uses);
                attributes.Add("kamotel.processes", users);
                attributes.Add("kamotel.window", item.WindowNs / 1e9);
                return ("kamotel.instance.confirmed", uses > 0 ? LogLevel.Error : LogLevel.Warning, $"shared slots were used {uses} times in {item.WindowNs / 1e9:0.0} s, by {users} of {item.Snapshot.Processes.Length} processes");
            case ItemKind.Gap:
                attributes.Add("kamotel.gap", Words.Of(item.Gap));
                return ("kamotel.instance.gap", LogLevel.Warning, item.Detail!);
            default:
                return ("kamotel.instance.ended", LogLevel.Information, $"{item.Instance.Program} ended");
        }
    }
}
