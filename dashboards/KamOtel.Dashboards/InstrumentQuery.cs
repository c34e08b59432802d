using System.Text.RegularExpressions;
using KamOtel.Agent;

namespace KamOtel.Dashboards;

/// <summary>
/// PromQL in which metrics are written by their instrument's name, <c>kamotel.crashes{signal="SIGSEGV"}</c>, and get what the
/// dashboard's variables select. What names a metric or a label that there is not is an error.
/// </summary>
internal static partial class InstrumentQuery
{
    /// <summary>What Prometheus adds to each metric that it scrapes.</summary>
    private static readonly string[] Added = ["job", "instance"];

    /// <summary>The query as Prometheus takes it.</summary>
    /// <param name="text">With names such as <c>kamotel.crashes</c>, or <c>kamotel.attach.delay_bucket</c> of a histogram.</param>
    /// <param name="scope">Selectors for all metrics that have the label: <c>job=~"$job"</c>.</param>
    /// <exception cref="ArgumentException">There is no such metric or label.</exception>
    public static string Of(string text, params IReadOnlyList<string> scope)
    {
        string query = Selector().Replace(text, m => Select(m.Groups["name"].Value, m.Groups["own"].Value, scope));
        return Faults(query) is [] ? query : throw new ArgumentException($"{query}: {string.Join("; ", Faults(query))}", nameof(text));
    }

    /// <summary>
    /// How much a counter grew in each interval, by these labels. <c>increase</c> is of no use here: a series that appears with
    /// the value 1 never increased, and the first crash of a server is such a one. So a series that an agent that answered did not
    /// have counts from zero, as one does that counts anew; where nobody answered, from what was known last, lest a pause of
    /// Prometheus make it new.
    /// </summary>
    public static string Grown(string counter, string by) => $"""
        sum by ({by}) (
          {counter} - {counter} offset $__interval >= 0
          or {counter} and on (job, instance) kamotel.agent.cpu_time offset $__interval
          or {counter} - last_over_time({counter}[1d] offset $__interval) >= 0
          or {counter}
        )
        """;

    /// <summary>The same in the whole time that is shown.</summary>
    public static string GrownInAll(string counter, string by) => $"sum_over_time(({Grown(counter, by)})[$__range:$__interval])";

    /// <summary>Zero where an agent watches a target, to stand in for what was never counted; nothing where nobody looks.</summary>
    public static string ZeroWhereWatched(string by) => $"0 * group by ({by}) (kamotel.exits)";

    /// <summary>The metrics of a finished query, each by its instrument; null for one that is not in the table.</summary>
    public static IReadOnlyList<(string Name, Instrument? Instrument)> Metrics(string query) =>
        [.. MetricName().Matches(Literal().Replace(query, "")).Select(static m => (m.Value, InstrumentOf(m.Value)))];

    /// <summary>What a finished query names and there is not: metrics, and labels that none of its metrics has.</summary>
    public static IReadOnlyList<string> Faults(string query)
    {
        var faults = new List<string>();
        var labels = new HashSet<string>(Added, StringComparer.Ordinal);
        string bare = Literal().Replace(query, "");
        foreach ((string name, Instrument? instrument) in Metrics(query))
        {
            if (instrument is null)
            {
                faults.Add($"there is no metric {name}");
                continue;
            }
            labels.UnionWith(LabelsOf(name, instrument));
        }
        foreach (Match selector in FinishedSelector().Matches(bare))
        {
            string name = selector.Groups["name"].Value;
            string[] own = InstrumentOf(name) is { } instrument ? [.. Added, .. LabelsOf(name, instrument)] : Added;
            faults.AddRange(LabelName().Matches(selector.Groups["labels"].Value).Select(static m => m.Value).Where(l => !own.Contains(l)).Select(l => $"{name} has no label {l}"));
        }
        foreach (Match grouping in Grouping().Matches(bare))
        {
            faults.AddRange(LabelName().Matches(grouping.Groups["labels"].Value).Select(static m => m.Value).Where(l => !labels.Contains(l)).Select(static l => $"no metric of it has the label {l}"));
        }
        return faults;
    }

    private static string Select(string name, string own, IReadOnlyList<string> scope)
    {
        string suffix = HistogramSuffix().Match(name).Value;
        string finished = suffix.Length > 0 && Instruments.Table.Any(i => i.Kind == InstrumentKind.Histogram && i.Name == name[..^suffix.Length])
            ? Metric.Name(name[..^suffix.Length]) + suffix
            : Metric.Name(name);
        string[] attributes = [.. Added, .. InstrumentOf(finished)!.Attributes];
        string[] selectors = [.. scope.Where(s => attributes.Contains(LabelName().Match(s).Value)), .. own.Length > 0 ? [own] : Array.Empty<string>()];
        return selectors.Length == 0 ? finished : $"{finished}{{{string.Join(", ", selectors)}}}";
    }

    private static Instrument? InstrumentOf(string name) =>
        Instruments.Table.SingleOrDefault(i => i.Kind == InstrumentKind.Histogram
            ? HistogramSuffix().IsMatch(name) && HistogramSuffix().Replace(name, "") == i.PrometheusName
            : name == i.PrometheusName);

    private static IEnumerable<string> LabelsOf(string name, Instrument instrument) =>
        name.EndsWith("_bucket", StringComparison.Ordinal) ? instrument.Attributes.Append("le") : instrument.Attributes;

    [GeneratedRegex(@"(?<name>kamotel(\.[a-z_]+)+)(\{(?<own>[^}]*)\})?", RegexOptions.ExplicitCapture)]
    private static partial Regex Selector();

    [GeneratedRegex(@"\bkamotel_\w+", RegexOptions.ExplicitCapture)]
    private static partial Regex MetricName();

    [GeneratedRegex(@"(?<name>\b[a-z_]\w*)\{(?<labels>[^}]*)\}", RegexOptions.ExplicitCapture)]
    private static partial Regex FinishedSelector();

    [GeneratedRegex(@"\b(by|without|on|ignoring|group_left|group_right) *\((?<labels>[^)]*)\)", RegexOptions.ExplicitCapture)]
    private static partial Regex Grouping();

    [GeneratedRegex(@"[a-z_]\w*", RegexOptions.ExplicitCapture)]
    private static partial Regex LabelName();

    [GeneratedRegex(@"_(bucket|sum|count)$", RegexOptions.ExplicitCapture)]
    private static partial Regex HistogramSuffix();

    // With what is in quotes left out, no label's value is taken for a name.
    [GeneratedRegex("\"[^\"]*\"", RegexOptions.ExplicitCapture)]
    private static partial Regex Literal();
}
