using System.Net;

namespace KamOtel.EndToEndTests;

/// <summary>A bad OTLP endpoint costs bounded memory, every loss is counted, and the agent recovers.</summary>
public sealed class OtlpEndpointTests
{
    private const long ResidentLimit = 160L * 1024 * 1024;

    [Theory]
    [InlineData(ReceiverMode.Hang, false)]
    [InlineData(ReceiverMode.Hang, true)]
    [InlineData(ReceiverMode.Refuse, false)]
    [InlineData(ReceiverMode.Refuse, true)]
    [InlineData(ReceiverMode.Garbage, false)]
    internal async Task An_endpoint_that_misbehaves_loses_telemetry_with_a_count_and_nothing_else(ReceiverMode mode, bool http)
    {
        await using OtlpReceiver receiver = await OtlpReceiver.Start(mode: mode);
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver, http));
        await Survives(agent, () =>
        {
            receiver.Mode = ReceiverMode.Answer;
            return Task.FromResult(receiver);
        });
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_dead_endpoint_loses_telemetry_with_a_count_and_nothing_else(bool http)
    {
        int port = Scratch.FreePort();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(new Uri($"http://127.0.0.1:{port}"), http));
        OtlpReceiver? receiver = null;
        try
        {
            await Survives(agent, async () => receiver = http ? await OtlpReceiver.Start(httpPort: port) : await OtlpReceiver.Start(grpcPort: port));
        }
        finally
        {
            await (receiver?.DisposeAsync() ?? ValueTask.CompletedTask);
        }
    }

    [Fact]
    public async Task The_agent_ends_in_time_though_the_endpoint_hangs()
    {
        using var impostor = new ImpostorServer();
        await using OtlpReceiver receiver = await OtlpReceiver.Start(mode: ReceiverMode.Hang);
        Dictionary<string, string?> environment = AgentProcess.ExportTo(receiver);
        environment["OTEL_EXPORTER_OTLP_TIMEOUT"] = "60000";
        await using AgentProcess agent = await AgentProcess.Start(environment);
        await impostor.Run(50);

        agent.Program.Send(Signal.Terminate);
        (await agent.Program.End(TimeSpan.FromSeconds(5))).Code.ShouldBe(0, agent.Program.ToString());
    }

    private static async Task Survives(AgentProcess agent, Func<Task<OtlpReceiver>> recover)
    {
        using var impostor = new ImpostorServer();
        // More than channel and queues hold.
        await impostor.Run(700);
        (await agent.Status("/readyz")).ShouldBe(HttpStatusCode.OK);
        Samples bad = await agent.MetricsWhen("dropped log records to be counted", static s => Dropped(s, "logs") > 0);
        bad.Sum("kamotel_telemetry_exported_total", ("signal", "logs")).ShouldBe(0);
        bad.Sum("kamotel_thread_local_calls_total").ShouldBeGreaterThan(700);
        _ = await agent.MetricsWhen("dropped exports of metrics to be counted", static s => Dropped(s, "metrics") > 0);
        foreach (string signal in new[] { "logs", "metrics", "traces" })
        {
            await Until.True($"a warning about {signal}", () => Said(agent, $"warning: {signal} do not reach http://127.0.0.1:") == 1, state: agent.Program.ToString);
        }
        Proc.ResidentBytes(agent.Pid).ShouldBeLessThan(ResidentLimit);

        OtlpReceiver receiver = await recover();
        await impostor.Run(20);
        _ = await agent.MetricsWhen("the export to go on", static s => s.Sum("kamotel_telemetry_exported_total", ("signal", "logs")) > 0);
        Samples end = await agent.MetricsWhen(
            "every log record and span to be exported or counted as dropped",
            s => Accounted(s, "logs") == Story(agent).Logs && Accounted(s, "traces") == Story(agent).Traces);

        // A stack may stay out so that no event does.
        (end.Sum("kamotel_events_lost_total") - end.Sum("kamotel_events_lost_total", ("kind", "stack"))).ShouldBe(0);
        ((double)receiver.Logs.Count()).ShouldBe(end.Sum("kamotel_telemetry_exported_total", ("signal", "logs")));
        ((double)receiver.Spans.Count()).ShouldBe(end.Sum("kamotel_telemetry_exported_total", ("signal", "traces")));
        await Until.True("metrics to arrive", () => !receiver.MetricRequests.IsEmpty);
        _ = await agent.MetricsWhen("exports of metrics to be counted", static s => s.Sum("kamotel_telemetry_exported_total", ("signal", "metrics")) > 0);
        foreach (string signal in new[] { "logs", "metrics", "traces" })
        {
            await Until.True($"a word that {signal} get through", () => Said(agent, $"info: {signal} reach http://127.0.0.1:") == 1, state: agent.Program.ToString);
            Said(agent, $"warning: {signal} do not reach").ShouldBe(1, agent.Program.ToString());
        }
        Proc.ResidentBytes(agent.Pid).ShouldBeLessThan(ResidentLimit);
    }

    private static int Said(AgentProcess agent, string what) => agent.Program.Errors.Split(what).Length - 1;

    private static double Dropped(Samples samples, string signal) => samples.Sum("kamotel_telemetry_dropped_total", ("signal", signal));

    private static double Accounted(Samples samples, string signal) =>
        samples.Sum("kamotel_telemetry_exported_total", ("signal", signal)) + Dropped(samples, signal);

    /// <summary>
    /// What was emitted, counted by the lines of --follow: each is a log record, but for forks, clean exits, steps and authors
    /// (they are in the record of their call); each server that was ready or ended before is a span, and each call of Thread#1
    /// before the fork.
    /// </summary>
    private static (double Logs, double Traces) Story(AgentProcess agent)
    {
        string[][] lines = [.. agent.Program.Output.Split('\n')[..^1].Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))];
        string[] words = [.. lines.Select(Word)];
        int logs = lines.Where((line, i) => words[i] is not ("fork" or "step" or "author") && !(words[i] == "exit" && string.Join(' ', line).EndsWith(": exit code 0", StringComparison.Ordinal))).Count();
        int ready = words.Count(static word => word == "ready");
        int ended = words.Count(static word => word == "ended");
        int calls = lines.Count(static line => line.Contains("Thread#1") && line.Contains("before_fork"));
        return (logs, Math.Max(ready, ended) + calls);
    }

    // [+TIME ms] PID/TID WORD …
    private static string Word(string[] line) => line[Array.FindIndex(line, static word => word.Contains('/', StringComparison.Ordinal)) + 1];
}
