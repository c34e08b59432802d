using System.Text.Json;
using System.Xml.Linq;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;
using KamOtel.Tests.Linux;

namespace KamOtel.Tests.Agent;

/// <summary>What a check makes of what it saw.</summary>
public sealed class CheckTests
{
    [Theory]
    [InlineData(Verdict.Safe, null, 0)]
    [InlineData(Verdict.Exposed, null, 0)]
    [InlineData(Verdict.Hazard, null, 1)]
    [InlineData(Verdict.Corrupted, null, 1)]
    [InlineData(Verdict.Unknown, null, 2)]
    [InlineData(Verdict.Safe, "it ended by itself", 2)]
    [InlineData(Verdict.Hazard, "it ended by itself", 1)]
    public void A_hazard_stays_one_and_what_did_not_go_well_is_not_safe(Verdict verdict, string? problem, int code)
    {
        CheckResult result = Result("a", verdict, problem);
        result.Code.ShouldBe(code);
        result.Verdict.ShouldBe(code == 2 ? Verdict.Unknown : verdict);
        result.Reason.ShouldBe(code == 2 && problem is not null ? problem : result.Servers[0].Reason);
    }

    [Fact]
    public void Of_several_the_worst_decides_and_a_hazard_is_worse_than_blindness()
    {
        CheckResult safe = Result("a", Verdict.Safe), hazard = Result("b", Verdict.Hazard), unknown = Result("c", Verdict.Unknown);
        CheckResult absent = safe with { Servers = [], Problem = "no program", NotExecuted = true };
        CheckResult.CodeOf([safe, safe]).ShouldBe(0);
        CheckResult.CodeOf([safe, unknown]).ShouldBe(2);
        CheckResult.CodeOf([unknown, hazard, safe]).ShouldBe(1);
        CheckResult.CodeOf([safe, absent]).ShouldBe(2);
        CheckResult.CodeOf([absent]).ShouldBe(126);
    }

    [Fact]
    public void Each_value_takes_the_place_of_the_braces_wherever_they_are()
    {
        Options(["kamailio-{}", "-f", "/etc/{}/{}.cfg", "x"], ["5.6", "5.8"]).Commands().Select(static c => string.Join(' ', c.Words))
            .ShouldBe(["kamailio-5.6 -f /etc/5.6/5.6.cfg x", "kamailio-5.8 -f /etc/5.8/5.8.cfg x"]);
        Options(["find", "{}"], []).Commands().Single().Words.ShouldBe(["find", "{}"]);
    }

    [Theory]
    [InlineData("--each: the command has no {}", "kamailio", "a")]
    [InlineData("--each: a value is empty", "{}", "")]
    [InlineData("the command is missing", "", null)]
    public void A_command_that_cannot_be_meant_is_refused(string problem, string command, string? value) =>
        Should.Throw<UsageException>(() => Options([command], value is null ? [] : [value]).Commands()).Message.ShouldContain(problem);

    [Theory]
    [InlineData("put -- before the command", "check", "kamailio", "x")]
    [InlineData("'--wrong' before -- is no option", "check", "--wrong", "--", "true")]
    [InlineData("'--jnuit' before -- is no option", "check", "--jnuit", "x.xml", "--", "true", "--junit", "y.xml")]
    [InlineData("check: Required argument missing|COMMAND|Required", "check", "--for", "1s")]
    [InlineData("--for: 'soon' is no time", "check", "--for", "soon", "--", "true")]
    [InlineData("--each: the command has no {}", "check", "--each", "a", "b", "--", "true")]
    [InlineData("--junit: the name of the file is empty", "check", "--junit", "", "--", "true")]
    public async Task A_mistake_is_said_before_anything_runs(string problem, params string[] arguments)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        (await CommandLine.RunAsync(arguments, output, error)).ShouldBe(ExitCode.Usage);
        problem.Split('|').ShouldContain(p => error.ToString().Contains(p, StringComparison.Ordinal), error.ToString());
        error.ToString().ShouldContain("Try 'kamotel check --help'");
    }

    [Fact]
    public async Task A_program_that_is_not_there_and_a_report_that_cannot_be_have_their_own_codes()
    {
        using var scratch = new Scratch();
        File.WriteAllText(scratch["text"], "");
        (await Code("check", "--", scratch["nothing"])).ShouldBe(ExitCode.NotFound);
        (await Code("check", "--", scratch["text"])).ShouldBe(ExitCode.CannotExecute);
        (await Code("check", "--junit", scratch["no/where.xml"], "--", "true")).ShouldBe(ExitCode.CannotCreate);
        // Who waits for a report gets one.
        (await Code("check", "--junit", scratch["report.xml"], "--each", "a", "b", "--", scratch["{}"])).ShouldBe(ExitCode.NotFound);
        XDocument.Load(scratch["report.xml"]).Descendants("error").Select(static e => e.Attribute("type")!.Value).ShouldBe(["unknown", "unknown"]);
    }

    [Fact]
    public void The_document_tells_how_each_command_ended()
    {
        JsonElement document = JsonDocument.Parse(ScanReport.Of(
            [Result("a.cfg", Verdict.Hazard) with { Configuration = "a.cfg", Status = 3 << 8 }, Result("b", Verdict.Safe) with { Status = 11, Stopped = true, Killed = 2 }]).ToJson()).RootElement;
        document.GetProperty("instances").GetArrayLength().ShouldBe(2);
        JsonElement first = document.GetProperty("commands")[0], second = document.GetProperty("commands")[1];
        first.GetProperty("configuration").GetString().ShouldBe("a.cfg");
        first.GetProperty("verdict").GetString().ShouldBe("hazard");
        first.GetProperty("exitCode").GetInt32().ShouldBe(3);
        first.GetProperty("signal").ValueKind.ShouldBe(JsonValueKind.Null);
        first.GetProperty("rootPids")[0].GetInt32().ShouldBe(10);
        second.GetProperty("configuration").ValueKind.ShouldBe(JsonValueKind.Null);
        second.GetProperty("exitCode").ValueKind.ShouldBe(JsonValueKind.Null);
        second.GetProperty("signal").GetInt32().ShouldBe(11);
        second.GetProperty("stopped").GetBoolean().ShouldBeTrue();
        second.GetProperty("killed").GetInt32().ShouldBe(2);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_table_has_a_line_a_configuration_and_below_it_why(bool colored)
    {
        var output = new StringWriter();
        new CheckTable(output, colored).Print(
            [Result("old.cfg", Verdict.Hazard) with { Status = 0, Stopped = true }, Result("new.cfg", Verdict.Safe), Result("odd.cfg", Verdict.Safe) with { Servers = [], Problem = "no server" }]);
        string text = output.ToString();
        text.Contains('\u001b', StringComparison.Ordinal).ShouldBe(colored);
        string[] lines = [.. text.Split('\n').Where(static l => l.Length > 0 && !l.StartsWith(' '))];
        lines.Length.ShouldBe(4);
        lines[0].ShouldStartWith("VERDICT");
        lines[1].ShouldMatch(@"hazard\S*  +5\.6\.3  +-  +1  +-  +old\.cfg$");
        lines[2].ShouldMatch(@"safe\S*  +5\.6\.3  +-  +0  +-  +new\.cfg$");
        lines[3].ShouldMatch(@"unknown\S*  +-  +-  +-  +-  +odd\.cfg$");
        text.ShouldContain("  command: exit code 0 after SIGTERM\n");
        text.ShouldContain("  key 3 = 0x7f0000001000 in /dev/zero (deleted)");
        text.ShouldContain("  no server\n");
    }

    [Fact]
    public void The_report_for_continuous_integration_has_failures_for_hazards_and_errors_for_blindness()
    {
        using var scratch = new Scratch();
        using (JUnitReport report = JUnitReport.Create(scratch["junit.xml"]))
        {
            report.Write(
                [
                    Result("a <&\"'>\u0001\ud800 ü \U0001f600.cfg", Verdict.Hazard) with { Duration = TimeSpan.FromSeconds(1.5) },
                    Result("b.cfg", Verdict.Safe) with { Duration = TimeSpan.FromSeconds(2) },
                    Result("c.cfg", Verdict.Safe, "it ended by itself"),
                ]);
        }
        XElement root = XDocument.Load(scratch["junit.xml"]).Root!;
        root.Name.LocalName.ShouldBe("testsuites");
        XElement suite = root.Elements("testsuite").ShouldHaveSingleItem();
        foreach (XElement counted in new[] { root, suite })
        {
            new[] { "tests", "failures", "errors", "time" }.Select(name => counted.Attribute(name)!.Value).ShouldBe(["3", "1", "1", "3.500"]);
        }
        XElement[] cases = [.. suite.Elements("testcase")];
        cases.Select(static c => c.Attribute("name")!.Value).ShouldBe(["a <&\"'>\ufffd\ufffd ü \U0001f600.cfg", "b.cfg", "c.cfg"]);
        cases.Select(static c => c.Elements().Single().Name.LocalName).ShouldBe(["failure", "system-out", "error"]);
        XElement failure = cases[0].Elements().Single();
        failure.Attribute("type")!.Value.ShouldBe("hazard");
        failure.Attribute("message")!.Value.ShouldContain("hold the same pointers");
        failure.Value.ShouldContain("key 3 = 0x7f0000001000");
        cases[2].Element("error")!.Attribute("message")!.Value.ShouldBe("it ended by itself");
    }

    private static CheckOptions Options(string[] command, string[] each) =>
        new([.. command], [.. each], TimeSpan.FromSeconds(10), TimeSpan.FromSeconds(60), TimeSpan.FromSeconds(10), Json: false, JUnit: null, Colored: false);

    private static CheckResult Result(string name, Verdict verdict, string? problem = null)
    {
        var history = new History();
        history.Seed(10).Seed(11, 10).Seed(12, 10).Wait(2 * History.Second)
            .Inspect(pid => history.Found(pid, verdict >= Verdict.Hazard ? [History.Shared(3)] : []), new ServerFacts { Kamailio = "5.6.3", Modules = ["tls"] });
        return new() { Name = name, Configuration = null, Servers = [history.Server with { Verdict = verdict }], Problem = problem };
    }

    private static async Task<int> Code(params string[] arguments)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        int code = await CommandLine.RunAsync(arguments, output, error);
        error.ToString().ShouldStartWith("kamotel: error: ");
        output.ToString().ShouldBeEmpty();
        return code;
    }
}
