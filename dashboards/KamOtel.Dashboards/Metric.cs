using KamOtel.Agent;

namespace KamOtel.Dashboards;

/// <summary>Names of metrics for queries, from the table of instruments: one that is renamed there is not found here.</summary>
internal static class Metric
{
    /// <summary>What Prometheus knows an instrument by.</summary>
    /// <param name="instrument">Its OpenTelemetry name, such as <c>kamotel.crashes</c>.</param>
    /// <exception cref="ArgumentException">There is no such instrument.</exception>
    public static string Name(string instrument) =>
        Instruments.Table.SingleOrDefault(i => i.Name == instrument)?.PrometheusName
        ?? throw new ArgumentException($"there is no instrument {instrument}; the table is Instruments.Table", nameof(instrument));
}
