using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>All that the agent tells about servers and itself at one moment. Immutable; any thread may read it.</summary>
/// <param name="Time">When it was taken.</param>
/// <param name="Fleet">The servers.</param>
/// <param name="Events">Events by kind: received and lost.</param>
/// <param name="Libraries">The files that carry probes.</param>
/// <param name="AttachFailures">Files that could not be probed so far.</param>
/// <param name="Inspections">Inspections of instances so far.</param>
/// <param name="ConfirmWindows">Times that the use of shared slots was watched so far.</param>
/// <param name="UnwinderRestarts">Times that the process which unwinds stacks was started anew.</param>
/// <param name="RingBytes">Size of the ring.</param>
/// <param name="RingUsedBytes">Bytes in the ring that the agent has not read yet.</param>
internal sealed record AgentSnapshot(
    DateTimeOffset Time,
    FleetSnapshot Fleet,
    ImmutableArray<EventCount> Events,
    ImmutableArray<ProbedLibrary> Libraries,
    long AttachFailures,
    long Inspections,
    long ConfirmWindows,
    long UnwinderRestarts,
    long RingBytes,
    long RingUsedBytes)
{
    /// <summary>Complaints of memory managers that could not be read: nobody knows what they were.</summary>
    public long UnreadComplaints { get; init; }

    /// <summary>What happened to the servers.</summary>
    public HistorySnapshot History { get; init; } = HistorySnapshot.Empty;

    /// <summary>The servers as a replay tells them; null where they are watched.</summary>
    public IReadOnlyList<InstanceSnapshot>? Replayed { get; init; }

    /// <summary>The servers that the status page shows: those that live, and those that ended lately.</summary>
    public IEnumerable<InstanceSnapshot> Servers => Replayed ?? [.. Fleet.Instances, .. History.Ended];

    /// <summary>Before the first turn of the watch loop.</summary>
    public static AgentSnapshot Empty { get; } = new(DateTimeOffset.UnixEpoch, FleetSnapshot.Empty, [], [], 0, 0, 0, 0, 0, 0);
}

/// <summary>Events of one kind since the agent started.</summary>
/// <param name="Kind">Its name in metrics: <c>exec</c>, <c>fork</c>, <c>exit</c>, <c>mapping</c>, <c>init_local</c>, <c>set_local</c>, ….</param>
/// <param name="Received">Taken from the ring.</param>
/// <param name="Lost">Dropped by the kernel side because the ring (or a map) was full.</param>
internal readonly record struct EventCount(string Kind, long Received, long Lost);

/// <summary>A file that carries probes.</summary>
/// <param name="Path">As it was found first.</param>
/// <param name="Functions">The functions that are probed, and where.</param>
internal sealed record ProbedLibrary(string Path, ImmutableArray<ProbedFunction> Functions);

/// <summary>Where the watch loop publishes and everybody else reads.</summary>
internal sealed class AgentState(ServerHistories? histories = null)
{
    /// <summary>The loop turns every second; a longer silence means that it hangs.</summary>
    private const long MaxSilenceMs = 5000;

    private TaskCompletionSource? _waiting;
    private AgentSnapshot _current = AgentSnapshot.Empty;
    private string? _notReady = "the watch loop has not started";
    private long _lastTurn;

    /// <summary>What happened to the servers; null where nobody asks for it. Watch loop only; it is in each snapshot.</summary>
    public ServerHistories? Histories { get; } = histories;

    /// <summary>The latest snapshot.</summary>
    public AgentSnapshot Current => Volatile.Read(ref _current);

    /// <summary>Why the agent is not ready, or null when its probes are attached.</summary>
    public string? NotReady => Volatile.Read(ref _notReady);

    /// <summary>Why the agent is not ready, or does not turn any more; null when all is well.</summary>
    public string? WhyNotReady()
    {
        long silence = Environment.TickCount64 - LastTurn;
        return NotReady ?? (silence > MaxSilenceMs ? $"the watch loop has not turned for {silence / 1000} s" : null);
    }

    /// <summary>Milliseconds of <see cref="Environment.TickCount64"/> when the loop last polled the ring.</summary>
    public long LastTurn => Volatile.Read(ref _lastTurn);

    /// <summary>Replaces the snapshot. Watch loop only.</summary>
    public void Publish(AgentSnapshot snapshot)
    {
        Volatile.Write(ref _current, snapshot with { History = Histories?.Snapshot() ?? HistorySnapshot.Empty });
        Tell();
    }

    /// <summary>Says why the agent is not ready; null when it is. Watch loop only.</summary>
    public void SetNotReady(string? reason)
    {
        if (Interlocked.Exchange(ref _notReady, reason) != reason)
        {
            Tell();
        }
    }

    /// <summary>The loop polled the ring. Watch loop only.</summary>
    public void Turned() => Volatile.Write(ref _lastTurn, Environment.TickCount64);

    /// <summary>Is over when there is another snapshot than this, or the readiness changed since the call. Any thread; costs the loop nothing while nobody waits.</summary>
    public Task Changed(AgentSnapshot seen)
    {
        TaskCompletionSource mine = new(TaskCreationOptions.RunContinuationsAsynchronously);
        TaskCompletionSource waiting = Interlocked.CompareExchange(ref _waiting, mine, null) ?? mine;
        // Whoever publishes after this look finds who waits.
        return ReferenceEquals(Current, seen) ? waiting.Task : Task.CompletedTask;
    }

    private void Tell() => Interlocked.Exchange(ref _waiting, null)?.TrySetResult();
}
