using System.Net;

namespace KamOtel.EndToEndTests;

/// <summary>The agent with less than root has: it says what it cannot do, and does the rest.</summary>
public sealed class PrivilegeTests
{
    [Fact]
    public async Task Without_the_privilege_the_agent_says_which_one_is_missing_and_what_helps()
    {
        using Scratch scratch = Require();
        Ended ended = await RunningProgram.Run("setpriv", Nobody(scratch, "", $"127.0.0.1:{Scratch.FreePort()}"));

        ended.Code.ShouldBe(77, ended.ToString());
        ended.Errors.ShouldContain("CAP_BPF and CAP_PERFMON missing");
        ended.Errors.ShouldContain("run as root");
        ended.Errors.Split("CAP_BPF").Length.ShouldBe(2, "said once");
        ended.Errors.ShouldNotContain("   at ");
    }

    [Fact]
    public async Task Root_without_capabilities_is_not_told_to_become_root()
    {
        using Scratch scratch = Require();
        Ended ended = await RunningProgram.Run(
            "setpriv", ["--bounding-set=-all", "--inh-caps=-all", "--", scratch["kamotel"], "run", "--listen", $"127.0.0.1:{Scratch.FreePort()}"]);

        ended.Code.ShouldBe(77, ended.ToString());
        ended.Errors.ShouldContain("CAP_BPF and CAP_PERFMON missing");
        ended.Errors.ShouldNotContain("run as root");
    }

    [Fact]
    public async Task Root_keeps_what_the_guide_lists_in_every_thread_and_can_get_no_more()
    {
        await using AgentProcess agent = await AgentProcess.Start(null, "--watch", ServerName.New());
        string[] threads = Directory.GetDirectories($"/proc/{agent.Pid}/task");
        threads.Length.ShouldBeGreaterThan(3);
        string[] listed = [.. (OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 6, 6) ? SecurityGuide.Capabilities : SecurityGuide.CapabilitiesOfOlderKernels).Order(StringComparer.Ordinal)];
        foreach (string thread in threads)
        {
            foreach (string set in new[] { "CapPrm", "CapEff", "CapBnd" })
            {
                Held(File.ReadLines($"{thread}/status"), set).ShouldBe(listed, customMessage: $"{set} of {thread}");
            }
            Held(File.ReadLines($"{thread}/status"), "CapInh").ShouldBeEmpty();
            File.ReadLines($"{thread}/status").Contains("NoNewPrivs:\t1").ShouldBeTrue(thread);
        }
        File.ReadAllText($"/proc/{agent.Pid}/comm").Trim().ShouldBe(Path.GetFileName(Requirements.Binary));
    }

    [Fact]
    public async Task A_port_below_1024_takes_one_more()
    {
        Requirements.Bpf();
        int port = FreeLowPort();
        await using RunningProgram agent = RunningProgram.Start(Requirements.Binary, ["run", "--watch", ServerName.New(), "--listen", $"127.0.0.1:{port}"]);
        await Until.True("the agent to listen", () => agent.Errors.Contains($"listening on http://127.0.0.1:{port}", StringComparison.Ordinal), state: agent.ToString);
        Held(File.ReadLines($"/proc/{agent.Pid}/status"), "CapEff").ShouldContain("CAP_NET_BIND_SERVICE");
    }

    [Fact]
    public async Task A_server_that_is_checked_keeps_all_that_it_would_have()
    {
        Requirements.Bpf();
        Ended ended = await RunningProgram.Run(Requirements.Binary, ["check", "--settle", "0.1", "--for", "100ms", "--", "cat", "/proc/self/status"]);
        foreach (string set in new[] { "CapPrm", "CapBnd" })
        {
            Held(ended.Output.Split('\n'), set).ShouldBe(Held(File.ReadLines("/proc/self/status"), set), customMessage: ended.ToString());
        }
        ended.Output.ShouldContain("NoNewPrivs:\t0");
    }

    [Fact]
    public async Task Ready_means_that_a_probe_could_be_attached()
    {
        using Scratch scratch = Require();
        using var client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{Scratch.FreePort()}") };
        await using RunningProgram agent = RunningProgram.Start("setpriv", Nobody(scratch, "+bpf,+perfmon,+sys_ptrace,+dac_read_search", client.BaseAddress.Authority));
        (HttpStatusCode status, string reason) = await Answer(client, agent);
        Samples metrics = Samples.Parse(await client.GetStringAsync(new Uri("/metrics", UriKind.Relative), TestContext.Current.CancellationToken));

        (status == HttpStatusCode.OK).ShouldBe(metrics.Sum("kamotel_libraries_probed") > 0, $"{status} {reason}\n{agent}");
        if (OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 6, 6))
        {
            status.ShouldBe(HttpStatusCode.OK, reason);
        }
        agent.Send(Signal.Terminate);
        (await agent.End()).Code.ShouldBe(0, agent.ToString());
    }

    [Fact]
    public async Task What_cannot_be_read_of_a_server_is_said_once_and_not_for_each_worker()
    {
        using Scratch scratch = Require();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        int root = await server.Start();
        int[] processes = [root, .. Proc.Children(root)];
        using var client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{Scratch.FreePort()}") };
        await using RunningProgram agent = RunningProgram.Start("setpriv", Nobody(scratch, "+bpf,+perfmon,+sys_admin", client.BaseAddress.Authority));
        _ = await Answer(client, agent);

        processes.Sum(pid => agent.Errors.Split($"mapped by process {pid},").Length - 1).ShouldBe(1, agent.ToString());
    }

    /// <summary>The names of a set in a file like /proc/PID/status, in order; a number for what is not among those that matter here.</summary>
    private static string[] Held(IEnumerable<string> status, string set)
    {
        ulong mask = Convert.ToUInt64(status.First(line => line.StartsWith(set + ":", StringComparison.Ordinal)).Split('\t')[1], 16);
        return [.. Enumerable.Range(0, 64).Where(bit => (mask >> bit & 1) != 0).Select(static bit => bit switch
        {
            2 => "CAP_DAC_READ_SEARCH",
            10 => "CAP_NET_BIND_SERVICE",
            19 => "CAP_SYS_PTRACE",
            21 => "CAP_SYS_ADMIN",
            38 => "CAP_PERFMON",
            39 => "CAP_BPF",
            40 => "CAP_CHECKPOINT_RESTORE",
            _ => $"{bit}",
        }).Order(StringComparer.Ordinal)];
    }

    private static int FreeLowPort()
    {
        for (int port = 600; port < 1023; port++)
        {
            try
            {
                using var listener = new System.Net.Sockets.TcpListener(IPAddress.Loopback, port);
                listener.Start();
                return port;
            }
            catch (System.Net.Sockets.SocketException)
            {
                // It is taken.
            }
        }
        throw new InvalidOperationException("no port below 1024 is free");
    }

    /// <summary>Where nobody may go in, a copy does.</summary>
    private static Scratch Require()
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        var scratch = new Scratch();
        File.Copy(Requirements.Binary, scratch["kamotel"]);
        File.SetUnixFileMode(scratch["kamotel"], (UnixFileMode)Convert.ToInt32("755", 8));
        return scratch;
    }

    private static string[] Nobody(Scratch scratch, string capabilities, string listen) =>
    [
        "--reuid=nobody", "--regid=nogroup", "--clear-groups",
        .. capabilities.Length == 0 ? (string[])[] : [$"--inh-caps={capabilities}", $"--ambient-caps={capabilities}", $"--bounding-set=-all,{capabilities}"],
        "--", scratch["kamotel"], "run", "--listen", listen,
    ];

    private static async Task<(HttpStatusCode Status, string Reason)> Answer(HttpClient client, RunningProgram agent)
    {
        (HttpStatusCode, string) answer = default;
        await Until.True(
            "the agent to answer",
            async () =>
            {
                try
                {
                    using HttpResponseMessage response = await client.GetAsync(new Uri("/readyz", UriKind.Relative));
                    answer = (response.StatusCode, await response.Content.ReadAsStringAsync());
                    return true;
                }
                catch (HttpRequestException)
                {
                    agent.Alive.ShouldBeTrue($"the agent ended\n{agent}");
                    return false;
                }
            },
            state: agent.ToString);
        return answer;
    }
}
