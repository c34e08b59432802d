using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>Boot time to time of day, sampled anew now and then so that a clock that is set is followed. Any thread.</summary>
internal static class WallClock
{
    private const long RefreshMs = 10_000;

    private static BootClock? _fixed;
    private static Sampled _sampled = new(BootClock.Sample(), Environment.TickCount64);

    /// <summary>
    /// From now on this distance, whatever the clock does: for a recording, and for a replay, whose times are those of the
    /// recording. Once, before others use it.
    /// </summary>
    public static void Fix(BootClock clock) => _fixed = clock;

    /// <summary>The time of day of a boot time in nanoseconds.</summary>
    public static DateTimeOffset ToTime(ulong bootNs)
    {
        if (_fixed is { } clock)
        {
            return clock.ToTime(bootNs);
        }
        Sampled sampled = Volatile.Read(ref _sampled);
        if (Environment.TickCount64 - sampled.At > RefreshMs)
        {
            sampled = new Sampled(BootClock.Sample(), Environment.TickCount64);
            Volatile.Write(ref _sampled, sampled);
        }
        return sampled.Clock.ToTime(bootNs);
    }

    private sealed record Sampled(BootClock Clock, long At);
}
