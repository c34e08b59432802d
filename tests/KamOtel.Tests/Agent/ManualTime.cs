namespace KamOtel.Tests.Agent;

/// <summary>A clock that goes on when the test says so, or when somebody waits for it: then at once.</summary>
internal sealed class ManualTime : TimeProvider
{
    private long _ticks = TimeSpan.TicksPerDay;

    /// <summary>How long was waited, one after the other.</summary>
    public List<TimeSpan> Waits { get; } = [];

    /// <summary>Goes by at each look at the clock.</summary>
    public TimeSpan EachLook { get; set; }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public void Advance(TimeSpan by) => Interlocked.Add(ref _ticks, by.Ticks);

    public override long GetTimestamp() => Interlocked.Add(ref _ticks, EachLook.Ticks);

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        lock (Waits)
        {
            Waits.Add(dueTime);
        }
        Advance(dueTime);
        return System.CreateTimer(callback, state, TimeSpan.Zero, Timeout.InfiniteTimeSpan);
    }
}
