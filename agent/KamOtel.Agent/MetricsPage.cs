namespace KamOtel.Agent;

/// <summary>
/// <c>/metrics</c>. Written once for all who ask while nothing is new, and before the first byte is sent: neither a flood of
/// requests costs much, nor does one who does not read hold up the others.
/// </summary>
internal sealed class MetricsPage(Instruments instruments, AgentState state) : IDisposable
{
    /// <summary>What the agent itself uses changes all the time, and a second is near enough.</summary>
    private const long MaxAgeMs = 1000;

    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly Written?[] _written = new Written?[2];

    /// <summary>Answers in the form that the client understands.</summary>
    public async Task AnswerAsync(HttpContext context)
    {
        bool openMetrics = TakesOpenMetrics(context.Request.Headers.Accept);
        await Answer.SendAsync(
            context,
            openMetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8",
            await TextAsync(openMetrics, context.RequestAborted));
    }

    public void Dispose() => _writing.Dispose();

    private async Task<ReadOnlyMemory<byte>> TextAsync(bool openMetrics, CancellationToken cancellation)
    {
        await _writing.WaitAsync(cancellation);
        try
        {
            int form = openMetrics ? 1 : 0;
            Written? last = _written[form];
            AgentSnapshot now = state.Current;
            if (last is null || !ReferenceEquals(last.Of, now) || Environment.TickCount64 - last.AtMs >= MaxAgeMs)
            {
                _written[form] = last = new Written(now, Environment.TickCount64, await WriteAsync(openMetrics, last?.Text.Length ?? 0, cancellation));
            }
            return last.Text;
        }
        finally
        {
            _ = _writing.Release();
        }
    }

    private async Task<ReadOnlyMemory<byte>> WriteAsync(bool openMetrics, int expected, CancellationToken cancellation)
    {
        using var stream = new MemoryStream(expected + 4096);
        await instruments.WritePrometheusAsync(stream, openMetrics, cancellation);
        return stream.GetBuffer().AsMemory(0, (int)stream.Length);
    }

    /// <summary>The client says that it understands OpenMetrics, as Prometheus does: then it gets exemplars.</summary>
    private static bool TakesOpenMetrics(IEnumerable<string?> accept) =>
        accept.Any(static value => value?.Contains("application/openmetrics-text", StringComparison.OrdinalIgnoreCase) == true);

    private sealed record Written(AgentSnapshot Of, long AtMs, ReadOnlyMemory<byte> Text);
}
