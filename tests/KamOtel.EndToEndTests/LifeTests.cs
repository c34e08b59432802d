using System.Net;
using System.Text.Json;
using Opentelemetry.Proto.Logs.V1;

namespace KamOtel.EndToEndTests;

/// <summary>How the agent ends, and what it leaves.</summary>
public sealed class LifeTests
{
    [Fact]
    public async Task Killed_the_agent_leaves_no_probe_and_kamailio_runs_on()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using AgentProcess agent = await AgentProcess.Start();
        int root = await server.Start();
        BpfObjects held = await BpfObjects.Of(agent.Pid);

        agent.Program.Send(Signal.Kill);
        (await agent.Program.End()).Code.ShouldBe(128 + (int)Signal.Kill);

        await held.Gone();
        Proc.Alive(root).ShouldBeTrue();
        await server.Handshake();
        Proc.Alive(root).ShouldBeTrue();
    }

    [Fact]
    public async Task Terminated_the_agent_ends_in_five_seconds_with_code_0_and_leaves_nothing()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using AgentProcess agent = await AgentProcess.Start();
        int root = await server.Start();
        _ = await agent.AtRest(server.Configuration);
        BpfObjects held = await BpfObjects.Of(agent.Pid);
        // The one that unwinds stacks, and no other.
        int unwinder = Proc.Children(agent.Pid).ShouldHaveSingleItem();
        (await File.ReadAllTextAsync($"/proc/{unwinder}/comm", TestContext.Current.CancellationToken)).Trim().ShouldBe("kamotel-unwind");

        agent.Program.Send(Signal.Terminate);
        Ended ended = await agent.Program.End(TimeSpan.FromSeconds(5));

        ended.Code.ShouldBe(0, ended.ToString());
        Proc.Alive(unwinder).ShouldBeFalse();
        await held.Gone();
        Directory.EnumerateFileSystemEntries(agent.TemporaryFolder).ShouldBeEmpty();
        Proc.Mentioning($"TMPDIR={agent.TemporaryFolder}").ShouldBeEmpty();
        Proc.Alive(root).ShouldBeTrue();
        await server.Handshake();
    }

    [Fact]
    public async Task A_server_that_ran_before_the_agent_is_found_and_judged_by_what_it_holds()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        int root = await server.Start();
        await server.Handshake();
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        Samples metrics = await agent.AtRest(server.Configuration);

        metrics.Verdict(server.Configuration).ShouldBe("hazard");
        // Its past stays unseen, and that stays said.
        metrics.Sum("kamotel_instance_gap", ("target", server.Configuration), ("gap", "started_before")).ShouldBe(1);
        metrics.Sum("kamotel_instance_covered", ("target", server.Configuration)).ShouldBe(0);
        metrics.Sum("kamotel_instance_processes", ("target", server.Configuration)).ShouldBe(1 + Proc.Children(root).Length);
        metrics.Sum("kamotel_instance_processes", ("target", server.Configuration), ("role", "root")).ShouldBe(1);
        // What happens from now on is seen.
        await server.Handshake();
        await server.Handshake();
        LogRecord found = await Until.Found(
            "the log event of the server found", () => receiver.Logs.FirstOrDefault(log => log.EventName() == "kamotel.instance.found"
                && log.Attributes.Get("kamotel.target") == server.Configuration));
        found.Attributes.Get("kamotel.since_exec").ShouldBe("false");
        found.Attributes.Get("process.pid").ShouldBe($"{root}");
        metrics = await agent.AtRest(server.Configuration);
        metrics.Verdict(server.Configuration).ShouldBe("hazard");
        LogRecord verdict = receiver.Logs.Last(log => log.EventName() == "kamotel.instance.verdict"
            && log.Attributes.Get("kamotel.target") == server.Configuration);
        verdict.Attributes.Get("kamotel.verdict").ShouldBe("hazard");
        verdict.Attributes.Get("kamotel.reason").ShouldNotBeNullOrWhiteSpace();
        string[] advice = [.. verdict.Attributes.Single(static a => a.Key == "kamotel.advice").Value.ArrayValue.Values.Select(static v => v.StringValue)];
        advice.ShouldContain(static a => a.StartsWith("Upgrade Kamailio 5.6.3", StringComparison.Ordinal));
        advice.ShouldContain(static a => a.StartsWith("Who set the shared slots was not seen", StringComparison.Ordinal));
        metrics.Sum("kamotel_shared_memory_size_bytes", ("target", server.Configuration)).ShouldBe(64 << 20);
        (metrics.Sum("kamotel_shared_memory_used_bytes", ("target", server.Configuration)) + metrics.Sum("kamotel_shared_memory_free_bytes", ("target", server.Configuration))).ShouldBe(64 << 20);
        int processes = 1 + Proc.Children(root).Length;
        _ = await server.Stop();
        metrics = await agent.MetricsWhen("the server to be gone", s => s.Count("kamotel_instances", ("target", server.Configuration)) == 0);
        metrics.Sum("kamotel_exits_total", ("target", server.Configuration)).ShouldBe(processes);
    }

    [Fact]
    public async Task A_worker_that_dies_by_a_signal_is_reported_and_so_is_the_end_of_the_server()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        int root = await server.Start();
        Samples before = await agent.AtRest(server.Configuration);
        before.Sum("kamotel_exits_total", ("target", server.Configuration), ("status", "signal")).ShouldBe(0);
        int worker = Proc.Children(root)[0];
        before.Sum("kamotel_instance_processes", ("target", server.Configuration), ("role", "worker")).ShouldBe(Proc.Children(root).Length);

        Libc.Send(worker, Signal.SegmentationFault).ShouldBeTrue();

        Samples after = await agent.MetricsWhen(
            "the death of the worker to be counted", s => s.Sum("kamotel_exits_total", ("target", server.Configuration), ("status", "signal")) >= 1);
        LogRecord exit = await Until.Found(
            "the log event of the worker's death", () => receiver.Logs.FirstOrDefault(log => log.EventName() == "kamotel.process.exit"
                && log.Attributes.Get("process.pid") == $"{worker}"));
        exit.Attributes.Get("kamotel.exit.signal").ShouldBe("11");
        exit.Attributes.Get("kamotel.role").ShouldBe("worker");
        exit.SeverityNumber.ShouldBe(SeverityNumber.Error);

        // Kamailio's main process ends the rest.
        _ = await server.Process!.End();
        after = await agent.MetricsWhen("the server to be gone", s => s.Count("kamotel_instances", ("target", server.Configuration)) == 0);
        double processes = 1 + after.Sum("kamotel_forks_total", ("target", server.Configuration));
        after.Sum("kamotel_exits_total", ("target", server.Configuration)).ShouldBe(processes);
        _ = await Until.Found(
            "the log event of the server's end", () => receiver.Logs.FirstOrDefault(log => log.EventName() == "kamotel.instance.ended"
                && log.Attributes.Get("kamotel.target") == server.Configuration));
    }

    [Fact]
    public async Task A_daemonised_server_is_judged_by_the_process_that_survives()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        SetLocalCall[] expected = await Gdb.CallsBeforeFirstFork(server);
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        string[] command = [.. (await server.Command()).Where(static argument => argument is not ("-DD" or "-E"))];
        Ended launched = await RunningProgram.Run(command[0], command[1..]);
        launched.Code.ShouldBe(0, launched.ToString());
        await server.WaitUntilUp();
        int root = await server.PidFile();
        Samples metrics = await agent.AtRest(server.Configuration);

        metrics.Verdict(server.Configuration).ShouldBe("hazard");
        ScannedInstance scanned = (await Scan.Json()).Of(server);
        scanned.Verdict.ShouldBe("hazard");
        scanned.RootPid.ShouldBe(root);
        scanned.Processes.ShouldBe(1 + Proc.Children(root).Length);
        metrics.Sum("kamotel_instances", ("target", server.Configuration)).ShouldBe(1);
        metrics.Sum("kamotel_execs_total", ("target", server.Configuration)).ShouldBe(1);
        metrics.Sum("kamotel_instance_processes", ("target", server.Configuration), ("role", "root")).ShouldBe(1);
        metrics.Sum("kamotel_instance_processes", ("target", server.Configuration), ("role", "launcher")).ShouldBe(0);
        metrics.Sum("kamotel_instance_processes", ("target", server.Configuration), ("role", "worker")).ShouldBe(Proc.Children(root).Length);
        LogRecord[] BeforeFork() =>
        [
            .. receiver.Logs.Where(log => log.EventName() == "kamotel.thread_local.call"
                && log.Attributes.Get("kamotel.target") == server.Configuration
                && log.Attributes.Get("kamotel.call") == "set_local"
                && log.Attributes.Get("kamotel.phase") == "before_fork"),
        ];
        await Until.True("the log events of the calls", () => BeforeFork().Length >= expected.Length);
        BeforeFork().Select(static log => log.Attributes.Get("process.pid")).ShouldAllBe(pid => pid == $"{root}");
        BeforeFork().Select(static log => log.Attributes.Get("kamotel.role")).ShouldAllBe(static role => role == "root");
        BeforeFork().Select(static log => new SetLocalCall(uint.Parse(log.Attributes.Get("kamotel.key")!), log.Attributes.Get("kamotel.value.kind")!))
            .ShouldBe(expected);
        metrics.Sum("kamotel_thread_local_calls_total", ("target", server.Configuration), ("call", "set_local"), ("phase", "before_fork"))
            .ShouldBe(expected.Length);
        (await agent.Status("/healthz")).ShouldBe(HttpStatusCode.OK);
    }

    /// <summary>The BPF objects that a process holds, by the kernel's numbers, which are not used twice.</summary>
    private sealed record BpfObjects(int Pid, HashSet<long> Programs, HashSet<long> Links, HashSet<long> Maps)
    {
        public static async Task<BpfObjects> Of(int pid)
        {
            Requirements.Program("bpftool");
            var held = new BpfObjects(
                pid, Proc.DescriptorField(pid, "prog_id"), Proc.DescriptorField(pid, "link_id"), Proc.DescriptorField(pid, "map_id"));
            held.Programs.ShouldNotBeEmpty();
            held.Links.ShouldNotBeEmpty();
            held.Maps.ShouldNotBeEmpty();
            (await Ids("prog")).IsSupersetOf(held.Programs).ShouldBeTrue("bpftool does not see the agent's programs");
            (await Ids("link")).IsSupersetOf(held.Links).ShouldBeTrue("bpftool does not see the agent's links");
            return held;
        }

        /// <summary>The kernel frees them a moment after the last reference.</summary>
        public async Task Gone()
        {
            string left = "";
            await Until.True(
                "the agent's BPF objects to be gone",
                async () =>
                {
                    left = $"programs {string.Join(' ', (await Ids("prog")).Intersect(Programs))}, links {string.Join(' ', (await Ids("link")).Intersect(Links))}, "
                        + $"maps {string.Join(' ', (await Ids("map")).Intersect(Maps))}, perf events {await PerfEvents()}";
                    return left == "programs , links , maps , perf events 0";
                },
                TimeSpan.FromSeconds(20),
                () => left);
        }

        private async Task<int> PerfEvents()
        {
            using JsonDocument shown = await Bpftool("perf");
            return shown.RootElement.EnumerateArray().Count(e => e.GetProperty("pid").GetInt32() == Pid);
        }

        private static async Task<HashSet<long>> Ids(string what)
        {
            using JsonDocument shown = await Bpftool(what);
            return [.. shown.RootElement.EnumerateArray().Select(static e => e.GetProperty("id").GetInt64())];
        }

        private static async Task<JsonDocument> Bpftool(string what)
        {
            Ended ended = await RunningProgram.Run("bpftool", ["-j", what, "show"]);
            // An object that vanishes between listing and reading is an error to bpftool; the next look will do.
            return JsonDocument.Parse(ended.Output.StartsWith('[') ? ended.Output : "[]");
        }
    }
}
