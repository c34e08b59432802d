using System.Collections.Immutable;
using System.Net;
using Google.Protobuf;
using Grpc.Core;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Opentelemetry.Proto.Collector.Logs.V1;
using Opentelemetry.Proto.Collector.Metrics.V1;
using Opentelemetry.Proto.Collector.Trace.V1;
using Opentelemetry.Proto.Common.V1;
using Opentelemetry.Proto.Logs.V1;
using Opentelemetry.Proto.Metrics.V1;
using Opentelemetry.Proto.Trace.V1;

namespace KamOtel.EndToEndTests;

/// <summary>How the receiver treats a request.</summary>
internal enum ReceiverMode
{
    /// <summary>Takes it.</summary>
    Answer,

    /// <summary>Never answers.</summary>
    Hang,

    /// <summary>Says that it is unavailable.</summary>
    Refuse,

    /// <summary>Answers with bytes that mean nothing.</summary>
    Garbage,
}

/// <summary>
/// An OpenTelemetry collector that keeps what it gets: gRPC without TLS and HTTP/protobuf, on loopback. It decodes with
/// the official schema.
/// </summary>
internal sealed class OtlpReceiver : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly Store _store;

    private OtlpReceiver(WebApplication application, Store store, Uri grpc, Uri http)
    {
        _application = application;
        _store = store;
        Grpc = grpc;
        Http = http;
    }

    /// <summary>Endpoint for OTEL_EXPORTER_OTLP_PROTOCOL=grpc.</summary>
    public Uri Grpc { get; }

    /// <summary>Endpoint for OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf.</summary>
    public Uri Http { get; }

    /// <summary>How it treats requests from now on; those that hang go on hanging.</summary>
    public ReceiverMode Mode
    {
        get => _store.Mode;
        set => _store.Mode = value;
    }

    /// <summary>Requests that came in, whatever became of them.</summary>
    public int Requests => _store.Requests;

    /// <summary>All taken requests with logs, oldest first.</summary>
    public ImmutableArray<ExportLogsServiceRequest> LogRequests => _store.Logs;

    /// <summary>All taken requests with spans, oldest first.</summary>
    public ImmutableArray<ExportTraceServiceRequest> TraceRequests => _store.Traces;

    /// <summary>All taken requests with metrics, oldest first.</summary>
    public ImmutableArray<ExportMetricsServiceRequest> MetricRequests => _store.Metrics;

    /// <summary>All log records, in the order they came.</summary>
    public IEnumerable<LogRecord> Logs =>
        LogRequests.SelectMany(static request => request.ResourceLogs)
            .SelectMany(static resource => resource.ScopeLogs).SelectMany(static scope => scope.LogRecords);

    /// <summary>All spans, in the order they came.</summary>
    public IEnumerable<Span> Spans =>
        TraceRequests.SelectMany(static request => request.ResourceSpans)
            .SelectMany(static resource => resource.ScopeSpans).SelectMany(static scope => scope.Spans);

    /// <summary>Starts it.</summary>
    /// <param name="grpcPort">0 for a free one.</param>
    /// <param name="httpPort">0 for a free one.</param>
    /// <param name="mode">How it treats requests.</param>
    public static async Task<OtlpReceiver> Start(int grpcPort = 0, int httpPort = 0, ReceiverMode mode = ReceiverMode.Answer)
    {
        var store = new Store { Mode = mode };
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        _ = builder.Logging.ClearProviders();
        _ = builder.Services.AddGrpc(static options => options.MaxReceiveMessageSize = null);
        _ = builder.Services.AddSingleton(store).AddSingleton<LogsReceiver>().AddSingleton<TraceReceiver>().AddSingleton<MetricsReceiver>();
        _ = builder.WebHost.ConfigureKestrel(options =>
        {
            options.Listen(IPAddress.Loopback, grpcPort, static listen => listen.Protocols = HttpProtocols.Http2);
            options.Listen(IPAddress.Loopback, httpPort, static listen => listen.Protocols = HttpProtocols.Http1);
        });
        WebApplication application = builder.Build();
        _ = application.Use((context, next) => Treat(store, context, next));
        _ = application.MapGrpcService<LogsReceiver>();
        _ = application.MapGrpcService<TraceReceiver>();
        _ = application.MapGrpcService<MetricsReceiver>();
        Map(application, "/v1/logs", ExportLogsServiceRequest.Parser, store.Add, new ExportLogsServiceResponse());
        Map(application, "/v1/traces", ExportTraceServiceRequest.Parser, store.Add, new ExportTraceServiceResponse());
        Map(application, "/v1/metrics", ExportMetricsServiceRequest.Parser, store.Add, new ExportMetricsServiceResponse());
        await application.StartAsync();
        // In the order of the Listen calls.
        Uri[] addresses = [.. application.Services.GetRequiredService<IServer>().Features
            .GetRequiredFeature<IServerAddressesFeature>().Addresses.Select(static address => new Uri(address))];
        return new OtlpReceiver(application, store, addresses[0], addresses[1]);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        // A request that hangs is cut off, not waited for.
        using var now = new CancellationTokenSource(TimeSpan.Zero);
        try
        {
            await _application.StopAsync(now.Token);
        }
        catch (OperationCanceledException)
        {
            // So it was.
        }
        await _application.DisposeAsync();
    }

    private static async Task Treat(Store store, HttpContext context, RequestDelegate next)
    {
        store.Count();
        bool grpc = context.Request.Protocol == HttpProtocol.Http2;
        switch (store.Mode)
        {
            case ReceiverMode.Hang:
                await Task.Delay(Timeout.Infinite, context.RequestAborted).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                break;
            case ReceiverMode.Refuse when grpc:
                context.Response.ContentType = "application/grpc";
                context.Response.Headers["grpc-status"] = $"{(int)StatusCode.Unavailable}";
                break;
            case ReceiverMode.Refuse:
                context.Response.StatusCode = StatusCodes.Status503ServiceUnavailable;
                break;
            case ReceiverMode.Garbage:
                context.Response.ContentType = grpc ? "application/grpc" : "application/x-protobuf";
                await context.Response.Body.WriteAsync((ReadOnlyMemory<byte>)new byte[] { 0xff, 0xfe, 0x00, 0x7b, 0xff });
                break;
            default:
                await next(context);
                break;
        }
    }

    private static void Map<T>(WebApplication application, string path, MessageParser<T> parser, Action<T> add, IMessage answer)
        where T : IMessage<T> =>
        application.MapPost(path, async context =>
        {
            using var body = new MemoryStream();
            await context.Request.Body.CopyToAsync(body);
            add(parser.ParseFrom(body.ToArray()));
            context.Response.ContentType = "application/x-protobuf";
            await context.Response.Body.WriteAsync(answer.ToByteArray());
        });

    /// <summary>What came in. Any thread.</summary>
    private sealed class Store
    {
        private readonly Lock _lock = new();
        private int _requests;

        public volatile ReceiverMode Mode;

        public int Requests => Volatile.Read(ref _requests);

        public ImmutableArray<ExportLogsServiceRequest> Logs { get; private set; } = [];

        public ImmutableArray<ExportTraceServiceRequest> Traces { get; private set; } = [];

        public ImmutableArray<ExportMetricsServiceRequest> Metrics { get; private set; } = [];

        public void Count() => Interlocked.Increment(ref _requests);

        public void Add(ExportLogsServiceRequest request)
        {
            lock (_lock)
            {
                Logs = Logs.Add(request);
            }
        }

        public void Add(ExportTraceServiceRequest request)
        {
            lock (_lock)
            {
                Traces = Traces.Add(request);
            }
        }

        public void Add(ExportMetricsServiceRequest request)
        {
            lock (_lock)
            {
                Metrics = Metrics.Add(request);
            }
        }
    }

    private sealed class LogsReceiver(Store store) : LogsService.LogsServiceBase
    {
        public override Task<ExportLogsServiceResponse> Export(ExportLogsServiceRequest request, ServerCallContext context)
        {
            store.Add(request);
            return Task.FromResult(new ExportLogsServiceResponse());
        }
    }

    private sealed class TraceReceiver(Store store) : TraceService.TraceServiceBase
    {
        public override Task<ExportTraceServiceResponse> Export(ExportTraceServiceRequest request, ServerCallContext context)
        {
            store.Add(request);
            return Task.FromResult(new ExportTraceServiceResponse());
        }
    }

    private sealed class MetricsReceiver(Store store) : MetricsService.MetricsServiceBase
    {
        public override Task<ExportMetricsServiceResponse> Export(ExportMetricsServiceRequest request, ServerCallContext context)
        {
            store.Add(request);
            return Task.FromResult(new ExportMetricsServiceResponse());
        }
    }
}

/// <summary>Reading OTLP.</summary>
internal static class Otlp
{
    /// <summary>An attribute as text, or null when it is not there.</summary>
    public static string? Get(this IEnumerable<KeyValue> attributes, string name) =>
        attributes.FirstOrDefault(attribute => attribute.Key == name)?.Value is { } value ? Text(value) : null;

    /// <summary>A value as text.</summary>
    public static string Text(AnyValue value) => value.ValueCase switch
    {
        AnyValue.ValueOneofCase.StringValue => value.StringValue,
        AnyValue.ValueOneofCase.BoolValue => value.BoolValue ? "true" : "false",
        AnyValue.ValueOneofCase.IntValue => $"{value.IntValue}",
        AnyValue.ValueOneofCase.DoubleValue => $"{value.DoubleValue}",
        _ => value.ToString(),
    };

    /// <summary>
    /// The record's event name. Field 12 is younger than the schema that the tests can get, so it is read from the
    /// record's bytes.
    /// </summary>
    public static string EventName(this LogRecord record)
    {
        var input = new CodedInputStream(record.ToByteArray());
        string name = "";
        for (uint tag = input.ReadTag(); tag != 0; tag = input.ReadTag())
        {
            if (WireFormat.GetTagFieldNumber(tag) == 12)
            {
                name = input.ReadString();
            }
            else
            {
                input.SkipLastField();
            }
        }
        return name;
    }

    /// <summary>The numbers of the newest export, as Prometheus would name them.</summary>
    public static Samples AsSamples(this ExportMetricsServiceRequest request)
    {
        var samples = new List<Sample>();
        foreach (Metric metric in request.ResourceMetrics.SelectMany(static resource => resource.ScopeMetrics).SelectMany(static scope => scope.Metrics))
        {
            string name = PrometheusName(metric);
            switch (metric.DataCase)
            {
                case Metric.DataOneofCase.Gauge:
                    samples.AddRange(metric.Gauge.DataPoints.Select(point => Number(name, point)));
                    break;
                case Metric.DataOneofCase.Sum:
                    metric.Sum.AggregationTemporality.ShouldBe(AggregationTemporality.Cumulative, name);
                    samples.AddRange(metric.Sum.DataPoints.Select(point => Number(name, point)));
                    break;
                case Metric.DataOneofCase.Histogram:
                    metric.Histogram.AggregationTemporality.ShouldBe(AggregationTemporality.Cumulative, name);
                    samples.AddRange(metric.Histogram.DataPoints.SelectMany(point => Histogram(name, point)));
                    break;
                default:
                    Assert.Fail($"{metric.Name} is a {metric.DataCase}: Prometheus has nothing equal");
                    break;
            }
        }
        return new Samples(samples);
    }

    private static string PrometheusName(Metric metric)
    {
        string name = Sanitised(metric.Name);
        string unit = metric.Unit switch
        {
            "s" => "seconds",
            "ms" => "milliseconds",
            "ns" => "nanoseconds",
            "By" => "bytes",
            _ => "", // {annotations} and 1 are no units
        };
        if (unit.Length > 0 && !name.EndsWith($"_{unit}", StringComparison.Ordinal))
        {
            name = $"{name}_{unit}";
        }
        return metric is { DataCase: Metric.DataOneofCase.Sum, Sum.IsMonotonic: true } ? $"{name}_total" : name;
    }

    private static string Sanitised(string name) =>
        string.Concat(name.Select(static character => char.IsAsciiLetterOrDigit(character) ? character : '_'));

    private static Dictionary<string, string> Labels(IEnumerable<KeyValue> attributes) =>
        attributes.ToDictionary(static attribute => Sanitised(attribute.Key), static attribute => Text(attribute.Value));

    private static Sample Number(string name, NumberDataPoint point) =>
        new(name, Labels(point.Attributes), point.ValueCase == NumberDataPoint.ValueOneofCase.AsInt ? point.AsInt : point.AsDouble);

    private static IEnumerable<Sample> Histogram(string name, HistogramDataPoint point)
    {
        Dictionary<string, string> labels = Labels(point.Attributes);
        double below = 0;
        for (int i = 0; i < point.BucketCounts.Count; i++)
        {
            below += point.BucketCounts[i];
            string bound = i < point.ExplicitBounds.Count ? $"{point.ExplicitBounds[i]}" : "+Inf";
            yield return new Sample($"{name}_bucket", new Dictionary<string, string>(labels) { ["le"] = bound }, below);
        }
        yield return new Sample($"{name}_sum", labels, point.Sum);
        yield return new Sample($"{name}_count", labels, point.Count);
    }
}
