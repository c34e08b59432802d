namespace KamOtel.Agent;

/// <summary>The kinds of telemetry that leave by OTLP.</summary>
internal enum Signal
{
    /// <summary>Log records.</summary>
    Logs,

    /// <summary>Spans.</summary>
    Traces,

    /// <summary>Metrics: counted by exports, as each tells all of them.</summary>
    Metrics,
}

/// <summary>Why an item did not leave.</summary>
internal enum DropReason
{
    /// <summary>More came than could be sent.</summary>
    QueueFull,

    /// <summary>The endpoint did not take it.</summary>
    ExportFailed,
}

/// <summary>What became of each log record, span and export of metrics: nothing is lost silently. Any thread.</summary>
internal sealed class TelemetryCounters
{
    private readonly long[] _offered = new long[3];
    private readonly long[] _exported = new long[3];
    private readonly long[] _dropped = new long[6];

    public long Exported(Signal signal) => Volatile.Read(ref _exported[(int)signal]);

    public long Dropped(Signal signal, DropReason reason) => Volatile.Read(ref _dropped[((int)signal * 2) + (int)reason]);

    /// <summary>Items of all kinds that did not leave.</summary>
    public long AllDropped => Enum.GetValues<Signal>().Sum(signal => Enum.GetValues<DropReason>().Sum(reason => Dropped(signal, reason)));

    /// <summary>Items that the SDK has and neither exported nor dropped yet.</summary>
    public long InFlight(Signal signal) =>
        Volatile.Read(ref _offered[(int)signal]) - Exported(signal) - Dropped(signal, DropReason.ExportFailed);

    public void CountOffered(Signal signal) => Interlocked.Increment(ref _offered[(int)signal]);

    public void CountExported(Signal signal, long count) => Interlocked.Add(ref _exported[(int)signal], count);

    public void CountDropped(Signal signal, DropReason reason, long count = 1) => Interlocked.Add(ref _dropped[((int)signal * 2) + (int)reason], count);
}
