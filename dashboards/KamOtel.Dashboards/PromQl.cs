using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Dashboards;

/// <summary>What several alerts ask for.</summary>
internal static class PromQl
{
    /// <summary>How far back an alert looks for what happened: as long it stays after the last time.</summary>
    public const string Window = "15m";

    /// <summary>
    /// A counter grew within the window. <c>increase()</c> is of no use here: a series that appears with the value 1 never
    /// increased, and the first crash of a server is such a one. So what it reached is compared with the last that was known
    /// before, up to a day back, lest a pause of Prometheus make it new. A restarted agent counts from zero and may come to the
    /// same number: then what it has counted is new, and so is a series that an agent that answered did not have.
    /// </summary>
    public static string Grew(string counter)
    {
        string agent = Metric.Name("kamotel.agent.cpu_time");
        return $"""
            max_over_time({counter}[{Window}]) > 0 unless max_over_time({counter}[{Window}]) == last_over_time({counter}[1d] offset {Window})
            or
            {counter} > 0 and on (job, instance) resets({agent}[20m]) > 0
            or
            {counter} > 0 unless {counter} offset {Window} and on (job, instance) {agent} offset {Window}
            """;
    }

    /// <summary>The series of a counter that are not what they were a while ago: good enough to name them.</summary>
    public static string Changed(string counter, string window = Window) => $"{counter} unless {counter} == {counter} offset {window}";

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
