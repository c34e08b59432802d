using System.Collections.Immutable;
using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Linux;

namespace KamOtel.Tests.Agent;

/// <summary>What the doctor concludes from what it found, and how it says it.</summary>
public sealed class DoctorTests
{
    private static readonly Capabilities Nothing = new(0, IsRoot: false);
    private static readonly Capabilities Everything = new(ulong.MaxValue, IsRoot: true);

    [Fact]
    public void A_feature_works_unless_a_failed_finding_breaks_it_or_one_that_it_needs()
    {
        Broken(Finding.Ok("kernel", "Linux 6", "enough")).ShouldBeEmpty();
        Broken(Finding.Warning("kernel", "Linux 6", "enough")).ShouldBeEmpty();
        Broken(Finding.Failed("program.get", "refused", "no", "give", DoctorFeature.Confirmation)).ShouldBe(["confirmation"]);
        Broken(Finding.Failed("program.set", "refused", "no", "give", DoctorFeature.Calls)).ShouldBe(["calls", "authors", "own_libraries", "closed_files"]);
        Broken(Finding.Failed("btf", "none", "no", "take", DoctorFeature.Watching, DoctorFeature.Verdicts)).ShouldBe(DoctorFeature.All.Select(static f => f.Id));
    }

    [Fact]
    public void Whoever_needs_a_feature_stands_behind_it()
    {
        for (int i = 0; i < DoctorFeature.All.Length; i++)
        {
            DoctorFeature.All[i].Needs.ShouldAllBe(need => DoctorFeature.All.Take(i).Any(f => f.Id == need));
        }
    }

    [Theory]
    [InlineData("", "works", 0)]
    [InlineData(DoctorFeature.Otlp, "degraded", 1)]
    [InlineData(DoctorFeature.Verdicts, "degraded", 1)]
    [InlineData(DoctorFeature.Watching, "unusable", 2)]
    public void The_exit_code_tells_whether_run_would_start(string broken, string result, int code)
    {
        DoctorReport report = Report(broken.Length == 0 ? Finding.Ok("x", "is", "good") : Finding.Failed("x", "is", "bad", "mend it", broken));
        report.Result.ShouldBe(result);
        report.ExitCode.ShouldBe(code);
    }

    [Fact]
    public void Whatever_would_be_unknown_is_listed_with_its_reason()
    {
        var report = DoctorReport.Of(
            [Finding.Failed("program.set", "it is refused", "no calls", "give it", DoctorFeature.Calls)],
            [],
            bareCall: 0,
            [new ExaminedLibrary("/lib/libcrypto.so.9", null, [], EntryInstruction.Unknown, "no symbols")],
            [new ExaminedServer("/etc/k.cfg", 7, "it is static", Refused: false), new ExaminedServer("good", 8, null, Refused: false)]);

        report.Unknown.Select(static u => u.What).ShouldContain("which process set an OpenSSL slot, and whether before the fork");
        report.Unknown.First().Why.ShouldBe("program.set: it is refused");
        report.Unknown.ShouldContain(new ReportedUnknown("the verdict of /etc/k.cfg", "it is static"));
        report.Unknown.ShouldContain(new ReportedUnknown("the calls of a server with /lib/libcrypto.so.9", "no symbols"));
        report.Unknown.ShouldNotContain(static u => u.What.Contains("good", StringComparison.Ordinal));
        report.ProbeCost.ShouldBeNull();
        report.Libraries[0].SetCallNs.ShouldBeNull();
    }

    [Fact]
    public void A_probe_costs_what_was_measured_on_the_instruction_that_the_function_begins_with()
    {
        ImmutableArray<ProbeCost> costs = [new(EntryInstruction.Push, 700, 1100), new(EntryInstruction.Subtract, 9300, 9800.4)];
        DoctorReport report = DoctorReport.Of([], costs, 2.04, [new ExaminedLibrary("/l", "3.0.19", ["CRYPTO_THREAD_set_local"], EntryInstruction.Subtract, null), new ExaminedLibrary("/m", null, [], EntryInstruction.Unknown, null)], []);
        report.Libraries.Select(static l => l.SetCallNs).ShouldBe([9800, null]);
        report.ProbeCost!.BareCallNs.ShouldBe(2);
    }

    [Fact]
    public void Problems_come_first_with_what_helps_and_alike_ones_once()
    {
        using var output = new StringWriter();
        new DoctorTable(output, colored: false).Print(Report(
            Finding.Ok("kernel", "Linux 6", "enough"),
            Finding.Failed("program.set", "program set: refused", "no calls", "give CAP_X", DoctorFeature.Calls),
            Finding.Failed("program.get", "program get: refused", "no uses", "give CAP_X", DoctorFeature.Confirmation)));
        string[] lines = output.ToString().Split('\n');
        lines[0].ShouldBe("kamotel works here, but for 5 of 13 features.");
        lines.Count(static l => l.StartsWith("failed", StringComparison.Ordinal)).ShouldBe(1);
        lines.ShouldContain("failed   program.set, program.get: program set: refused");
        lines.ShouldContain("  remedy give CAP_X");
        lines.ShouldContain("  breaks calls, confirmation");
        Array.IndexOf(lines, "ok       kernel: Linux 6").ShouldBeGreaterThan(Array.IndexOf(lines, "  remedy give CAP_X"));
    }

    [Fact]
    public void The_remedy_names_what_is_missing_of_what_it_takes_and_nothing_else()
    {
        DoctorPrivileges.Remedy("programs", Nothing).ShouldStartWith("give CAP_BPF and CAP_PERFMON: systemd `AmbientCapabilities=CAP_BPF CAP_PERFMON`");
        DoctorPrivileges.Remedy("programs", Nothing).ShouldContain("capabilities.add: [BPF, PERFMON]");
        DoctorPrivileges.Remedy("programs", new Capabilities(1UL << 39, IsRoot: false)).ShouldStartWith("give CAP_PERFMON:");
        DoctorPrivileges.Remedy("programs", new Capabilities(1UL << 21, IsRoot: false)).ShouldStartWith("no capability is missing");
        DoctorPrivileges.Remedy("closed_files", new Capabilities(1UL << 1, IsRoot: true)).ShouldStartWith("no capability is missing");
        DoctorPrivileges.Remedy("uprobes", Everything).ShouldNotContain("CAP_");
    }

    [Fact]
    public void Every_capability_of_the_table_is_one_that_can_be_asked_for() =>
        DoctorPrivileges.All.ShouldAllBe(name => Capabilities.Known.Contains(name));

    [Fact]
    public async Task What_cannot_be_checked_says_so_and_the_rest_goes_on()
    {
        // No root, most likely; and a listener whose address is nobody's.
        var options = new RunOptions { Watch = ["nobody-is-so"], Listen = new System.Net.IPEndPoint(System.Net.IPAddress.Parse("203.0.113.1"), 9), SystemLibraries = false, LibraryPath = ["/nobody-has-this"] };
        DoctorReport report = await Doctor.ExamineAsync(options, static name => name == "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT" ? "http://127.0.0.1:1" : null, ["KAMOTEL_NONSENSE"]);

        Of(report, "listen").Status.ShouldBe("failed");
        Of(report, "listen").Breaks.ShouldBe(["watching", "metrics"]);
        Of(report, "otlp").Seen.ShouldStartWith("http://127.0.0.1:1 cannot be reached");
        Of(report, "settings").Seen.ShouldContain("KAMOTEL_NONSENSE");
        Of(report, "library_paths").Seen.ShouldContain("/nobody-has-this");
        report.ExitCode.ShouldBe(ExitCode.Unusable);
        report.Findings.Select(static f => f.Id).ShouldContain("unwinder");
        report.Findings.ShouldAllBe(static f => f.Seen.Length > 0 && f.Means.Length > 0);
        report.Findings.ShouldAllBe(static f => f.Status != "failed" || (f.Remedy != null && f.Breaks.Length > 0));
    }

    [Fact]
    public async Task Nonsense_in_a_variable_is_a_finding()
    {
        var network = new DoctorNetwork(new RunOptions(), static name => name == "OTEL_EXPORTER_OTLP_ENDPOINT" ? "nonsense" : null, Everything);
        Finding found = await network.Otlp();
        found.Status.ShouldBe(FindingStatus.Failed);
        found.Breaks.ShouldContain(DoctorFeature.Watching);
    }

    [Fact]
    public void A_closed_file_is_closed_to_whoever_has_no_privilege() =>
        Linux.Tools.WithoutPrivilege(static () => AccessTrial.ReadClosedFile().Status.ShouldBe(ProcStatus.Denied));

    [Fact]
    public void Reading_where_nothing_is_tells_whether_it_may_be_read()
    {
        AccessTrial.ReadMemory(Environment.ProcessId).Status.ShouldBe(ProcStatus.Ok);
        AccessTrial.ReadMemory(int.MaxValue).Status.ShouldBe(ProcStatus.Gone);
        if (Environment.IsPrivilegedProcess)
        {
            using System.Diagnostics.Process root = Linux.Tools.Start("cat");
            Linux.Tools.WithoutPrivilege(() => AccessTrial.ReadMemory(root.Id).Status.ShouldBe(ProcStatus.Denied));
            AccessTrial.ReadMemory(root.Id).Status.ShouldBe(ProcStatus.Ok);
            root.StandardInput.Close();
            root.WaitForExit();
        }
    }

    [Theory]
    [InlineData(new byte[] { 0x55, 0x48, 0x89, 0xe5 }, EntryInstruction.Push)]
    [InlineData(new byte[] { 0x41, 0x57, 0x41, 0x56 }, EntryInstruction.Push)]
    [InlineData(new byte[] { 0x48, 0x83, 0xec, 0x08 }, EntryInstruction.Subtract)]
    [InlineData(new byte[] { 0xf3, 0x0f, 0x1e, 0xfa }, EntryInstruction.EndBranch)]
    [InlineData(new byte[] { 0x8b, 0x3f, 0xe9, 0x00 }, EntryInstruction.Unknown)]
    public void A_functions_first_instruction_is_recognised(byte[] code, EntryInstruction entry) => SampleFunction.Recognise(code).ShouldBe(entry);

    private static string[] Broken(params Finding[] findings) => [.. DoctorFeature.All.Select(static f => f.Id).Where(DoctorFeature.Broken(findings).ContainsKey)];

    private static DoctorReport Report(params Finding[] findings) => DoctorReport.Of(findings, [], 0, [], []);

    private static ReportedFinding Of(DoctorReport report, string id) => report.Findings.First(f => f.Id == id);
}
