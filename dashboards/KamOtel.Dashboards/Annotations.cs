using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>What is marked on the time axis.</summary>
internal static class Annotations
{
    /// <summary>All marks.</summary>
    public static JsonArray All(IReadOnlyList<string> scope) =>
    [
        Mark("Verdict hazard or corrupted", Verdicts.Bad, Verdict("=~"), "{{verdict}}", "{{target}} at {{instance}}", "verdict", scope),
        Mark("Other verdicts", Verdicts.Note, Verdict("!~"), "{{verdict}}", "{{target}} at {{instance}}", "verdict", scope),
        Mark("Crashes", Verdicts.Warning, $"{InstrumentQuery.Grown("kamotel.crashes", "instance, target, signal, module")} > 0", "crash: {{signal}}", "{{target}} at {{instance}}, in {{module}}", "signal,module", scope),
        Starts(scope),
    ];

    /// <summary>Only when servers were started: then the agent has most to do.</summary>
    public static JsonArray OnlyStarts(IReadOnlyList<string> scope) => [Starts(scope)];

    private static JsonObject Starts(IReadOnlyList<string> scope) =>
        Mark("Starts", Verdicts.Good, "max by (instance, target) (kamotel.instance.start_time) * 1000", "start", "{{target}} at {{instance}}", "", scope, valueIsTime: true);

    // The counters tell also of a verdict that was in force for less than a scrape.
    private static string Verdict(string matches) =>
        $"{InstrumentQuery.Grown($"kamotel.verdicts{{verdict{matches}\"hazard|corrupted\"}}", "instance, target, verdict")} > 0";

    private static JsonObject Mark(string name, string colour, string expression, string title, string text, string tags, IReadOnlyList<string> scope, bool valueIsTime = false) => new()
    {
        ["name"] = name,
        ["datasource"] = Variables.Prometheus(),
        ["enable"] = true,
        ["iconColor"] = colour,
        ["target"] = new JsonObject { ["refId"] = "Anno", ["expr"] = InstrumentQuery.Of(expression, scope), ["interval"] = "15s" },
        ["titleFormat"] = title,
        ["textFormat"] = text,
        ["tagKeys"] = tags,
        ["useValueForTime"] = valueIsTime,
    };
}
