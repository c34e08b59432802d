using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Dashboards;

/// <summary>What several alerts ask for.</summary>
internal static class PromQl
{
    /// <summary>How far back an alert looks for what happened: as long it stays after the last time.</summary>
    public const string Window = "15m";

    /// <summary>
    /// A counter grew within the window, with what it stands at. <c>increase()</c> alone does not see the first crash: a series
    /// that appears with the value 1 never increased. So the most that it was is compared with the last that was known before,
    /// if anything was; a day back, so that a pause of Prometheus makes nothing new. <c>increase()</c> sees what was counted
    /// after the agent was restarted and began at zero.
    /// </summary>
    public static string Grew(string counter, string window = Window) =>
        $"""
        max_over_time({counter}[{window}]) > (last_over_time({counter}[1d] offset {window}) or 0 * max_over_time({counter}[{window}]))
        or
        increase({counter}[{window}]) > 0
        """;

    /// <summary>By how much a counter grew within the window, what it began with included.</summary>
    public static string Growth(string counter, string window) =>
        $"clamp_min(max_over_time({counter}[{window}]) - (last_over_time({counter}[1d] offset {window}) or 0 * max_over_time({counter}[{window}])), 0)";

    /// <summary>One of the verdicts was in force within the window, or came and went with a server that lived between two scrapes.</summary>
    public static string Verdicts(params Verdict[] verdicts)
    {
        string selector = Matcher("verdict", verdicts.Select(Words.Of));
        return $$"""
            max without (verdict) (max_over_time({{Metric.Name("kamotel.instance.verdict")}}{{{selector}}}[{{Window}}])) == 1
            or
            {{Any("max", "verdict", Grew($"{Metric.Name("kamotel.verdicts")}{{{selector}}}"))}}
            """;
    }

    /// <summary>An expression over several lines, aggregated so that these labels are gone.</summary>
    public static string Any(string aggregation, string without, string expression) =>
        $"{aggregation} without ({without}) (\n{Indent(expression)}\n)";

    /// <summary>A label that has one of these values.</summary>
    public static string Matcher(string label, IEnumerable<string> values) =>
        values.ToArray() is [string one] ? $"{label}=\"{one}\"" : $"{label}=~\"{string.Join('|', values)}\"";

    /// <summary>Two spaces before each line.</summary>
    public static string Indent(string text) => string.Join('\n', text.Split('\n').Select(static line => "  " + line));
}
