using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Dashboards;

/// <summary>A verdict as dashboards show it.</summary>
/// <param name="Verdict">Which.</param>
/// <param name="Code">Its number where a panel takes numbers only: the worse, the higher, and blindness above safety.</param>
/// <param name="Colour">Its colour, never without its word.</param>
internal sealed record ShownVerdict(Verdict Verdict, int Code, string Colour)
{
    /// <summary>Its one name.</summary>
    public string Word => Words.Of(Verdict);
}

/// <summary>Words and colours of verdicts, for all panels. The colours are Paul Tol's <em>vibrant</em> scheme, which colour-blind people can tell apart.</summary>
internal static class Verdicts
{
    /// <summary>For what is bad.</summary>
    public const string Bad = "#CC3311";

    /// <summary>For what deserves a look.</summary>
    public const string Warning = "#EE7733";

    /// <summary>For what could not be seen. It is not the colour of anything good.</summary>
    public const string Blind = "#BBBBBB";

    /// <summary>For what is as it should be.</summary>
    public const string Good = "#009988";

    /// <summary>For what is worth knowing.</summary>
    public const string Note = "#33BBEE";

    /// <summary>For what is neither: Grafana's colour of text.</summary>
    public const string Plain = "text";

    /// <summary>All, the worst first.</summary>
    public static IReadOnlyList<ShownVerdict> All { get; } =
    [
        new(Verdict.Corrupted, 5, Bad),
        new(Verdict.Hazard, 4, Warning),
        new(Verdict.Exposed, 3, Note),
        new(Verdict.Unknown, 2, Blind),
        new(Verdict.Safe, 1, Good),
    ];

    /// <summary>The verdict in force as its number.</summary>
    /// <param name="by">Labels to keep.</param>
    public static string CodeBy(string by) =>
        $"sum by ({by}) ({string.Join(" or ", All.Select(static v => $"kamotel.instance.verdict{{verdict=\"{v.Word}\"}} * {v.Code}"))})";

    /// <summary>Numbers into words and colours.</summary>
    public static JsonArray Mappings() =>
    [
        new JsonObject
        {
            ["type"] = "value",
            ["options"] = new JsonObject(All.Select(static (v, i) => KeyValuePair.Create<string, JsonNode?>(
                $"{v.Code}", new JsonObject { ["text"] = v.Word, ["color"] = v.Colour, ["index"] = i }))),
        },
    ];
}
