namespace KamOtel.Diagnosis;

/// <summary>How the fleet behaves.</summary>
public sealed record FleetOptions
{
    /// <summary>Quiet time after the last fork after which an instance counts as ready, in nanoseconds.</summary>
    public ulong SettleNs { get; init; } = 1_000_000_000;

    /// <summary>The most slots that the ledger keeps of one process; more is a coverage gap.</summary>
    public int MaxSlotsPerProcess { get; init; } = 4096;

    /// <summary>The most targets that are counted under their own name; the rest are <c>other</c>.</summary>
    public int MaxTargets { get; init; } = 256;
}

/// <summary>
/// All that is known of the watched servers: observations in, verdicts out. Owned by one thread; has no clock
/// and does no I/O.
/// </summary>
public sealed class Fleet
{
    /// <summary>An empty fleet that tells <paramref name="sink"/> what it concludes.</summary>
    public Fleet(FleetOptions options, IFleetSink sink) => throw new NotSupportedException();

    /// <summary>Takes one observation. Never throws, whatever the order in which observations come.</summary>
    public void Observe(in Observation observation) => throw new NotSupportedException();

    /// <summary>
    /// Gives an instance its outside name. Called by the agent as soon as it knows, before the instance's first
    /// call where possible; counters made so far move along.
    /// </summary>
    public void Name(InstanceId instance, string target) => throw new NotSupportedException();

    /// <summary>
    /// A process mapped a libcrypto. <paramref name="probedNs"/> is the boot time since which its probes are attached:
    /// before <paramref name="mappedNs"/> when they were there already, later when calls may have been missed, null when
    /// it could not be probed.
    /// </summary>
    public void LibraryMapped(ProcessId process, string library, ulong mappedNs, ulong? probedNs) => throw new NotSupportedException();

    /// <summary>The kernel side dropped <paramref name="count"/> events: nobody knows whose.</summary>
    public void EventsLost(ulong count, ulong timeNs) => throw new NotSupportedException();

    /// <summary>Time passes: settles instances. Returns the boot time when it wants to be called again, or null.</summary>
    public ulong? Advance(ulong nowNs) => throw new NotSupportedException();

    /// <summary>The fleet as it is now.</summary>
    public FleetSnapshot Snapshot(ulong nowNs) => throw new NotSupportedException();
}
