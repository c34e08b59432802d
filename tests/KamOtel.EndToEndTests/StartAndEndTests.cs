using System.Net.Sockets;
using System.Text;

namespace KamOtel.EndToEndTests;

/// <summary>The agent is started, and told to end, at any moment and with whatever behind its standard streams.</summary>
public sealed class StartAndEndTests
{
    [Theory]
    [InlineData(nameof(Signal.Terminate))]
    [InlineData(nameof(Signal.Interrupt))]
    public async Task A_signal_during_the_start_is_an_end_in_order(string name)
    {
        Requirements.Bpf();
        Signal signal = Enum.Parse<Signal>(name);
        for (int ms = 5; ms <= 200; ms += ms < 60 ? 5 : 35)
        {
            await using RunningProgram agent = RunningProgram.Start(Requirements.Binary, ["run", "--listen", "127.0.0.1:0"]);
            await Task.Delay(ms, TestContext.Current.CancellationToken);
            agent.Send(signal);
            Ended ended = await agent.End();
            // In its first moments no program can listen for a signal; then it is the kernel that ends it.
            ended.Code.ShouldBeOneOf(ended.Errors.Length == 0 ? [0, 128 + (int)signal] : [0]);
            ended.Errors.ShouldNotContain("Exception", customMessage: $"after {ms} ms: {ended}");
        }
    }

    [Fact]
    public async Task A_signal_between_the_probes_and_the_page_is_an_end_in_order()
    {
        Requirements.Bpf();
        await using RunningProgram agent = RunningProgram.Start(Requirements.Binary, ["run", "--listen", "127.0.0.1:0"]);
        await Until.True("the first word", () => agent.Errors.Length > 0, state: agent.ToString);
        agent.Send(Signal.Terminate);
        (await agent.End()).Code.ShouldBe(0, agent.ToString());
    }

    [Theory]
    [InlineData("2>/dev/full")]
    [InlineData(">/dev/full")]
    [InlineData(">&-")]
    [InlineData("2>&-")]
    [InlineData("<&- >&- 2>&-")]
    public async Task What_stands_behind_the_standard_streams_does_not_end_the_watching(string streams)
    {
        using var impostor = new ImpostorServer();
        Requirements.Bpf();
        using var client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{Scratch.FreePort()}") };
        await using RunningProgram agent = RunningProgram.Start(
            "bash", ["-c", $"exec \"$0\" run --follow --log-level debug --watch kamailio --listen \"$1\" {streams}", Requirements.Binary, client.BaseAddress.Authority]);
        async Task<Samples?> Metrics()
        {
            agent.Alive.ShouldBeTrue($"the agent ended\n{agent}");
            try
            {
                return Samples.Parse(await client.GetStringAsync(new Uri("/metrics", UriKind.Relative)));
            }
            catch (HttpRequestException)
            {
                return null;
            }
        }
        _ = await Until.Found("the agent to answer", Metrics, state: agent.ToString);
        await impostor.Run(5);
        await Until.True("the calls to be seen", async () => await Metrics() is { } samples && samples.Sum("kamotel_execs_total") >= 5, state: agent.ToString);
        agent.Send(Signal.Terminate);
        (await agent.End()).Code.ShouldBe(0, agent.ToString());
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task The_service_manager_hears_when_the_probes_are_attached_and_when_the_agent_ends(bool isAbstract)
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string name = scratch["notify"];
        using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = 20_000 };
        socket.Bind(new UnixDomainSocketEndPoint(isAbstract ? $"\0{name}" : name));
        int port = Scratch.FreePort();
        await using RunningProgram agent = RunningProgram.Start(
            Requirements.Binary,
            ["run", "--listen", $"127.0.0.1:{port}"],
            new Dictionary<string, string?> { ["NOTIFY_SOCKET"] = isAbstract ? $"@{name}" : name });

        Received(socket).ShouldBe("READY=1\nSTATUS=watching", agent.ToString());
        // At that very moment: who waited for it may go on.
        using var client = new HttpClient();
        Samples metrics = Samples.Parse(await client.GetStringAsync(new Uri($"http://127.0.0.1:{port}/metrics"), TestContext.Current.CancellationToken));
        metrics.Sum("kamotel_libraries_probed").ShouldBeGreaterThan(0);
        agent.Send(Signal.Terminate);
        Received(socket).ShouldBe("STOPPING=1", agent.ToString());
        (await agent.End()).Code.ShouldBe(0, agent.ToString());
    }

    private static string Received(Socket socket)
    {
        byte[] buffer = new byte[4096];
        return Encoding.UTF8.GetString(buffer, 0, socket.Receive(buffer));
    }
}
