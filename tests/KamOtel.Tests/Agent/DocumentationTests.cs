using System.Text.Json;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What the documentation lists is what there is: no more and no less.</summary>
public sealed class DocumentationTests
{
    [Fact]
    public void The_metrics_reference_is_the_instrument_table() =>
        Section("docs/metrics.md", "| metric |").ShouldBe(Instruments.Table.Select(static i =>
            $"| `{i.PrometheusName}` | {i.Kind.ToString().ToLowerInvariant()} | {Unit(i.Unit)} | {string.Join(", ", i.Attributes.Select(static a => $"`{a}`"))} | {i.Help} |"));

    [Fact]
    public void The_operations_guide_lists_the_settings() =>
        Section("docs/operations.md", "| option | variable |").ShouldBe(Settings.All.Select(static s =>
            $"| `{s.Option} {s.Form.Replace("|", "\\|", StringComparison.Ordinal)}` | `{s.Variable}` | `{s.Key}` | {s.Help} |"));

    [Fact]
    public void The_operations_guide_explains_every_gap() =>
        Section("docs/operations.md", "| gap |").Select(static line => line.Split('`')[1])
            .ShouldBe(Enum.GetValues<CoverageGaps>().Where(static g => g != CoverageGaps.None).Select(Words.Of));

    [Fact]
    public void The_operations_guide_lists_the_exit_codes() =>
        Section("docs/operations.md", "| exit code |").Select(static line => int.Parse(line.Split('|')[1].Trim('`', ' '), System.Globalization.CultureInfo.InvariantCulture))
            .ShouldBe([ExitCode.Ok, ExitCode.Usage, ExitCode.Unavailable, ExitCode.Software, ExitCode.NoPermission]);

    [Fact]
    public void The_guide_to_check_lists_its_exit_codes() =>
        Section("docs/check.md", "| exit code of").SelectMany(static line => line.Split('|')[1].Split(',')).Select(static code => int.Parse(code, System.Globalization.CultureInfo.InvariantCulture))
            .ShouldBe(
            [
                ExitCode.Ok, ExitCode.Hazard, ExitCode.CouldNotTell, ExitCode.Usage, ExitCode.Unavailable, ExitCode.NoPermission,
                ExitCode.CannotCreate, ExitCode.OutputError, ExitCode.CannotExecute, ExitCode.NotFound,
            ]);

    [Fact]
    public void The_operations_guide_lists_what_the_doctor_looks_at() =>
        Section("docs/operations.md", "| feature |").ShouldBe(DoctorFeature.All.Select(static f => $"| `{f.Id}` | {f.What} |"));

    [Fact]
    public void The_security_guide_tells_what_each_capability_is_for()
    {
        string[] needed = [.. Section("docs/security.md", "| kernel | capabilities |")[0].Split('`').Where(static (_, i) => i % 2 == 1)];
        string[] told = [.. Section("docs/security.md", "| capability | for | without it stops |").Select(static line => line.Split('`')[1])];
        string[] rarely = [.. Section("docs/security.md", "| capability | for | without it |").Select(static line => line.Split('`')[1])];
        told.ShouldBe(needed);
        LeastPrivilege.Agent.ShouldBe(needed, "it keeps what it needs");
        told.Concat(rarely).Order(StringComparer.Ordinal).ShouldBe(DoctorPrivileges.All.Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Every_test_that_the_security_guide_names_is_there()
    {
        string[][] named =
        [
            .. File.ReadAllText(Path.Combine(Repository.Root, "docs/security.md")).Split('`').Where(static (_, i) => i % 2 == 1)
                .Select(static code => code.Split('.')).Where(static parts => parts.Length == 2 && parts[0].EndsWith("Tests", StringComparison.Ordinal)),
        ];
        named.Length.ShouldBeGreaterThan(20);
        foreach (string[] test in named)
        {
            string[] files = Directory.GetFiles(Path.Combine(Repository.Root, "tests"), $"{test[0]}.cs", SearchOption.AllDirectories);
            files.ShouldContain(file => File.ReadAllText(file).Contains($" {test[1]}(", StringComparison.Ordinal), string.Join('.', test));
        }
    }

    [Fact]
    public void The_schema_of_the_configuration_file_has_the_settings()
    {
        using JsonDocument schema = JsonDocument.Parse(File.ReadAllText(Path.Combine(Repository.Root, "docs/config.schema.json")));
        schema.RootElement.GetProperty("additionalProperties").GetBoolean().ShouldBeFalse();
        JsonElement properties = schema.RootElement.GetProperty("properties");
        properties.EnumerateObject().Select(static p => p.Name).ShouldBe(["$schema", .. Settings.All.Select(static s => s.Key)]);
        foreach (Setting setting in Settings.All)
        {
            JsonElement property = properties.GetProperty(setting.Key);
            property.GetProperty("description").GetString().ShouldBe(setting.Help);
            // Its default and its examples are values that the agent takes.
            foreach (JsonElement example in property.GetProperty("examples").EnumerateArray().Append(property.GetProperty("default")))
            {
                string file = Path.GetTempFileName();
                File.WriteAllText(file, $$"""{ "{{setting.Key}}": {{example.GetRawText()}} }""");
                _ = Configuration.Load(file, static _ => null, []);
                File.Delete(file);
            }
        }
    }

    [Fact]
    public void Every_log_event_is_documented()
    {
        string text = File.ReadAllText(Path.Combine(Repository.Root, "docs/metrics.md"));
        foreach (string name in new[] { "found", "ready", "verdict", "confirmed", "gap", "ended" }.Select(static n => $"kamotel.instance.{n}").Concat(["kamotel.thread_local.call", "kamotel.process.exit", "kamotel.crash", "kamotel.memory.complaint"]))
        {
            text.ShouldContain($"`{name}`");
        }
    }

    [Fact]
    public void The_advice_page_is_the_file_of_knowledge() => Section("docs/advice.md", "| advice | verdict |").ShouldBe(AdviceTable.All("docs"));

    [Fact]
    public void A_runbook_has_the_advice_of_its_verdict()
    {
        Section("docs/runbooks/hazard.md", "| of which server |").ShouldBe(AdviceTable.Of(static e => e.When.Verdict.Contains(Verdict.Hazard), "docs/runbooks"));
        Section("docs/runbooks/corrupted.md", "| of which server |").ShouldBe(AdviceTable.Of(static e => e.When.Verdict is [Verdict.Corrupted], "docs/runbooks"));
    }

    /// <summary>The rows of the table whose head begins so.</summary>
    private static string[] Section(string file, string head) =>
    [
        .. File.ReadAllLines(Path.Combine(Repository.Root, file)).SkipWhile(line => !line.StartsWith(head, StringComparison.Ordinal))
            .Skip(2).TakeWhile(static line => line.StartsWith('|')),
    ];

    private static string Unit(string unit) => unit switch
    {
        "1" => "",
        "s" => "seconds",
        "By" => "bytes",
        "{process}" => "processes",
        "{crash}" => "crashes",
        _ => unit.Trim('{', '}') + "s",
    };
}
