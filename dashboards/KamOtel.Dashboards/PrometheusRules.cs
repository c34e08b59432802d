using YamlDotNet.RepresentationModel;

namespace KamOtel.Dashboards;

/// <summary>
/// The alerts as Prometheus reads them, and in the manifest of its operator. Both have the same groups: the chart can take the
/// plain file as it is (<c>.Files.Get</c>, not <c>tpl</c>), since nothing in it is Helm's.
/// </summary>
internal static class PrometheusRules
{
    private const string Origin = "Made from dashboards/KamOtel.Dashboards by `make dashboards`: do not edit.";

    /// <summary>For <c>rule_files</c> of Prometheus.</summary>
    public static GeneratedFile Plain { get; } = new(
        "dashboards/prometheus/kamotel.rules.yaml",
        Yaml.Document($"Alerts of KamOtel, for rule_files of Prometheus (2.42 or later). docs/operations.md, Alerts.\n{Origin}", Groups()));

    /// <summary>For the Prometheus operator.</summary>
    public static GeneratedFile Manifest { get; } = new(
        "dashboards/prometheus/kamotel.prometheusrule.yaml",
        Yaml.Document(
            $"Alerts of KamOtel, for the Prometheus operator: give it the labels that your Prometheus selects rules by.\n{Origin}",
            Yaml.Map(
                ("apiVersion", Yaml.Text("monitoring.coreos.com/v1")),
                ("kind", Yaml.Text("PrometheusRule")),
                ("metadata", Yaml.Map(("name", Yaml.Text("kamotel")), ("labels", Yaml.Map(("app.kubernetes.io/name", Yaml.Text("kamotel")))))),
                ("spec", Groups()))));

    private static YamlMappingNode Groups() => Yaml.Map(("groups", Yaml.List(Alerts.Groups.Select(static group =>
        Yaml.Map(("name", Yaml.Text(group.Name)), ("rules", Yaml.List(group.Alerts.Select(Rule))))))));

    private static YamlMappingNode Rule(Alert alert) => Yaml.Map(
        ("alert", Yaml.Text(alert.Name)),
        ("expr", Yaml.Text(alert.Expression)),
        ("for", Yaml.Text(alert.For)),
        ("labels", Yaml.Map(("severity", Yaml.Text(AlertTexts.Word(alert.Severity))))),
        ("annotations", Yaml.Map(AlertTexts.Of(alert, "{{ .Value | humanizePercentage }}", Blamed(alert)).Select(static a => (a.Name, Yaml.Text(a.Template))))));

    // Prometheus can ask a question while it writes the text: the first five names, so that no text grows without end.
    private static string Blamed(Alert alert)
    {
        if (alert.Blame is not { } blame)
        {
            return "";
        }
        string names = $"count by ({blame.Label}) ({blame.Series("job=%[1]q,instance=%[2]q,target=%[3]q,")})";
        return $$$"""{{ range $i, $s := query (printf `{{{names}}}` .Labels.job .Labels.instance .Labels.target) | sortByLabel "{{{blame.Label}}}" }}{{ if lt $i 5 }}{{ if $i }}, {{ end }}{{ $s.Labels.{{{blame.Label}}} }}{{ else if eq $i 5 }} and others{{ end }}{{ else }}{{{Unknown(blame)}}}{{ end }}""";
    }

    /// <summary>What a text says where nobody is known to blame.</summary>
    internal static string Unknown(Blame blame) => $"an unknown {blame.Label}";
}
