using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>Where a click on a value leads.</summary>
internal sealed record DataLink(string Title, string Url, bool NewTab = false)
{
    internal JsonObject ToJson() => new() { ["title"] = Title, ["url"] = Url, ["targetBlank"] = NewTab };
}

/// <summary>Addresses of dashboards, traces and guides.</summary>
internal static class Links
{
    private const string Selected = "${datasource:queryparam}&${tempo:queryparam}&${docs:queryparam}&${job:queryparam}&${__url_time_range}";

    /// <summary>A target's detail, from a row of a table.</summary>
    public static DataLink ToTargetOfRow { get; } = ToTarget("${__data.fields.instance:percentencode}", "${__data.fields.target:percentencode}");

    /// <summary>A target's detail, from its series.</summary>
    public static DataLink ToTargetOfSeries { get; } = ToTarget("${__field.labels.instance:percentencode}", "${__field.labels.target:percentencode}");

    /// <summary>The traces of a target's starts, from a row of a table.</summary>
    public static DataLink ToStartsOfRow { get; } = ToStarts("${__data.fields.target:percentencode}");

    /// <summary>The traces of a target's starts, from its series.</summary>
    public static DataLink ToStartsOfSeries { get; } = ToStarts("${__field.labels.target:percentencode}");

    /// <summary>A page of the documentation.</summary>
    /// <param name="title">What for.</param>
    /// <param name="page">Below <c>docs/</c>.</param>
    public static DataLink ToGuide(string title, string page) => new(title, Guide(page), NewTab: true);

    /// <summary>The runbooks, for a verdict or damage.</summary>
    public static IReadOnlyList<DataLink> Runbooks { get; } =
    [
        ToGuide("Runbook: hazard", "runbooks/hazard.md"),
        ToGuide("Runbook: corrupted", "runbooks/corrupted.md"),
    ];

    /// <summary>What is above each dashboard: the others, the runbooks, the traces.</summary>
    /// <param name="self">The dashboard's own <c>uid</c>.</param>
    public static JsonArray Above(string self) => Json.Array(
        AllDashboards.InOrder.Where(d => d.Uid != self).Select(static d => Above(d.Title, $"/d/{d.Uid}", "dashboard", d.Tooltip, newTab: false))
            .Append(Above("Traces of starts", Explore("{name=\"kamailio start\"}"), "external link", "Each start of a server as a trace, in Tempo", newTab: true))
            .Append(Above("Operations guide", Guide("operations.md"), "doc", "What gaps, statuses and settings mean", newTab: true))
            .Append(Above("Runbook: hazard", Guide("runbooks/hazard.md"), "doc", "The first five minutes, and the cure", newTab: true))
            .Append(Above("Runbook: corrupted", Guide("runbooks/corrupted.md"), "doc", "The first five minutes, and the cure", newTab: true)));

    private static string Guide(string page) => $"${{docs}}/{page}";

    private static DataLink ToTarget(string instance, string target) =>
        new("This target in detail", $"/d/{InstanceDashboard.Uid}?{Selected}&var-instance={instance}&var-target={target}");

    private static DataLink ToStarts(string target) =>
        new("Traces of its starts", Explore("{name=\"kamailio start\" && span.kamotel.target=\"TARGET\"}").Replace("TARGET", target, StringComparison.Ordinal), NewTab: true);

    /// <summary>Grafana's Explore with a query in TraceQL; what Grafana puts in stays as it is.</summary>
    private static string Explore(string traceQl)
    {
        var panes = new JsonObject
        {
            ["t"] = new JsonObject
            {
                ["datasource"] = "TEMPO",
                ["queries"] = new JsonArray(new JsonObject
                {
                    ["refId"] = "A",
                    ["datasource"] = new JsonObject { ["type"] = "tempo", ["uid"] = "TEMPO" },
                    ["queryType"] = "traceql",
                    ["query"] = traceQl,
                }),
                ["range"] = new JsonObject { ["from"] = "FROM", ["to"] = "TO" },
            },
        };
        return $"/explore?schemaVersion=1&panes={Uri.EscapeDataString(Json.Line(panes))}"
            .Replace("FROM", "${__from}", StringComparison.Ordinal).Replace("TO", "${__to}", StringComparison.Ordinal).Replace("TEMPO", "${tempo}", StringComparison.Ordinal);
    }

    private static JsonObject Above(string title, string url, string icon, string tooltip, bool newTab) => new()
    {
        ["type"] = "link",
        ["title"] = title,
        ["url"] = url,
        ["icon"] = icon,
        ["tooltip"] = tooltip,
        ["tags"] = new JsonArray(),
        ["asDropdown"] = false,
        ["targetBlank"] = newTab,
        // Others than dashboards have no use for them.
        ["keepTime"] = !newTab,
        ["includeVars"] = !newTab,
    };
}
