using Opentelemetry.Proto.Logs.V1;

namespace KamOtel.EndToEndTests;

/// <summary>What GDB sees is what the agent sees, no more and no less; and what it concludes from it.</summary>
public sealed class GdbTests
{
    public static TheoryData<string> Kinds => [.. KamailioServer.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task Gdb_and_the_agent_see_the_same_calls_in_thread_1_before_the_first_fork(string kind)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind);
        SetLocalCall[] expected = await Gdb.CallsBeforeFirstFork(server);
        expected.ShouldNotBeEmpty();

        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        int root = await server.Start();
        Samples metrics = await agent.AtRest(server.Configuration);

        metrics.Sum(
            "kamotel_thread_local_calls_total",
            ("target", server.Configuration), ("call", "set_local"), ("thread", "main"), ("phase", "before_fork")).ShouldBe(expected.Length);
        LogRecord[] CallsOfRoot() =>
        [
            .. receiver.Logs.Where(log => log.EventName() == "kamotel.thread_local.call"
                && log.Attributes.Get("kamotel.target") == server.Configuration
                && log.Attributes.Get("kamotel.call") == "set_local"
                && log.Attributes.Get("kamotel.thread.main") == "true"
                && log.Attributes.Get("kamotel.phase") == "before_fork"),
        ];
        await Until.True($"{expected.Length} log events of calls", () => CallsOfRoot().Length >= expected.Length);
        LogRecord[] calls = CallsOfRoot();
        calls.Select(static log => log.Attributes.Get("process.pid")).ShouldAllBe(pid => pid == $"{root}");
        calls.Select(static log => new SetLocalCall(uint.Parse(log.Attributes.Get("kamotel.key")!), log.Attributes.Get("kamotel.value.kind")!))
            .ShouldBe(expected);

        metrics.Verdict(server.Configuration).ShouldBe("hazard");
        metrics.Sum("kamotel_instance_covered", ("target", server.Configuration)).ShouldBe(1);
        metrics.Sum("kamotel_events_lost_total").ShouldBe(0);
    }

    [Fact]
    public async Task Tls_alone_makes_four_calls_in_thread_1_before_the_first_fork()
    {
        // Measured on Kamailio 5.6 with OpenSSL 3.0: Debian 12.
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        SetLocalCall[] calls = await Gdb.CallsBeforeFirstFork(server);
        calls.Count(static call => call.Value != "null").ShouldBe(4);
    }
}
