using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>What is chosen at the top of a dashboard.</summary>
internal static class Variables
{
    /// <summary>The agents.</summary>
    public static IReadOnlyList<string> AgentScope { get; } = ["job=~\"$job\"", "instance=~\"$instance\""];

    /// <summary>The agents and their targets.</summary>
    public static IReadOnlyList<string> TargetScope { get; } = [.. AgentScope, "target=~\"$target\""];

    /// <summary>The Prometheus that was chosen.</summary>
    public static JsonObject Prometheus() => new() { ["type"] = "prometheus", ["uid"] = "${datasource}" };

    /// <summary>All of a dashboard.</summary>
    public static JsonArray Of(IReadOnlyList<string> scope)
    {
        var variables = new JsonArray
        {
            DataSource("datasource", "Prometheus", "prometheus"),
            DataSource("tempo", "Tempo", "tempo"),
            Values("job", "Scrape job", "kamotel.build.info", []),
            Values("instance", "Agent", "kamotel.build.info", ["job=~\"$job\""]),
        };
        if (scope.Count > AgentScope.Count)
        {
            // Of a server that died the counters stay, and one wants to look at it most of all.
            variables.Add(Values("target", "Target", "kamotel.verdicts", AgentScope));
        }
        variables.Add(new JsonObject
        {
            ["type"] = "textbox",
            ["name"] = "docs",
            ["label"] = "Guides at",
            ["description"] = "Where docs/ can be read: an agent serves it, as your browser reaches it, or a copy of the repository",
            ["query"] = "http://127.0.0.1:9464/docs",
            ["current"] = new JsonObject { ["text"] = "http://127.0.0.1:9464/docs", ["value"] = "http://127.0.0.1:9464/docs" },
        });
        return variables;
    }

    private static JsonObject DataSource(string name, string label, string type) => new()
    {
        ["type"] = "datasource",
        ["name"] = name,
        ["label"] = label,
        ["query"] = type,
        ["refresh"] = 1,
        ["regex"] = "",
    };

    /// <summary>The values of the label that is called as the variable.</summary>
    private static JsonObject Values(string name, string label, string metric, IReadOnlyList<string> scope) => new()
    {
        ["type"] = "query",
        ["name"] = name,
        ["label"] = label,
        ["datasource"] = Prometheus(),
        ["query"] = new JsonObject
        {
            ["qryType"] = 1,
            ["query"] = $"label_values({InstrumentQuery.Of(metric, scope)}, {name})",
            ["refId"] = "PrometheusVariableQueryEditor-VariableQuery",
        },
        ["refresh"] = 2,
        ["sort"] = 1,
        ["multi"] = true,
        ["includeAll"] = true,
        ["allValue"] = ".*",
        ["current"] = new JsonObject { ["text"] = Json.Array("All"), ["value"] = Json.Array("$__all") },
    };
}
