using System.Collections.Immutable;
using System.Globalization;
using System.Text.Json.Serialization;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>All servers on the status page, and the agent itself. Internal: it may change with every release.</summary>
/// <param name="Time">When it was so.</param>
/// <param name="Agent">The agent.</param>
/// <param name="Instances">The servers: the worst first, the living before those that ended.</param>
internal sealed record FleetReport(DateTimeOffset Time, AgentReport Agent, ImmutableArray<InstanceSummary> Instances)
{
    public static FleetReport Of(AgentSnapshot snapshot, AgentReport agent) => new(
        snapshot.Time,
        agent,
        [
            .. snapshot.Servers
                .OrderByDescending(static s => Words.SeverityOf(s.Verdict)).ThenBy(static s => s.Ended)
                .ThenBy(static s => s.Target, StringComparer.Ordinal).ThenBy(static s => s.StartedNs).ThenBy(static s => s.Id.Tgid)
                .Select(s => InstanceSummary.Of(s, snapshot.History.Of(s.Id))),
        ]);
}

/// <summary>The agent.</summary>
/// <param name="Version">Its version.</param>
/// <param name="Host">The name of this machine.</param>
/// <param name="Started">When it was started; null in a replay.</param>
/// <param name="NotReady">Why it is not ready, or null.</param>
/// <param name="Watch">The names of the programs that are watched.</param>
/// <param name="ProbedLibraries">Files that carry probes.</param>
/// <param name="AttachFailures">Files that could not be probed.</param>
/// <param name="EventsReceived">Events taken from the kernel.</param>
/// <param name="EventsLost">Events that the kernel side had to drop.</param>
/// <param name="UnreadComplaints">Complaints of memory managers that could not be read.</param>
/// <param name="TelemetryDropped">Items of telemetry that did not leave.</param>
/// <param name="Recording">The name of the recording that is shown in place of this host; null when this host is.</param>
internal sealed record AgentReport(
    string Version,
    string Host,
    DateTimeOffset? Started,
    string? NotReady,
    ImmutableArray<string> Watch,
    int ProbedLibraries,
    long AttachFailures,
    long EventsReceived,
    long EventsLost,
    long UnreadComplaints,
    long TelemetryDropped,
    string? Recording)
{
    public static AgentReport Of(AgentSnapshot snapshot, StatusOrigin origin, string? notReady, TelemetryCounters telemetry) => new(
        CommandLine.Build.Version,
        Environment.MachineName,
        origin.Started,
        notReady,
        origin.Watch,
        snapshot.Libraries.Length,
        snapshot.AttachFailures,
        snapshot.Events.Sum(static e => e.Received),
        snapshot.Events.Sum(static e => e.Lost),
        snapshot.UnreadComplaints,
        telemetry.AllDropped,
        origin.Recording);
}

/// <summary>Where what the status page shows comes from.</summary>
/// <param name="Started">When the agent was started; null in a replay.</param>
/// <param name="Watch">The names of the programs that are watched; none in a replay, as a recording does not tell them.</param>
/// <param name="Recording">The name of the recording; null when it is this host.</param>
internal sealed record StatusOrigin(DateTimeOffset? Started, ImmutableArray<string> Watch, string? Recording);

/// <summary>One server in the list.</summary>
internal sealed record InstanceSummary(
    string Id,
    string Target,
    string Program,
    int RootPid,
    int Processes,
    int Workers,
    string Verdict,
    string Reason,
    bool Concluded,
    string? Kamailio,
    [property: JsonPropertyName("openssl")] string? OpenSsl,
    int SharedSlots,
    int Holders,
    ImmutableArray<string> Authors,
    long Crashes,
    long Complaints,
    DateTimeOffset Started,
    DateTimeOffset? Ready,
    DateTimeOffset? Inspected,
    DateTimeOffset? Ended,
    ImmutableArray<GapSummary> Gaps,
    int FailedInspections)
{
    public static InstanceSummary Of(InstanceSnapshot server, ServerHistory history) => new(
        IdOf(server.Id),
        server.Target,
        server.Program,
        server.Root.Tgid,
        server.Processes.Length,
        server.Processes.Count(static p => p.Role == ProcessRole.Worker),
        Words.Of(server.Verdict),
        server.Reason,
        server.IsConcluded,
        server.Facts.Kamailio,
        server.Facts.OpenSsl,
        server.SharedSlots.Length,
        server.SharedSlots.SelectMany(static s => s.Holders).Distinct().Count(),
        [.. server.SharedSlots.Select(static s => s.Origin?.Chain.Author).OfType<string>().Distinct(StringComparer.Ordinal)],
        server.Faults.Where(static f => f.Signal is not null).Sum(static f => f.Count),
        server.Faults.Where(static f => f.Complaint is not null).Sum(static f => f.Count),
        WallClock.ToTime(server.StartedNs),
        TimeOf(server.ReadyNs),
        TimeOf(server.InspectedNs),
        server.Ended ? TimeOf(history.EndedNs ?? server.InspectedNs ?? server.StartedNs) : null,
        [.. Words.Each(server.Gaps).Select(GapSummary.Of)],
        FailedIn(server));

    /// <summary>Unique for each start, and of a form that an address can have.</summary>
    public static string IdOf(InstanceId id) => string.Create(CultureInfo.InvariantCulture, $"{id.Tgid}-{id.SinceNs}");

    /// <summary>One that was not looked at yet has not failed.</summary>
    public static int FailedIn(InstanceSnapshot server) =>
        server.Processes.Count(static p => p.Inspection is not (null or InspectionStatus.Inspected or InspectionStatus.Gone));

    public static DateTimeOffset? TimeOf(ulong? bootNs) => bootNs is { } at ? WallClock.ToTime(at) : null;
}

/// <summary>What was not seen.</summary>
/// <param name="Gap">As in metrics.</param>
/// <param name="Meaning">The same for people.</param>
internal sealed record GapSummary(string Gap, string Meaning)
{
    public static GapSummary Of(CoverageGaps gap) => new(Words.Of(gap), Words.MeaningOf(gap));
}

/// <summary>A sign of life.</summary>
internal sealed record BeatReport(DateTimeOffset Time);

/// <summary>A server that is no longer known.</summary>
internal sealed record GoneReport(string Id);

/// <summary>Why there is no answer.</summary>
internal sealed record ErrorReport(string Error);
