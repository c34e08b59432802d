using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>How much something that happened matters.</summary>
internal enum Severity
{
    /// <summary>It is as it should be.</summary>
    Info,

    /// <summary>It leads to the hazard.</summary>
    Notice,

    /// <summary>Something is missing: sight, memory, a process.</summary>
    Warning,

    /// <summary>It is the hazard, or damage.</summary>
    Error,
}

/// <summary>Something that happened to a server.</summary>
/// <param name="TimeNs">When it began: boot time in nanoseconds.</param>
/// <param name="Kind">What kind of thing: a word of the status page.</param>
/// <param name="Severity">How much it matters.</param>
/// <param name="Pid">The process; null when it is of the server as a whole.</param>
/// <param name="Text">A sentence for people, without the time.</param>
/// <param name="Module">The module whose step it is, that made the call or that crashed; null for none.</param>
internal sealed record Moment(ulong TimeNs, string Kind, Severity Severity, int? Pid, string Text, string? Module = null)
{
    /// <summary>How long it took; null for what takes no time, or is not over.</summary>
    public ulong? DurationNs { get; init; }
}

/// <summary>What happened to one server. Immutable.</summary>
/// <param name="OriginNs">Boot time of its exec, or of when it was found, in nanoseconds.</param>
/// <param name="EndedNs">When its last process ended; null while one lives.</param>
/// <param name="Moments">The oldest first.</param>
/// <param name="LeftOut">How many there were beyond these.</param>
/// <param name="Gaps">Of what was not seen, what exactly it was the first time.</param>
internal sealed record ServerHistory(
    ulong OriginNs, ulong? EndedNs, ImmutableArray<Moment> Moments, long LeftOut, ImmutableDictionary<CoverageGaps, string> Gaps)
{
    /// <summary>Of a server that nothing was heard of.</summary>
    public static ServerHistory None { get; } = new(0, null, [], 0, ImmutableDictionary<CoverageGaps, string>.Empty);
}

/// <summary>What happened to the servers that live, and to those that ended lately. Immutable: any thread may read it.</summary>
/// <param name="Ended">The servers that ended, as they were; the oldest end first.</param>
/// <param name="Servers">What happened to each.</param>
internal sealed record HistorySnapshot(ImmutableArray<InstanceSnapshot> Ended, ImmutableDictionary<InstanceId, ServerHistory> Servers)
{
    public static HistorySnapshot Empty { get; } = new([], ImmutableDictionary<InstanceId, ServerHistory>.Empty);

    /// <summary>What happened to this server, as far as it is known.</summary>
    public ServerHistory Of(InstanceId id) => Servers.GetValueOrDefault(id, ServerHistory.None);
}
