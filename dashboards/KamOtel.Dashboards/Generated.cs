namespace KamOtel.Dashboards;

/// <summary>All files that are made from this source.</summary>
internal static class Generated
{
    /// <summary>Every file, in the order in which they are written.</summary>
    public static IReadOnlyList<GeneratedFile> Files { get; } =
    [
        .. AllDashboards.InOrder.SelectMany(static d => d.Files),
        PrometheusRules.Plain,
        PrometheusRules.Manifest,
        GrafanaAlerts.File,
        .. ChartFiles.All,
    ];
}
