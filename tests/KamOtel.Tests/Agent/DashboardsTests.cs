using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using System.Xml.Linq;
using KamOtel.Agent;
using KamOtel.Dashboards;

namespace KamOtel.Tests.Agent;

/// <summary>The committed dashboards ask for what there is, and can be read.</summary>
public sealed partial class DashboardsTests
{
    /// <summary>Metrics that no dashboard shows, each with the reason.</summary>
    private static readonly Dictionary<string, string> NotShown = new(StringComparer.Ordinal);

    private static readonly string[] Types = ["row", "stat", "table", "timeseries", "state-timeline"];

    /// <summary>Of a panel's title Grafana shows what fits; a letter is about so wide on a screen of 1,366 pixels.</summary>
    private const double LetterWidth = 6.8;

    public static TheoryData<string> Uids => ["kamotel-fleet", "kamotel-instance", "kamotel-agent"];

    [Fact]
    public void The_identities_of_the_dashboards_never_change() =>
        Directory.EnumerateFiles(Path.Combine(Repository.Root, "dashboards/grafana"), "*.json").Select(static f => Text(JsonNode.Parse(File.ReadAllText(f))!, "uid"))
            .ShouldBe(["kamotel-fleet", "kamotel-instance", "kamotel-agent"], ignoreOrder: true);

    [Theory]
    [MemberData(nameof(Uids))]
    public void Each_metric_and_label_that_is_asked_for_is_in_the_table(string uid)
    {
        string[] queries = [.. Queries(Read(uid))];
        queries.Length.ShouldBeGreaterThan(15);
        queries.SelectMany(InstrumentQuery.Faults).ShouldBeEmpty();
    }

    [Theory]
    [InlineData("sum(kamotel_crash_total)", "there is no metric kamotel_crash_total")]
    [InlineData("kamotel_crashes_total{modul=~\"tls\"}", "kamotel_crashes_total has no label modul")]
    [InlineData("sum by (verdict) (kamotel_crashes_total)", "no metric of it has the label verdict")]
    [InlineData("kamotel_ring_used_bytes / on (ring) kamotel_ring_size_bytes", "no metric of it has the label ring")]
    [InlineData("kamotel_inspection_duration_seconds", "there is no metric kamotel_inspection_duration_seconds")]
    [InlineData("kamotel_crashes_total_bucket", "there is no metric kamotel_crashes_total_bucket")]
    [InlineData("sum by (le) (kamotel_inspection_duration_seconds_sum)", "no metric of it has the label le")]
    public void A_metric_or_label_that_there_is_not_is_found(string query, string fault) => InstrumentQuery.Faults(query).ShouldBe([fault]);

    [Fact]
    public void A_query_with_an_instrument_that_there_is_not_cannot_be_made()
    {
        Should.Throw<ArgumentException>(static () => InstrumentQuery.Of("kamotel.crash")).Message.ShouldContain("kamotel.crash");
        Should.Throw<ArgumentException>(static () => InstrumentQuery.Of("sum by (modul) (kamotel.crashes)")).Message.ShouldContain("modul");
    }

    [Fact]
    public void A_query_selects_by_the_variables_that_its_metrics_have_labels_for() =>
        InstrumentQuery.Of("sum by (le) (rate(kamotel.unwind.duration_bucket[1m])) / kamotel.crashes{signal=\"SIGSEGV\"}", Variables.TargetScope).ShouldBe(
            "sum by (le) (rate(kamotel_unwind_duration_seconds_bucket{job=~\"$job\", instance=~\"$instance\"}[1m])) / kamotel_crashes_total{job=~\"$job\", instance=~\"$instance\", target=~\"$target\", signal=\"SIGSEGV\"}");

    [Fact]
    public void Each_metric_is_on_a_dashboard_or_has_a_reason_not_to_be()
    {
        string[] shown = [.. Uids.SelectMany(static uid => Queries(Read(uid.Data))).SelectMany(InstrumentQuery.Metrics).Select(static m => m.Instrument!.Name).Distinct()];
        Instruments.Table.Select(static i => i.Name).Except(shown).ShouldBe(NotShown.Keys, ignoreOrder: true);
    }

    [Theory]
    [MemberData(nameof(Uids))]
    public void Panels_fill_the_grid_without_holes_and_do_not_overlap(string uid)
    {
        var taken = new HashSet<(int, int)>();
        foreach (JsonNode panel in Panels(uid))
        {
            (int x, int y, int w, int h) = Place(panel);
            foreach ((int, int) cell in Enumerable.Range(x, w).SelectMany(column => Enumerable.Range(y, h).Select(line => (column, line))))
            {
                taken.Add(cell).ShouldBeTrue($"{Text(panel, "title")} lies on another");
                cell.Item1.ShouldBeInRange(0, 23, Text(panel, "title"));
            }
        }
        taken.Count.ShouldBe(24 * (taken.Max(static c => c.Item2) + 1), "there is a hole");
    }

    [Theory]
    [MemberData(nameof(Uids))]
    public void Each_panel_says_what_it_is_and_what_to_do(string uid)
    {
        JsonNode[] panels = Panels(uid);
        panels.Select(static p => p["id"]!.GetValue<int>()).ShouldBeUnique();
        panels.Select(static p => Text(p, "title")).ShouldBeUnique();
        foreach (JsonNode panel in panels)
        {
            string title = Text(panel, "title");
            Types.ShouldContain(Text(panel, "type"), title);
            if (Text(panel, "type") == "row")
            {
                continue;
            }
            Text(panel, "description").Length.ShouldBeGreaterThan(60, title);
            JsonNode defaults = panel["fieldConfig"]!["defaults"]!;
            Text(defaults, "unit").ShouldNotBeEmpty(title);
            Text(defaults, "noValue").ShouldNotBeEmpty(title);
            (title.Length * LetterWidth).ShouldBeLessThan((Place(panel).W * 56) - 24, $"{title} does not fit");
            panel["targets"]!.AsArray().ShouldNotBeEmpty(title);
        }
    }

    [Theory]
    [MemberData(nameof(Uids))]
    public void A_legend_names_labels_that_the_answer_has(string uid)
    {
        foreach (JsonNode target in Panels(uid).SelectMany(static p => p["targets"]?.AsArray() ?? [])!)
        {
            string query = Text(target, "expr");
            string legend = target["legendFormat"]?.GetValue<string>() ?? "";
            string[] kept = [.. By().Matches(query).SelectMany(static m => m.Groups["labels"].Value.Split(", "))];
            LegendLabel().Matches(legend).Select(static m => m.Groups["label"].Value).Except(kept).ShouldBeEmpty(query);
        }
    }

    [Theory]
    [MemberData(nameof(Uids))]
    public void Each_link_leads_somewhere(string uid)
    {
        string[] links = [.. Urls(Read(uid))];
        links.ShouldContain(static l => l.StartsWith("/explore", StringComparison.Ordinal));
        links.ShouldContain(static l => l.StartsWith("${docs}/runbooks/", StringComparison.Ordinal));
        foreach (string link in links)
        {
            if (link.StartsWith("/d/", StringComparison.Ordinal))
            {
                Uids.Select(static u => u.Data).ShouldContain(link[3..].Split('?')[0]);
                VariableInUrl().Matches(link).Select(static m => m.Groups["name"].Value).Except(["__url_time_range", "__data.fields.instance", "__data.fields.target", "__field.labels.instance", "__field.labels.target", .. VariableNames(uid)]).ShouldBeEmpty(link);
            }
            else if (link.StartsWith("/explore?", StringComparison.Ordinal))
            {
                JsonNode pane = JsonNode.Parse(Uri.UnescapeDataString(link[(link.IndexOf("panes=", StringComparison.Ordinal) + 6)..]))!["t"]!;
                pane["datasource"]!.GetValue<string>().ShouldBe("${tempo}");
                Text(pane["queries"]![0]!, "query").ShouldMatch("""^\{name="kamailio start"( && span\.kamotel\.target="\$\{__(data\.fields|field\.labels)\.target:percentencode\}")?\}$""");
            }
            else
            {
                link.ShouldStartWith("${docs}/");
                string[] parts = link["${docs}/".Length..].Split('#');
                string page = Path.Combine(Repository.Root, "docs", parts[0]);
                File.Exists(page).ShouldBeTrue(link);
                if (parts is [_, string heading])
                {
                    File.ReadAllLines(page).Where(static l => l.StartsWith('#')).Select(Slug).ShouldContain(heading, link);
                }
            }
        }
    }

    [Fact]
    public void Blindness_has_the_colour_of_nothing_good_and_each_verdict_has_its_word_and_its_own_colour()
    {
        Verdicts.All.Select(static v => v.Colour).ShouldBeUnique();
        Verdicts.All.Select(static v => v.Word).ShouldBe(["corrupted", "hazard", "exposed", "unknown", "safe"]);
        Verdicts.All.Select(static v => v.Code).ShouldBeInOrder(SortDirection.Descending);
        foreach (JsonNode mapping in Uids.SelectMany(static uid => Objects(Read(uid.Data))).Where(static o => o["1"]?["text"]?.GetValue<string>() == "safe"))
        {
            mapping.AsObject().Select(static m => (m.Key, Text(m.Value!, "text"), Text(m.Value!, "color"))).ShouldBe(Verdicts.All.Select(static v => ($"{v.Code}", v.Word, v.Colour)));
        }
    }

    [Theory]
    [MemberData(nameof(Uids))]
    public void The_picture_shows_each_panel_where_it_is_and_the_guide_shows_the_picture(string uid)
    {
        string picture = Path.Combine(Repository.Root, "dashboards/layout", uid + ".svg");
        XElement svg = XDocument.Load(picture).Root!;
        string[] texts = [.. svg.Descendants().Where(static e => e.Name.LocalName == "text").Select(static e => e.Value.Replace("⌄ ", "", StringComparison.Ordinal))];
        Panels(uid).Select(static p => Text(p, "title")).Except(texts).ShouldBeEmpty();
        svg.Elements().Count(static e => e.Name.LocalName == "rect").ShouldBe(1 + Panels(uid).Count(static p => Text(p, "type") != "row"));
        File.ReadAllText(Path.Combine(Repository.Root, "dashboards/README.md")).ShouldContain($"](layout/{uid}.svg)");
    }

    [Fact]
    public void Each_variable_of_the_provisioning_files_has_a_default_on_this_machine()
    {
        string folder = Path.Combine(Repository.Root, "dashboards/grafana/provisioning");
        Dictionary<string, string> defaults = File.ReadAllLines(Path.Combine(folder, "kamotel.env")).Where(static l => !l.StartsWith('#')).Select(static l => l.Split('=', 2)).ToDictionary(static l => l[0], static l => l[1]);
        string[] asked = [.. ((string[])["dashboards/kamotel.yaml", "datasources/kamotel.yaml"]).SelectMany(f => EnvironmentVariable().Matches(File.ReadAllText(Path.Combine(folder, f)))).Select(static m => m.Groups["name"].Value)];
        asked.ShouldBe(defaults.Keys, ignoreOrder: true);
        defaults.Where(static d => d.Key.EndsWith("_URL", StringComparison.Ordinal)).Select(static d => new Uri(d.Value).IsLoopback).ShouldAllBe(static loopback => loopback);
    }

    private static JsonNode Read(string uid) => JsonNode.Parse(File.ReadAllText(Path.Combine(Repository.Root, "dashboards/grafana", uid + ".json")))!;

    private static JsonNode[] Panels(string uid) => [.. Read(uid)["panels"]!.AsArray()!];

    private static IEnumerable<string> Queries(JsonNode dashboard) =>
        Objects(dashboard).SelectMany(static o => new[] { o["expr"], o["refId"]?.GetValue<string>().StartsWith("PrometheusVariable", StringComparison.Ordinal) == true ? o["query"] : null })
            .OfType<JsonValue>().Select(static q => q.GetValue<string>());

    private static IEnumerable<string> Urls(JsonNode dashboard) => Objects(dashboard).Select(static o => o["url"]).OfType<JsonValue>().Select(static u => u.GetValue<string>());

    private static IEnumerable<string> VariableNames(string uid) => Read(uid)["templating"]!["list"]!.AsArray().Select(static v => Text(v!, "name"));

    private static IEnumerable<JsonObject> Objects(JsonNode? node) => node switch
    {
        JsonObject form => form.SelectMany(static field => Objects(field.Value)).Prepend(form),
        JsonArray list => list.SelectMany(Objects),
        _ => [],
    };

    private static (int X, int Y, int W, int H) Place(JsonNode panel) =>
        (panel["gridPos"]!["x"]!.GetValue<int>(), panel["gridPos"]!["y"]!.GetValue<int>(), panel["gridPos"]!["w"]!.GetValue<int>(), panel["gridPos"]!["h"]!.GetValue<int>());

    private static string Text(JsonNode node, string name) => node[name]!.GetValue<string>();

    /// <summary>What a heading is linked by.</summary>
    private static string Slug(string heading) => NoLetter().Replace(heading.TrimStart('#', ' ').ToLowerInvariant(), "").Replace(' ', '-');

    [GeneratedRegex(@"[^a-z0-9 _-]", RegexOptions.ExplicitCapture)]
    private static partial Regex NoLetter();

    [GeneratedRegex(@"\bby \((?<labels>[^)]*)\)", RegexOptions.ExplicitCapture)]
    private static partial Regex By();

    [GeneratedRegex(@"\{\{(?<label>\w+)\}\}", RegexOptions.ExplicitCapture)]
    private static partial Regex LegendLabel();

    [GeneratedRegex(@"\$\{(?<name>[\w.]+)(:\w+)?\}", RegexOptions.ExplicitCapture)]
    private static partial Regex VariableInUrl();

    [GeneratedRegex(@"\$(?<name>[A-Z_]+)\b", RegexOptions.ExplicitCapture)]
    private static partial Regex EnvironmentVariable();
}
