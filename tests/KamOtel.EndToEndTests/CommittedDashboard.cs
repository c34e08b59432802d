using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace KamOtel.EndToEndTests;

/// <summary>One thing that a dashboard asks Prometheus.</summary>
/// <param name="Who">Which panel, variable or mark.</param>
/// <param name="Text">PromQL, or <c>label_values(…)</c>, with variables in it.</param>
/// <param name="Now">It is asked for its value now; else for its course.</param>
/// <param name="Exemplars">Exemplars are asked for, too.</param>
internal sealed record Asked(string Who, string Text, bool Now, bool Exemplars);

/// <summary>A dashboard as it is committed, read without the source that it is made from.</summary>
internal sealed partial class CommittedDashboard
{
    /// <summary>Where all of them are.</summary>
    public static IEnumerable<string> Files() => Directory.EnumerateFiles(Path.Combine(Requirements.Repository, "dashboards", "grafana"), "*.json").Order(StringComparer.Ordinal);

    private CommittedDashboard(JsonNode json) => Json = json;

    /// <summary>All of it.</summary>
    public JsonNode Json { get; }

    /// <summary>Reads one.</summary>
    public static CommittedDashboard Read(string file) => new(JsonNode.Parse(File.ReadAllText(file))!);

    /// <summary>The queries of all panels, also of those in folded rows, of variables and of marks.</summary>
    public IEnumerable<Asked> Queries()
    {
        string title = Text(Json, "title");
        foreach (JsonNode panel in Json["panels"]!.AsArray().SelectMany(static p => p!["panels"]?.AsArray().Prepend(p) ?? [p])!)
        {
            foreach (JsonNode? target in panel["targets"]?.AsArray() ?? [])
            {
                yield return new Asked($"{title}, panel {Text(panel, "title")}, {Text(target!, "refId")}", Text(target!, "expr"), target!["instant"]!.GetValue<bool>(), target["exemplar"]?.GetValue<bool>() ?? false);
            }
        }
        foreach (JsonNode? variable in Json["templating"]!["list"]!.AsArray().Where(static v => Text(v!, "type") == "query"))
        {
            yield return new Asked($"{title}, variable {Text(variable!, "name")}", Text(variable!["query"]!, "query"), Now: false, Exemplars: false);
        }
        foreach (JsonNode? mark in Json["annotations"]!["list"]!.AsArray())
        {
            yield return new Asked($"{title}, mark {Text(mark!, "name")}", Text(mark!["target"]!, "expr"), Now: false, Exemplars: false);
        }
    }

    /// <summary>Puts in what Grafana puts in for variables; one that is not known stays, and Prometheus refuses it.</summary>
    public static string Substituted(string text, IReadOnlyDictionary<string, string> values) =>
        Variable().Replace(text, m => values.GetValueOrDefault(m.Groups["name"].Value, m.Value));

    private static string Text(JsonNode node, string name) => node[name]!.GetValue<string>();

    [GeneratedRegex(@"\$(?<name>\w+)", RegexOptions.ExplicitCapture)]
    private static partial Regex Variable();
}
