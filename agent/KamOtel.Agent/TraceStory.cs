using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Draws the traces that a fleet's conclusions make: the same that would be sent.</summary>
/// <param name="output">Where to.</param>
/// <param name="colored">With the sequences that colour a terminal.</param>
internal sealed class TraceStory(TextWriter output, bool colored)
{
    private readonly TelemetrySink _sink = new(
        OtlpSettings.FromEnvironment(static name => name == "OTEL_TRACES_EXPORTER" ? "otlp" : null), new TelemetryCounters(), new Exemplars());

    private bool _begun;

    /// <summary>Takes the conclusions.</summary>
    public IFleetSink Sink => _sink;

    /// <summary>A trace was drawn.</summary>
    public Action<TraceSpan>? Drawn { get; set; }

    /// <summary>Draws what was told since the last call.</summary>
    public void Draw()
    {
        while (_sink.Items.TryRead(out TelemetryItem item))
        {
            if (item.Span is not { Root: var root })
            {
                continue;
            }
            if (_begun)
            {
                output.WriteLine();
            }
            _begun = true;
            output.WriteLine($"{root.Attributes.Get("kamotel.target")}, {root.Attributes.Get("kamotel.role") ?? "root"} {root.Attributes.Get("process.pid") ?? "unknown"}, {WallClock.ToTime(root.StartNs):yyyy-MM-dd HH:mm:ss.fff} UTC");
            TraceDrawing.Write(output, root, colored);
            Drawn?.Invoke(root);
        }
    }

    /// <summary>No more will be told: draws what waits for more, as it is.</summary>
    /// <param name="nowNs">When that is: boot time in nanoseconds.</param>
    public void Finish(ulong nowNs)
    {
        _sink.Complete(nowNs);
        Draw();
    }
}
