namespace KamOtel.Dashboards;

/// <summary>What the Helm chart carries of this source: Helm reads no file outside the chart's folder.</summary>
internal static class ChartFiles
{
    /// <summary>The chart's folder.</summary>
    public const string Chart = "helm/kamotel";

    /// <summary>Copies of rules and dashboards, and the chart's README.</summary>
    public static IReadOnlyList<GeneratedFile> All { get; } =
    [
        PrometheusRules.Plain with { Path = $"{Chart}/files/{Path.GetFileName(PrometheusRules.Plain.Path)}" },
        .. AllDashboards.InOrder.SelectMany(static d => d.Files)
            .Where(static f => f.Path.EndsWith(".json", StringComparison.Ordinal))
            .Select(static f => f with { Path = $"{Chart}/files/dashboards/{Path.GetFileName(f.Path)}" }),
        new($"{Chart}/README.md", ChartReadme.Text),
    ];
}
