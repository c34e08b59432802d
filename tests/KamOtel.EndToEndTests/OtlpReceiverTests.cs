using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Logs;
using OpenTelemetry.Metrics;
using OpenTelemetry.Trace;

namespace KamOtel.EndToEndTests;

/// <summary>The measuring instrument itself: OpenTelemetry's own SDK sends, the receiver must read the same.</summary>
public sealed partial class OtlpReceiverTests
{
    public static TheoryData<OtlpExportProtocol> Protocols => [OtlpExportProtocol.Grpc, OtlpExportProtocol.HttpProtobuf];

    [Theory]
    [MemberData(nameof(Protocols))]
    public async Task The_receiver_reads_what_the_sdk_sent(OtlpExportProtocol protocol)
    {
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        Send(receiver, protocol).ShouldBeTrue();

        var log = receiver.Logs.ShouldHaveSingleItem();
        log.EventName().ShouldBe("greeting");
        log.Attributes.Get("Who").ShouldBe("world");
        receiver.Spans.ShouldHaveSingleItem().Name.ShouldBe("start");
        Samples samples = receiver.MetricRequests[0].AsSamples();
        samples.Sum("test_calls_total", ("kind", "a")).ShouldBe(3);
        samples.Sum("test_used_bytes").ShouldBe(7);
        samples.Sum("test_delay_seconds_bucket", ("le", "1")).ShouldBe(1);
        samples.Sum("test_delay_seconds_bucket", ("le", "+Inf")).ShouldBe(2);
        samples.Sum("test_delay_seconds_sum").ShouldBe(2.5);
        samples.Sum("test_delay_seconds_count").ShouldBe(2);
    }

    [Theory]
    [InlineData(ReceiverMode.Hang, OtlpExportProtocol.Grpc)]
    [InlineData(ReceiverMode.Hang, OtlpExportProtocol.HttpProtobuf)]
    [InlineData(ReceiverMode.Refuse, OtlpExportProtocol.Grpc)]
    [InlineData(ReceiverMode.Refuse, OtlpExportProtocol.HttpProtobuf)]
    [InlineData(ReceiverMode.Garbage, OtlpExportProtocol.Grpc)]
    internal async Task A_receiver_in_a_bad_mood_takes_nothing(ReceiverMode mode, OtlpExportProtocol protocol)
    {
        await using OtlpReceiver receiver = await OtlpReceiver.Start(mode: mode);
        Send(receiver, protocol).ShouldBeFalse();

        receiver.Requests.ShouldBeGreaterThan(0);
        receiver.Logs.ShouldBeEmpty();
        receiver.Spans.ShouldBeEmpty();
        receiver.MetricRequests.ShouldBeEmpty();
    }

    private static bool Send(OtlpReceiver receiver, OtlpExportProtocol protocol)
    {
        void Configure(OtlpExporterOptions options, string path)
        {
            options.Protocol = protocol;
            options.TimeoutMilliseconds = 500;
            options.Endpoint = protocol == OtlpExportProtocol.Grpc ? receiver.Grpc : new Uri(receiver.Http, path);
        }
        using var meter = new Meter("test");
        using var source = new ActivitySource("test");
        bool sent;
        using (MeterProvider meters = Sdk.CreateMeterProviderBuilder().AddMeter("test")
            .AddView("test.delay", new ExplicitBucketHistogramConfiguration { Boundaries = [1] })
            .AddOtlpExporter((options, reader) =>
            {
                Configure(options, "v1/metrics");
                reader.PeriodicExportingMetricReaderOptions.ExportIntervalMilliseconds = int.MaxValue;
            }).Build())
        using (TracerProvider tracers = Sdk.CreateTracerProviderBuilder().AddSource("test")
            .AddOtlpExporter(options => Configure(options, "v1/traces")).Build())
        {
            meter.CreateCounter<long>("test.calls", "{call}").Add(3, new KeyValuePair<string, object?>("kind", "a"));
            _ = meter.CreateObservableGauge("test.used", static () => 7L, "By");
            Histogram<double> delay = meter.CreateHistogram<double>("test.delay", "s");
            delay.Record(0.5);
            delay.Record(2);
            source.StartActivity("start")?.Dispose();
            using (ILoggerFactory loggers = LoggerFactory.Create(builder => builder.AddOpenTelemetry(logging =>
                logging.AddOtlpExporter(options => Configure(options, "v1/logs")))))
            {
                ILogger logger = loggers.CreateLogger("test");
                Greet(logger, "world");
            }
            sent = meters.ForceFlush(5000) & tracers.ForceFlush(5000);
        }
        return sent && receiver.Logs.Any();
    }

    [LoggerMessage(EventName = "greeting", Level = LogLevel.Information, Message = "hello {Who}")]
    private static partial void Greet(ILogger logger, string who);
}
