namespace KamOtel.Linux;

/// <summary>
/// The distance between boot time, in which the kernel side speaks, and the time of day, as it was when sampled. The time of
/// day can be set; boot time only runs: sample again now and then.
/// </summary>
public readonly record struct BootClock
{
    private const int Realtime = 0;
    private const int Boottime = 7;

    /// <summary>A distance that was measured before, in nanoseconds.</summary>
    public BootClock(long offsetNs) => OffsetNs = offsetNs;

    /// <summary>What is to be added to boot time, in nanoseconds.</summary>
    public long OffsetNs { get; }

    /// <summary>Boot time (CLOCK_BOOTTIME) now, in nanoseconds.</summary>
    public static ulong NowNs => (ulong)Native.Clock(Boottime);

    /// <summary>Measures the distance now.</summary>
    public static BootClock Sample()
    {
        // The tightest of a few tries, so that being scheduled away between the two clocks does not show.
        (long Width, long Offset) best = (long.MaxValue, 0);
        for (int i = 0; i < 5; i++)
        {
            long before = Native.Clock(Boottime);
            long realtime = Native.Clock(Realtime);
            long width = Native.Clock(Boottime) - before;
            if (width < best.Width)
            {
                best = (width, realtime - (before + (width / 2)));
            }
        }

        return new(best.Offset);
    }

    /// <summary>The time of day of a boot time in nanoseconds.</summary>
    public DateTimeOffset ToTime(ulong bootNs) =>
        DateTimeOffset.UnixEpoch.AddTicks((long)(((Int128)bootNs + OffsetNs) / TimeSpan.NanosecondsPerTick));
}
