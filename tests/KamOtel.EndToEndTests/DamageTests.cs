using Opentelemetry.Proto.Logs.V1;

namespace KamOtel.EndToEndTests;

/// <summary>The hazard is told before it does harm, and the harm is told when it is done.</summary>
public sealed class DamageTests
{
    [Fact]
    public async Task A_server_that_dies_of_its_load_was_called_a_hazard_before_and_is_called_corrupted_after()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls", workers: 8);
        string target = server.Configuration;
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        int root = await server.Start();
        _ = await agent.MetricsWhen("the hazard", samples => samples.Verdict(target) == "hazard");

        LoadResult load = await Load.Run(server, Load.Deadly, () => !Proc.Alive(root), TimeSpan.FromSeconds(60));
        load.Stopped.ShouldBeTrue($"it lives\n{load}\n{server}");
        TestContext.Current.TestOutputHelper!.WriteLine(load.ToString());

        Samples after = await agent.MetricsWhen("the server to be gone", samples => samples.Count("kamotel_instances", ("target", target)) == 0);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "hazard")).ShouldBe(1);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "corrupted")).ShouldBe(1);
        after.Sum("kamotel_exits_total", ("target", target), ("status", "signal")).ShouldBeGreaterThan(0);

        LogRecord[] Events(string name) =>
        [
            .. receiver.Logs.Where(log => log.EventName() == name && log.Attributes.Get("kamotel.target") == target).OrderBy(static log => log.TimeUnixNano),
        ];
        await Until.True("the log event of the server's end", () => Events("kamotel.instance.ended").Length == 1);
        LogRecord[] verdicts = [.. Events("kamotel.instance.verdict").SkipWhile(static log => log.Attributes.Get("kamotel.verdict") is not ("hazard" or "corrupted"))];
        verdicts.Select(static log => log.Attributes.Get("kamotel.verdict")).ShouldBe(["hazard", "corrupted"]);
        LogRecord crash = Events("kamotel.process.exit").First(static log => log.Attributes.Get("kamotel.exit.signal") is not null);
        verdicts[0].TimeUnixNano.ShouldBeLessThan(crash.TimeUnixNano);
        verdicts[1].Attributes.Get("kamotel.verdict.before").ShouldBe("hazard");
        verdicts[1].SeverityNumber.ShouldBeOneOf(SeverityNumber.Error, SeverityNumber.Fatal);
        string signal = crash.Attributes.Get("kamotel.exit.signal")!;
        signal.ShouldBeOneOf("11", "6");
        verdicts[1].Attributes.Get("kamotel.reason")!.ShouldContain(signal == "11" ? "signal 11 (SIGSEGV)" : "signal 6 (SIGABRT)");
    }

    [Fact]
    public async Task A_server_that_dies_at_once_is_not_lost()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls", workers: 8);
        string target = server.Configuration;
        await using AgentProcess agent = await AgentProcess.Start();
        int root = await server.Start();

        // Often it is dead before a worker is a second old, and counts as settled.
        LoadResult load = await Load.Run(server, Load.Deadly, () => !Proc.Alive(root), TimeSpan.FromSeconds(60));
        load.Stopped.ShouldBeTrue($"it lives\n{load}\n{server}");
        TestContext.Current.TestOutputHelper!.WriteLine(load.ToString());

        Samples after = await agent.MetricsWhen("the server to be gone", samples => samples.Count("kamotel_instances", ("target", target)) == 0);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "corrupted")).ShouldBe(1, agent.Program.ToString());
    }

    [Fact]
    public async Task A_server_that_shares_nothing_and_dies_by_a_signal_is_not_called_corrupted()
    {
        await using KamailioServer server = await KamailioServer.Prepare("none");
        string target = server.Configuration;
        await using AgentProcess agent = await AgentProcess.Start();
        int root = await server.Start();
        _ = await agent.MetricsWhen("the verdict", samples => samples.Verdict(target) == "safe");

        Libc.Send(Proc.Children(root)[0], Signal.SegmentationFault).ShouldBeTrue();
        _ = await server.Process!.End();

        Samples after = await agent.MetricsWhen("the server to be gone", samples => samples.Count("kamotel_instances", ("target", target)) == 0);
        after.Sum("kamotel_exits_total", ("target", target), ("status", "signal")).ShouldBeGreaterThan(0);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "safe")).ShouldBe(1);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "hazard")).ShouldBe(0);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "corrupted")).ShouldBe(0);
    }

    [Fact]
    public async Task A_hazard_whose_worker_is_killed_from_outside_is_not_called_corrupted()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string target = server.Configuration;
        await using AgentProcess agent = await AgentProcess.Start();
        int root = await server.Start();
        _ = await agent.MetricsWhen("the hazard", samples => samples.Verdict(target) == "hazard");

        Libc.Send(Proc.Children(root)[0], Signal.Kill).ShouldBeTrue();
        _ = await server.Process!.End();

        Samples after = await agent.MetricsWhen("the server to be gone", samples => samples.Count("kamotel_instances", ("target", target)) == 0);
        after.Sum("kamotel_exits_total", ("target", target), ("status", "signal")).ShouldBeGreaterThan(0);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "hazard")).ShouldBe(1);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "corrupted")).ShouldBe(0);
    }
}
