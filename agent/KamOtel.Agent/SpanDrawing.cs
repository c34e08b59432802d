using System.Diagnostics;
using System.Globalization;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>
/// Draws the spans that a fleet's conclusions make, a line a span and a line an event. It hears them where the export does, so
/// whatever makes the spans, it draws the same.
/// </summary>
internal sealed class SpanDrawing : IDisposable
{
    private readonly TelemetrySink _sink = new(OtlpSettings.FromEnvironment(static name => name == "OTEL_TRACES_EXPORTER" ? "otlp" : null), new TelemetryCounters());
    private readonly ActivitySource _source = new($"{Instruments.Scope}.Trace");
    private readonly ActivityListener _listener;

    public SpanDrawing(TextWriter output, bool colored)
    {
        _listener = new ActivityListener
        {
            ShouldListenTo = source => ReferenceEquals(source, _source),
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = span =>
            {
                Write(output, colored, span);
                Drawn?.Invoke(span);
            },
        };
        ActivitySource.AddActivityListener(_listener);
    }

    /// <summary>A span was drawn.</summary>
    public Action<Activity>? Drawn { get; set; }

    public IFleetSink Sink => _sink;

    /// <summary>Draws what was told since the last call.</summary>
    public void Draw()
    {
        while (_sink.Items.TryRead(out TelemetryItem item))
        {
            item.Span?.Emit(_source);
        }
    }

    public void Dispose()
    {
        _listener.Dispose();
        _source.Dispose();
    }

    private static void Write(TextWriter output, bool colored, Activity span)
    {
        bool failed = span.Status == ActivityStatusCode.Error;
        string line = string.Create(CultureInfo.InvariantCulture, $"{span.StartTimeUtc:O}  {span.DisplayName}  {span.Duration.TotalMilliseconds:0.000} ms{(failed ? $"  error: {span.StatusDescription}" : "")}");
        output.WriteLine(colored && failed ? $"\u001b[1;31m{line}\u001b[0m" : line);
        foreach (ActivityEvent e in span.Events)
        {
            string tags = string.Join(' ', e.Tags.Where(static t => t.Value is not null).Select(static t => string.Create(CultureInfo.InvariantCulture, $"{t.Key}={t.Value}")));
            output.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{"+" + (e.Timestamp.UtcDateTime - span.StartTimeUtc).TotalMilliseconds.ToString("0.000", CultureInfo.InvariantCulture) + " ms",14}  {e.Name}  {tags}"));
        }
    }
}
