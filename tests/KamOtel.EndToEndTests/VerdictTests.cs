namespace KamOtel.EndToEndTests;

/// <summary>Scan and agent say of a server what is true of it, whoever of the two came first.</summary>
public sealed class VerdictTests
{
    public static TheoryData<string, string> Kinds => new()
    {
        { "none", "safe" },
        { "tls", "hazard" },
        { "db_postgres", "hazard" },
        { "db_mysql", "hazard" },
        { "db_unixodbc", "hazard" },
    };

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_server_that_runs_already_is_judged_by_what_its_processes_hold(string kind, string verdict)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind);
        int root = await server.Start();

        ScannedInstance scanned = (await Scan.Json()).Of(server);
        Truth truth = await Truth.Of(root);
        truth.Verdict.ShouldBe(verdict, truth.ToString());
        Agrees(scanned, truth);

        await using AgentProcess agent = await AgentProcess.Start();
        Samples metrics = await agent.AtRest(server.Configuration);
        Agrees(metrics, server, truth);
        metrics.Sum("kamotel_instance_gap", ("target", server.Configuration), ("gap", "started_before")).ShouldBe(1);
        // To be looked at changed nothing, and the agent does not hinder a scan.
        Agrees((await Scan.Json()).Of(server), truth);
        await server.WaitUntilUp();
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task A_server_that_was_watched_from_its_exec_on_is_judged_alike(string kind, string verdict)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind);
        await using AgentProcess agent = await AgentProcess.Start();
        int root = await server.Start();
        Samples metrics = await agent.AtRest(server.Configuration);

        Truth truth = await Truth.Of(root);
        truth.Verdict.ShouldBe(verdict, truth.ToString());
        Agrees(metrics, server, truth);
        Agrees((await Scan.Json()).Of(server), truth);
        metrics.Sum("kamotel_instance_gap", ("target", server.Configuration), ("gap", "started_before")).ShouldBe(0);
        metrics.Sum("kamotel_verdicts_total", ("target", server.Configuration), ("verdict", verdict)).ShouldBe(1);
        metrics.Sum("kamotel_verdicts_total", ("target", server.Configuration), ("verdict", "corrupted")).ShouldBe(0);
        await server.WaitUntilUp();
    }

    [Fact]
    public async Task A_scan_tells_what_the_server_is_made_of()
    {
        await using KamailioServer server = await KamailioServer.Prepare("db_postgres");
        _ = await server.Start();

        ScannedInstance scanned = (await Scan.Json()).Of(server);

        string version = (await RunningProgram.Run("kamailio", ["-v"])).Output.Split(' ', 4)[2];
        scanned.Kamailio.ShouldBe(version);
        string openssl = (await RunningProgram.Run("openssl", ["version"])).Output;
        openssl.ShouldContain($"(Library: OpenSSL {scanned.Openssl} ");
        scanned.Modules.ShouldBe(scanned.Modules.Order(StringComparer.Ordinal));
        string[] loaded =
        [
            .. (await File.ReadAllLinesAsync(server.Configuration, TestContext.Current.CancellationToken))
                .Where(static line => line.StartsWith("loadmodule ", StringComparison.Ordinal))
                .Select(static line => Path.GetFileNameWithoutExtension(line.Split('"')[1])),
        ];
        loaded.ShouldContain("tls");
        loaded.ShouldContain("db_postgres");
        scanned.Modules.ShouldBe(loaded, ignoreOrder: true);
        scanned.TlsThreadsMode.ShouldBeNull("5.6 has no tls_threads_mode");
    }

    [Fact]
    public async Task A_scan_of_a_server_that_was_started_a_moment_ago_waits_until_it_can_tell()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        int root = server.Exec();
        // The first worker is there, more come.
        await Until.True("a worker", () => Proc.Children(root).Length > 0, state: server.ToString);

        ScannedInstance scanned = (await Scan.Json()).Of(server);

        scanned.Verdict.ShouldBe("hazard", scanned.Reason);
        scanned.Processes.ShouldBe(1 + Proc.Descendants(root).Length);
        Agrees(scanned, await Truth.Of(root));
    }

    private static void Agrees(ScannedInstance scanned, Truth truth)
    {
        scanned.Verdict.ShouldBe(truth.Verdict, scanned.Reason);
        scanned.Reason.ShouldNotBeNullOrWhiteSpace();
        scanned.RootPid.ShouldBe(truth.Processes[0]);
        scanned.Processes.ShouldBe(truth.Processes.Length);
        scanned.Coverage.ShouldBe(new ScannedCoverage(truth.Processes.Length, 0, SinceExec: false));
        scanned.SharedSlots.Select(static slot => (slot.Key, slot.Address(), slot.Mapping))
            .ShouldBe(truth.SharedSlots.Select(static slot => (slot.Key, slot.Value, slot.Mapping)));
        for (int i = 0; i < truth.SharedSlots.Length; i++)
        {
            int[] holders = scanned.SharedSlots[i].Holders;
            holders[0].ShouldBe(truth.SharedSlots[i].Holders[0], "root comes first");
            holders.ShouldBe(truth.SharedSlots[i].Holders, ignoreOrder: true, customMessage: $"of key {scanned.SharedSlots[i].Key}; {truth}");
        }
    }

    private static void Agrees(Samples metrics, KamailioServer server, Truth truth)
    {
        string target = server.Configuration;
        metrics.Verdict(target).ShouldBe(truth.Verdict);
        metrics.Sum("kamotel_instance_shared_slots", ("target", target)).ShouldBe(truth.SharedSlots.Length);
        metrics.Sum("kamotel_instance_processes", ("target", target)).ShouldBe(truth.Processes.Length);
        metrics.Sum("kamotel_instance_inspected_processes", ("target", target), ("status", "inspected"))
            .ShouldBe(truth.Processes.Length);
        metrics.Sum("kamotel_instance_inspected_processes", ("target", target)).ShouldBe(truth.Processes.Length, "all others are none");
        metrics.Sum("kamotel_inspections_total").ShouldBeGreaterThan(0);
        metrics.Sum("kamotel_inspection_duration_seconds_count").ShouldBe(metrics.Sum("kamotel_inspections_total"));
    }
}
