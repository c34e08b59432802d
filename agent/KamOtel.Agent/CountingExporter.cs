using OpenTelemetry;

namespace KamOtel.Agent;

/// <summary>Counts what the exporter behind it took and what it could not send.</summary>
internal sealed class CountingExporter<T>(BaseExporter<T> inner, TelemetryCounters counters, Signal signal) : BaseExporter<T>
    where T : class
{
    public override ExportResult Export(in Batch<T> batch)
    {
        long count = batch.Count;
        ExportResult result = inner.Export(in batch);
        if (result == ExportResult.Success)
        {
            counters.CountExported(signal, count);
        }
        else
        {
            counters.CountDropped(signal, DropReason.ExportFailed, count);
        }
        return result;
    }

    protected override bool OnForceFlush(int timeoutMilliseconds) => inner.ForceFlush(timeoutMilliseconds);

    protected override bool OnShutdown(int timeoutMilliseconds) => inner.Shutdown(timeoutMilliseconds);
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
