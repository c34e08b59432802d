using OpenTelemetry;
using OpenTelemetry.Metrics;

namespace KamOtel.Agent;

/// <summary>Reports what the exporter behind it took and what it could not send.</summary>
internal sealed class CountingExporter<T>(BaseExporter<T> inner, ExportReport report) : BaseExporter<T>
    where T : class
{
    public override ExportResult Export(in Batch<T> batch)
    {
        long count = batch.Count;
        ExportResult result = inner.Export(in batch);
        report.Ended(result == ExportResult.Success, count);
        return result;
    }

    protected override bool OnForceFlush(int timeoutMilliseconds) => inner.ForceFlush(timeoutMilliseconds);

    protected override bool OnShutdown(int timeoutMilliseconds) => inner.Shutdown(timeoutMilliseconds);
}

/// <summary>Reports of each export of metrics whether the endpoint took it. They have no items: an export tells all of them.</summary>
internal sealed class CountingReader(BaseExporter<Metric> exporter, int intervalMs, ExportReport report) : PeriodicExportingMetricReader(exporter, intervalMs)
{
    protected override bool OnCollect(int timeoutMilliseconds)
    {
        bool taken = base.OnCollect(timeoutMilliseconds);
        report.Ended(taken, 1);
        return taken;
    }
}

/// <summary>
/// Does nothing but make the provider known to an exporter that stands behind another one: the exporter reads the
/// resource from it.
/// </summary>
internal sealed class BindingProcessor<T>(BaseExporter<T> exporter) : BaseExportProcessor<T>(exporter)
    where T : class
{
    public override void OnEnd(T data)
    {
    }

    protected override void OnExport(T data)
    {
    }

    // The counting exporter shuts the inner one down.
    protected override bool OnShutdown(int timeoutMilliseconds) => true;
}
