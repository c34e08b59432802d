using YamlDotNet.RepresentationModel;

namespace KamOtel.Dashboards;

/// <summary>
/// The alerts as Grafana evaluates them itself, in the form of its file provisioning (<c>apiVersion: 1</c>, <c>groups</c>).
/// </summary>
internal static class GrafanaAlerts
{
    /// <summary>The UID of the data source: that of the provisioning file beside it.</summary>
    public const string DataSource = "prometheus";

    private const string Condition = "C";

    /// <summary>For Grafana's folder <c>provisioning/alerting</c>.</summary>
    public static GeneratedFile File { get; } = new(
        "dashboards/grafana/provisioning/alerting/kamotel.yaml",
        Yaml.Document(
            $"""
            Alerts of KamOtel, evaluated by Grafana: an alternative to the rules of Prometheus, not an addition.
            Asks the data source with the UID `{DataSource}`. No data is what there is when all is well.
            Made from dashboards/KamOtel.Dashboards by `make dashboards`: do not edit.
            """,
            Yaml.Map(
                ("apiVersion", Yaml.Plain("1")),
                ("groups", Yaml.List(Alerts.Groups.Select(static group => Yaml.Map(
                    ("orgId", Yaml.Plain("1")),
                    ("name", Yaml.Text(group.Name)),
                    ("folder", Yaml.Text("KamOtel")),
                    ("interval", Yaml.Text("1m")),
                    ("rules", Yaml.List(group.Alerts.Select(Rule))))))))));

    /// <summary>An alert's identifier, by which Grafana knows it again.</summary>
    public static string Uid(Alert alert) =>
        "kamotel" + string.Concat(alert.Name["KamOtel".Length..].Select(static c => char.IsUpper(c) ? $"-{char.ToLowerInvariant(c)}" : $"{c}"));

    private static YamlMappingNode Rule(Alert alert) => Yaml.Map(
        ("uid", Yaml.Text(Uid(alert))),
        ("title", Yaml.Text(alert.Name)),
        ("condition", Yaml.Text(Condition)),
        ("data", Yaml.List(Data(alert))),
        ("noDataState", Yaml.Text("OK")),
        ("execErrState", Yaml.Text("Error")),
        ("for", Yaml.Text(alert.For)),
        ("labels", Yaml.Map(("severity", Yaml.Text(AlertTexts.Word(alert.Severity))))),
        ("annotations", Yaml.Map(AlertTexts.Of(alert, "{{ .Values.A.Value | humanizePercentage }}", Blamed(alert)).Select(static a => (a.Name, Yaml.Text(a.Template))))));

    private static IEnumerable<YamlNode> Data(Alert alert)
    {
        yield return Query("A", alert.Expression);
        if (alert.Blame is { } blame)
        {
            // Grafana's texts cannot ask: they see the queries whose labels include those of the alert. One that yields nothing
            // would end the alert, so the alert itself stands in where no name is known.
            yield return Query("B", $"topk without ({blame.Label}) (1, count without ({blame.Others}) ({blame.Series("")}))\nor on (job, instance, target) (\n{PromQl.Indent(alert.Expression)}\n)");
        }
        yield return Yaml.Map(
            ("refId", Yaml.Text(Condition)),
            ("relativeTimeRange", Yaml.Map(("from", Yaml.Plain("0")), ("to", Yaml.Plain("0")))),
            ("datasourceUid", Yaml.Text("__expr__")),
            ("model", Yaml.Map(
                ("refId", Yaml.Text(Condition)),
                ("type", Yaml.Text("threshold")),
                ("expression", Yaml.Text("A")),
                ("conditions", Yaml.List(Yaml.Map(("evaluator", Yaml.Map(("type", Yaml.Text("gt")), ("params", Yaml.List(Yaml.Plain("-1")))))))))));
    }

    private static YamlMappingNode Query(string name, string expression) => Yaml.Map(
        ("refId", Yaml.Text(name)),
        ("relativeTimeRange", Yaml.Map(("from", Yaml.Plain("600")), ("to", Yaml.Plain("0")))),
        ("datasourceUid", Yaml.Text(DataSource)),
        ("model", Yaml.Map(
            ("refId", Yaml.Text(name)),
            ("instant", Yaml.Plain("true")),
            ("range", Yaml.Plain("false")),
            ("expr", Yaml.Text(expression)))));

    private static string Blamed(Alert alert) => alert.Blame is not { } blame ? "" :
        $$$"""{{ if .Values.B.Labels.{{{blame.Label}}} }}{{ .Values.B.Labels.{{{blame.Label}}} }}{{ else }}{{{PrometheusRules.Unknown(blame)}}}{{ end }}""";
}
