using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class BootClockTests
{
    [Fact]
    public void Now_is_the_uptime()
    {
        double uptime = double.Parse(File.ReadAllText("/proc/uptime").Split(' ')[0], System.Globalization.CultureInfo.InvariantCulture);

        (BootClock.NowNs / 1e9).ShouldBe(uptime, tolerance: 5);
        ulong before = BootClock.NowNs;
        BootClock.NowNs.ShouldBeGreaterThanOrEqualTo(before);
    }

    [Fact]
    public void Boot_time_now_is_the_time_of_day()
    {
        BootClock clock = BootClock.Sample();

        DateTimeOffset before = DateTimeOffset.UtcNow;
        DateTimeOffset converted = clock.ToTime(BootClock.NowNs);
        DateTimeOffset after = DateTimeOffset.UtcNow;

        converted.ShouldBeInRange(before.AddMilliseconds(-5), after.AddMilliseconds(5));
        (clock.ToTime(2_000_000_000) - clock.ToTime(1_000_000_000)).ShouldBe(TimeSpan.FromSeconds(1));
    }

    /// <summary>2^64 nanoseconds are 584 years.</summary>
    [Fact]
    public void The_largest_boot_time_is_still_a_date()
    {
        BootClock.Sample().ToTime(ulong.MaxValue).Year.ShouldBeInRange(2554, 2800);
    }
}
