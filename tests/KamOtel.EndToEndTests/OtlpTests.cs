using System.Globalization;
using Opentelemetry.Proto.Common.V1;
using Opentelemetry.Proto.Logs.V1;
using Opentelemetry.Proto.Trace.V1;

namespace KamOtel.EndToEndTests;

/// <summary>What leaves by OTLP.</summary>
public sealed class OtlpTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Each_call_is_one_log_event_with_its_thread_phase_and_kernel_time(bool http)
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver, http));
        DateTimeOffset before = DateTimeOffset.UtcNow;
        _ = await server.Start();
        await server.Handshake();
        Samples metrics = await agent.AtRest(server.Configuration);
        DateTimeOffset after = DateTimeOffset.UtcNow;

        int counted = (int)metrics.Sum("kamotel_thread_local_calls_total", ("target", server.Configuration));
        await Until.True($"{counted} log events of calls", () => Calls(receiver, server).Length >= counted);
        LogRecord[] calls = Calls(receiver, server);
        calls.Length.ShouldBe(counted);
        foreach (LogRecord call in calls)
        {
            Time(call.TimeUnixNano).ShouldBeInRange(before.AddSeconds(-1), after.AddSeconds(1));
            call.Attributes.Get("process.executable.name").ShouldBe("kamailio");
            call.Attributes.Get("kamotel.call").ShouldBeOneOf("init_local", "set_local", "cleanup_local");
            call.Attributes.Get("kamotel.phase").ShouldBeOneOf("before_fork", "after_fork");
            call.Attributes.Get("kamotel.role").ShouldBeOneOf("root", "worker");
            string main = call.Attributes.Get("process.pid") == call.Attributes.Get("thread.id") ? "true" : "false";
            call.Attributes.Get("kamotel.thread.main").ShouldBe(main);
            DateTimeOffset.Parse(call.Attributes.Get("process.creation.time")!, CultureInfo.InvariantCulture)
                .ShouldBeInRange(before.AddSeconds(-1), after.AddSeconds(1));
        }
        foreach (IGrouping<string?, LogRecord> thread in calls.GroupBy(static call => call.Attributes.Get("thread.id")))
        {
            thread.Select(static call => call.TimeUnixNano).ShouldBeInOrder();
        }
        calls.ShouldContain(static call => call.Attributes.Get("kamotel.role") == "root" && call.Attributes.Get("kamotel.phase") == "before_fork");
        string[] names = [.. receiver.Logs.Where(log => log.Attributes.Get("kamotel.target") == server.Configuration).Select(static log => log.EventName())];
        names.Count(static name => name == "kamotel.instance.found").ShouldBe(1);
        names.Count(static name => name == "kamotel.instance.ready").ShouldBe(1);
        names.ShouldContain("kamotel.instance.verdict");
    }

    [Fact]
    public async Task Each_start_of_a_server_is_one_trace_from_exec_to_ready()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        DateTimeOffset before = DateTimeOffset.UtcNow;
        int first = await server.Start();
        _ = await agent.AtRest(server.Configuration);
        _ = await server.Stop();
        await server.Process!.DisposeAsync();
        int second = await server.Start();
        Samples metrics = await agent.AtRest(server.Configuration);
        DateTimeOffset after = DateTimeOffset.UtcNow;

        Span[] Starts() => [.. receiver.Spans.Where(span => span.Name == "kamailio start" && span.Attributes.Get("kamotel.target") == server.Configuration)];
        await Until.True("two spans", () => Starts().Length >= 2);
        Span[] spans = Starts();
        spans.Length.ShouldBe(2);
        metrics.Sum("kamotel_execs_total", ("target", server.Configuration)).ShouldBe(2);
        spans.Select(static span => span.TraceId.ToBase64()).Distinct().Count().ShouldBe(2);
        spans.Select(static span => span.Attributes.Get("process.pid")).ShouldBe([$"{first}", $"{second}"]);
        foreach (Span span in spans)
        {
            span.ParentSpanId.ShouldBeEmpty();
            // The proof comes before the server is ready or right after, in the same trace.
            Span[] OfTrace() => [.. receiver.Spans.Where(other => other.TraceId == span.TraceId)];
            await Until.True("the hazard in the trace", () => OfTrace().Any(static s => s.Attributes.Get("kamotel.verdict") == "hazard"));
            span.Attributes.Get("kamotel.verdict").ShouldBeOneOf("exposed", "hazard");
            HashSet<Google.Protobuf.ByteString> ids = [.. OfTrace().Select(static s => s.SpanId)];
            OfTrace().Where(other => other.SpanId != span.SpanId).ShouldAllBe(other => ids.Contains(other.ParentSpanId));
            OfTrace().Single(static s => s.Attributes.Get("kamotel.verdict") == "hazard").Status.Code.ShouldBe(Status.Types.StatusCode.Error);
            span.Attributes.Get("kamotel.covered").ShouldBe("true");
            Time(span.StartTimeUnixNano).ShouldBeInRange(before.AddSeconds(-1), after);
            Time(span.EndTimeUnixNano).ShouldBeInRange(Time(span.StartTimeUnixNano).AddMilliseconds(1), after.AddSeconds(1));
            span.Events.Count(static e => e.Name == "fork").ShouldBeGreaterThanOrEqualTo(4);
            OfTrace().Count(static s => s.Name == "CRYPTO_THREAD_set_local" && s.Attributes.Get("kamotel.phase") == "before_fork")
                .ShouldBe(int.Parse(span.Attributes.Get("kamotel.main_thread_calls_before_fork")!));
            foreach (Span.Types.Event e in span.Events)
            {
                Time(e.TimeUnixNano).ShouldBeInRange(Time(span.StartTimeUnixNano), Time(span.EndTimeUnixNano).AddSeconds(2));
            }
        }
    }

    [Fact]
    public async Task The_resource_names_the_agent_and_takes_what_the_environment_adds()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        Dictionary<string, string?> environment = AgentProcess.ExportTo(receiver);
        environment["OTEL_RESOURCE_ATTRIBUTES"] = "deployment.environment.name=staging";
        await using AgentProcess agent = await AgentProcess.Start(environment);
        _ = await server.Start();
        await Until.True(
            "logs, spans and metrics", () => !receiver.LogRequests.IsEmpty && !receiver.TraceRequests.IsEmpty && !receiver.MetricRequests.IsEmpty);

        KeyValue[][] resources =
        [
            [.. receiver.LogRequests[0].ResourceLogs[0].Resource.Attributes],
            [.. receiver.TraceRequests[0].ResourceSpans[0].Resource.Attributes],
            [.. receiver.MetricRequests[0].ResourceMetrics[0].Resource.Attributes],
        ];
        foreach (KeyValue[] resource in resources)
        {
            resource.Get("service.name").ShouldBe("kamotel");
            resource.Get("service.version").ShouldNotBeNullOrEmpty();
            resource.Get("service.instance.id").ShouldNotBeNullOrEmpty();
            resource.Get("host.name").ShouldBe(System.Environment.MachineName);
            resource.Get("telemetry.sdk.language").ShouldBe("dotnet");
            resource.Get("deployment.environment.name").ShouldBe("staging");
        }
        resources.Select(static resource => resource.Get("service.instance.id")).Distinct().Count().ShouldBe(1);
    }

    private static LogRecord[] Calls(OtlpReceiver receiver, KamailioServer server) =>
    [
        .. receiver.Logs.Where(log => log.EventName() == "kamotel.thread_local.call"
            && log.Attributes.Get("kamotel.target") == server.Configuration),
    ];

    private static DateTimeOffset Time(ulong unixNs) => DateTimeOffset.UnixEpoch.AddTicks((long)(unixNs / 100));
}
