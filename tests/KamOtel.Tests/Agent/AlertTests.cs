using System.Text.RegularExpressions;
using KamOtel.Agent;
using KamOtel.Dashboards;
using KamOtel.Tests.Linux;
using YamlDotNet.RepresentationModel;

namespace KamOtel.Tests.Agent;

/// <summary>The alerts as they are committed: correct, the same in each form, tried, and with a runbook each.</summary>
public sealed partial class AlertTests
{
    private const string Prometheus = "dashboards/prometheus/";

    private static readonly string[] Headings = ["## What it means", "## How sure it is", "## The first five minutes", "## The cure", "## Did it help"];

    private static IEnumerable<Alert> All => Alerts.Groups.SelectMany(static g => g.Alerts);

    [Fact]
    public void Promtool_has_nothing_to_say_against_the_rules() =>
        Tools.Run("promtool", "check", "rules", Path.Combine(Repository.Root, PrometheusRules.Plain.Path)).ShouldContain($"SUCCESS: {All.Count()} rules found");

    [Fact]
    public void The_example_has_the_job_that_the_alerts_suppose()
    {
        Value(Items(Load(Prometheus + "scrape.example.yaml"), "scrape_configs").ShouldHaveSingleItem(), "job_name").ShouldBe(Alerts.Job);
        Tools.Run("promtool", "check", "config", "--syntax-only", Path.Combine(Repository.Root, Prometheus, "scrape.example.yaml")).ShouldContain("SUCCESS");
    }

    [Theory]
    [InlineData("kamotel.rules.test.yaml")]
    [InlineData("kamotel.texts.test.yaml")]
    public void Each_case_of_promtool_passes(string file) =>
        Tools.Run("promtool", "test", "rules", Path.Combine(Repository.Root, Prometheus, file)).ShouldContain("SUCCESS");

    [Fact]
    public void Each_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not()
    {
        (string Alert, bool Fires)[] cases =
        [
            .. Items(Load(Prometheus + "kamotel.rules.test.yaml"), "tests").SelectMany(static test => Items(test, "promql_expr_test"))
                .Select(static check => (Named().Match(Value(check, "expr")).Groups[1].Value, Items(check, "exp_samples").Any())),
        ];

        foreach (bool fires in new[] { true, false })
        {
            cases.Where(c => c.Fires == fires).Select(static c => c.Alert).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)
                .ShouldBe(All.Select(static a => a.Name).Order(StringComparer.Ordinal), $"cases that expect {(fires ? "an alert" : "none")}");
        }
        Items(Load(Prometheus + "kamotel.texts.test.yaml"), "tests").SelectMany(static test => Items(test, "alert_rule_test"))
            .Select(static check => Value(check, "alertname")).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)
            .ShouldBe(All.Select(static a => a.Name).Order(StringComparer.Ordinal), "cases that read its texts");
    }

    [Fact]
    public void Each_metric_and_label_that_is_asked_for_exists()
    {
        Dictionary<string, string[]> table = Instruments.Table.ToDictionary(static i => i.PrometheusName, static i => i.Attributes, StringComparer.Ordinal);
        string[] scraped = ["job", "instance"];
        foreach (string text in Generated.Files.Where(static f => f.Path.EndsWith(".yaml", StringComparison.Ordinal)).SelectMany(static f => Texts(Load(f.Path))).Where(static t => t.Contains("kamotel_", StringComparison.Ordinal)))
        {
            string[] metrics = [.. MetricName().Matches(text).Select(static m => m.Value)];
            metrics.ShouldAllBe(metric => table.ContainsKey(metric), text);
            foreach (Match selector in Selector().Matches(text))
            {
                LabelMatcher().Matches(selector.Groups["labels"].Value).Select(static m => m.Groups[1].Value)
                    .ShouldBeSubsetOf([.. table[selector.Groups["metric"].Value], .. scraped], selector.Value);
            }
            Grouping().Matches(text).SelectMany(static m => m.Groups[1].Value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
                .ShouldBeSubsetOf([.. metrics.SelectMany(metric => table[metric]), .. scraped], text);
        }
    }

    [Fact]
    public void All_three_forms_have_the_same_alerts()
    {
        IEnumerable<string> Of(YamlNode rules, string title, Func<YamlNode, string> expression) =>
            Items(rules, "groups").SelectMany(group => Items(group, "rules").Select(rule =>
                $"{Value(group, "name")} {Value(rule, title)} {Value(At(rule, "labels"), "severity")} {Value(rule, "for")}\n{expression(rule).Trim()}\n{Value(At(rule, "annotations"), "runbook_url")}"));
        string[] expected = [.. Alerts.Groups.SelectMany(static g => g.Alerts.Select(a =>
            $"{g.Name} {a.Name} {a.Severity.ToString().ToLowerInvariant()} {a.For}\n{a.Expression.Trim()}\n{AlertTexts.RunbookUrl(a)}"))];

        Of(Load(PrometheusRules.Plain.Path), "alert", static rule => Value(rule, "expr")).ShouldBe(expected);
        Of(At(Load(PrometheusRules.Manifest.Path), "spec"), "alert", static rule => Value(rule, "expr")).ShouldBe(expected);
        Of(Load(GrafanaAlerts.File.Path), "title", static rule => Value(At(Items(rule, "data").First(), "model"), "expr")).ShouldBe(expected);
    }

    [Fact]
    public void The_manifest_is_a_rule_of_the_operator()
    {
        YamlNode manifest = Load(PrometheusRules.Manifest.Path);
        Value(manifest, "apiVersion").ShouldBe("monitoring.coreos.com/v1");
        Value(manifest, "kind").ShouldBe("PrometheusRule");
        At(manifest, "spec").ShouldBe(Load(PrometheusRules.Plain.Path), "the chart takes the plain file for it");
    }

    // The fields are those of Grafana's provisioning (AlertRuleGroupV1, AlertRuleV1, QueryV1), which ignores what it does not know.
    [Fact]
    public void Grafana_finds_what_it_asks_for_in_its_file()
    {
        YamlNode file = Load(GrafanaAlerts.File.Path);
        Value(file, "apiVersion").ShouldBe("1");
        Keys(file).ShouldBe(["apiVersion", "groups"]);
        List<string> uids = [];
        foreach (YamlNode group in Items(file, "groups"))
        {
            Keys(group).ShouldBe(["orgId", "name", "folder", "interval", "rules"]);
            Value(group, "interval").ShouldMatch(Duration);
            foreach (YamlNode rule in Items(group, "rules"))
            {
                Keys(rule).ShouldBe(["uid", "title", "condition", "data", "noDataState", "execErrState", "for", "labels", "annotations"]);
                uids.Add(Value(rule, "uid"));
                Value(rule, "for").ShouldMatch(Duration);
                // No series is what an expression that filters gives when all is well; a Prometheus that does not answer is told.
                Value(rule, "noDataState").ShouldBe("OK");
                Value(rule, "execErrState").ShouldBe("Error");

                YamlNode[] data = [.. Items(rule, "data")];
                data.ShouldAllBe(query => Keys(query).SequenceEqual(new[] { "refId", "relativeTimeRange", "datasourceUid", "model" }));
                data.ShouldAllBe(query => Value(query, "refId") == Value(At(query, "model"), "refId"));
                data[..^1].ShouldAllBe(query => Value(query, "datasourceUid") == GrafanaAlerts.DataSource && Value(At(query, "model"), "instant") == "true");
                YamlNode condition = data[^1];
                Value(condition, "refId").ShouldBe(Value(rule, "condition"));
                Value(condition, "datasourceUid").ShouldBe("__expr__");
                Value(At(condition, "model"), "type").ShouldBe("threshold");
                Value(At(condition, "model"), "expression").ShouldBe("A");
                YamlNode evaluator = At(Items(At(condition, "model"), "conditions").Single(), "evaluator");
                Value(evaluator, "type").ShouldBe("gt");
                // A truth value or a number in quotes would be a text to Grafana.
                Items(evaluator, "params").Cast<YamlScalarNode>().ShouldAllBe(static p => p.Value == "-1" && p.Style == YamlDotNet.Core.ScalarStyle.Plain);
                // Grafana puts variables of its environment in the place of what begins with a dollar sign.
                Texts(At(rule, "annotations")).Concat(Texts(At(rule, "labels"))).ShouldAllBe(static text => !text.Contains('$'));
                // A name that a text takes from a query must have that query.
                bool names = Texts(At(rule, "annotations")).Any(static text => text.Contains(".Values.B.", StringComparison.Ordinal));
                data.Length.ShouldBe(names ? 3 : 2);
            }
        }
        uids.ShouldBeUnique();
        uids.ShouldAllBe(static uid => uid.Length <= 40 && Regex.IsMatch(uid, "^[a-z-]+$"));
    }

    [Fact]
    public void No_text_is_left_unfilled() =>
        All.SelectMany(static a => AlertTexts.Of(a, "", "")).Select(static text => text.Template).ShouldAllBe(static text => !text.Contains('['));

    [Fact]
    public void Each_alert_has_a_runbook_that_is_laid_out_as_the_others()
    {
        foreach (IGrouping<string, Alert> runbook in All.GroupBy(static a => a.Runbook))
        {
            string text = File.ReadAllText(Path.Combine(Repository.Root, Words.Runbook(runbook.Key)));
            text.Split('\n').Where(static line => line.StartsWith("## ", StringComparison.Ordinal)).ShouldBe(Headings, runbook.Key);
            // Which alert it is stands before all else, commands before words, and the cure is verified.
            string head = text[..text.IndexOf("\n## ", StringComparison.Ordinal)];
            runbook.ShouldAllBe(alert => head.Contains($"`{alert.Name}` ({AlertTexts.Word(alert.Severity)})", StringComparison.Ordinal), runbook.Key);
            Section(text, "## The first five minutes").ShouldStartWith("```sh\n", Case.Sensitive, runbook.Key);
            Section(text, "## Did it help").ShouldContain("kamotel scan", Case.Sensitive, runbook.Key);
        }
        Directory.EnumerateFiles(Path.Combine(Repository.Root, "docs/runbooks")).Select(Path.GetFileNameWithoutExtension).Order(StringComparer.Ordinal)
            .ShouldBe(All.Select(static a => a.Runbook).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void The_operations_guide_lists_the_alerts() =>
        File.ReadAllLines(Path.Combine(Repository.Root, "docs/operations.md")).SkipWhile(static line => !line.StartsWith("| alert |", StringComparison.Ordinal))
            .Skip(2).TakeWhile(static line => line.StartsWith('|')).Select(static line => line[..line.LastIndexOf(" | ", StringComparison.Ordinal)])
            .ShouldBe(All.Select(static a => $"| [{a.Name}](runbooks/{a.Runbook}.md) | {AlertTexts.Word(a.Severity)}"));

    private static string Section(string text, string heading)
    {
        string rest = text[(text.IndexOf(heading, StringComparison.Ordinal) + heading.Length)..].TrimStart('\n');
        int end = rest.IndexOf("\n## ", StringComparison.Ordinal);
        return end < 0 ? rest : rest[..end];
    }

    private const string Duration = "^[0-9]+[smh]$";

    private static YamlNode Load(string path)
    {
        var stream = new YamlStream();
        using StreamReader reader = File.OpenText(Path.Combine(Repository.Root, path));
        stream.Load(reader);
        return stream.Documents.Single().RootNode;
    }

    private static YamlNode At(YamlNode node, string key) => ((YamlMappingNode)node).Children[key];

    private static string Value(YamlNode node, string key) => ((YamlScalarNode)At(node, key)).Value!;

    private static IEnumerable<YamlNode> Items(YamlNode node, string key) => ((YamlMappingNode)node).Children.TryGetValue(key, out YamlNode? items) ? ((YamlSequenceNode)items).Children : [];

    private static string[] Keys(YamlNode node) => [.. ((YamlMappingNode)node).Children.Keys.Select(static key => ((YamlScalarNode)key).Value!)];

    private static IEnumerable<string> Texts(YamlNode node) => node.AllNodes.OfType<YamlScalarNode>().Select(static n => n.Value!);

    [GeneratedRegex("alertname=\"(\\w+)\"")]
    private static partial Regex Named();

    [GeneratedRegex(@"\bkamotel_\w+")]
    private static partial Regex MetricName();

    [GeneratedRegex(@"(?<metric>kamotel_\w+)\{(?<labels>[^}]*)\}")]
    private static partial Regex Selector();

    [GeneratedRegex(@"(\w+)(?:=~|!~|!=|=)(?:""[^""]*""|%\[\d\]q)")]
    private static partial Regex LabelMatcher();

    [GeneratedRegex(@"\b(?:without|by|on) \(([^)]*)\)")]
    private static partial Regex Grouping();
}
