using Opentelemetry.Proto.Logs.V1;
using Opentelemetry.Proto.Trace.V1;

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
        // Whichever came first: a worker's death, or its memory manager's complaint.
        verdicts[1].Attributes.Get("kamotel.reason")!.ShouldMatch(signal == "11" ? @"signal 11 \(SIGSEGV\)|the memory manager of worker" : @"signal 6 \(SIGABRT\)|the memory manager of worker");

        // Metric, log event and span tell the same of each crash.
        LogRecord[] exits = [.. Events("kamotel.process.exit").Where(static log => log.Attributes.Get("kamotel.exit.signal") is "4" or "5" or "6" or "7" or "8" or "11")];
        Span[] Spans() => [.. receiver.Spans.Where(span => span.Name == "kamailio crash" && span.Attributes.Get("kamotel.target") == target)];
        await Until.True("a log event and a span of each crash", () => Events("kamotel.crash").Length >= exits.Length && Spans().Length >= exits.Length);
        LogRecord[] crashes = Events("kamotel.crash");
        crashes.Select(static log => log.Attributes.Get("process.pid")).ShouldBe(exits.Select(static log => log.Attributes.Get("process.pid")), ignoreOrder: true);
        Samples counted = await agent.MetricsWhen("all crashes to be counted", samples => samples.Sum("kamotel_crashes_total", ("target", target)) >= exits.Length);
        counted.Sum("kamotel_crashes_total", ("target", target)).ShouldBe(crashes.Length);
        Span start = receiver.Spans.First(span => span.Name == "kamailio start" && span.Attributes.Get("kamotel.target") == target);
        crashes.ShouldContain(static told => told.Attributes.Get("kamotel.role") == "worker");
        // One may have no stack that leads anywhere, and says so; not all.
        crashes.ShouldContain(static told => told.Attributes.Get("kamotel.module") != null, string.Join('\n', crashes.Select(static told => told.Attributes.Get("kamotel.chain.detail"))));
        foreach (LogRecord told in crashes)
        {
            string name = told.Attributes.Get("kamotel.signal")!;
            name.ShouldBeOneOf("SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE", "SIGTRAP");
            told.SeverityNumber.ShouldBe(SeverityNumber.Error);
            // The root may follow its workers, while it takes everything down.
            string role = told.Attributes.Get("kamotel.role")!;
            role.ShouldBeOneOf("worker", "root");
            // It called OpenSSL to set slots of its own, or it lived on what it inherited: most do, and that is the hazard.
            (told.Attributes.Get("kamotel.last_call") is not null || told.Attributes.Get("kamotel.inherited_slots") is not "0").ShouldBeTrue();
            string? module = told.Attributes.Get("kamotel.module");
            (module is null).ShouldBe(told.Attributes.Get("kamotel.chain.detail") is not null);
            counted.Sum("kamotel_crashes_total", ("target", target), ("signal", name), ("role", role), ("module", module ?? "")).ShouldBeGreaterThan(0);
            Span span = Spans().Single(s => s.Attributes.Get("process.pid") == told.Attributes.Get("process.pid"));
            span.TraceId.ShouldBe(start.TraceId);
            span.Status.Code.ShouldBe(Status.Types.StatusCode.Error);
            foreach (string attribute in (string[])["kamotel.signal", "kamotel.role", "kamotel.module", "code.stacktrace", "thread.id", "kamotel.last_call", "kamotel.inherited_slots"])
            {
                span.Attributes.Get(attribute).ShouldBe(told.Attributes.Get(attribute), attribute);
            }
        }
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
        after.Sum("kamotel_crashes_total", ("target", target), ("signal", "SIGSEGV"), ("role", "worker")).ShouldBe(1);
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
        after.Sum("kamotel_crashes_total", ("target", target)).ShouldBe(0);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "hazard")).ShouldBe(1);
        after.Sum("kamotel_verdicts_total", ("target", target), ("verdict", "corrupted")).ShouldBe(0);
    }
}
