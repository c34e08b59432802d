using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>What <c>kamotel scan --json</c> prints: a contract, described by docs/scan.schema.json.</summary>
/// <param name="Schema">The version of the form.</param>
/// <param name="Instances">The servers, oldest first.</param>
/// <param name="Commands">The commands that <c>kamotel check</c> ran, in their order; none in what others print.</param>
internal sealed record ScanReport(int Schema, ImmutableArray<ScannedInstance> Instances, ImmutableArray<CheckedCommandReport> Commands)
{
    public static ScanReport Of(IEnumerable<InstanceSnapshot> instances) => new(1, [.. instances.Select(ScannedInstance.Of)], []);

    public static ScanReport Of(IReadOnlyList<CheckResult> results) =>
        Of(results.SelectMany(static r => r.Servers)) with { Commands = [.. results.Select(CheckedCommandReport.Of)] };

    public string ToJson() => JsonSerializer.Serialize(this, ReportJson.Readable.ScanReport);
}

/// <summary>One server.</summary>
internal sealed record ScannedInstance(
    string Target,
    ScannedContainer? Container,
    int RootPid,
    int Processes,
    string Verdict,
    string Reason,
    string? Kamailio,
    [property: JsonPropertyName("openssl")] string? OpenSsl,
    ImmutableArray<string> Modules,
    int? TlsThreadsMode,
    ScannedMemory SharedMemory,
    ImmutableArray<ScannedSlot> SharedSlots,
    ImmutableArray<ScannedFault> Faults,
    ImmutableArray<string> Advice,
    ScannedCoverage Coverage)
{
    public static ScannedInstance Of(InstanceSnapshot instance) => new(
        instance.Target,
        ScannedContainer.Of(instance.Container),
        instance.Root.Tgid,
        instance.Processes.Length,
        Words.Of(instance.Verdict),
        instance.Reason,
        instance.Facts.Kamailio,
        instance.Facts.OpenSsl,
        instance.Facts.Modules,
        instance.Facts.TlsThreadsMode,
        ScannedMemory.Of(instance.Facts.SharedMemory),
        [.. instance.SharedSlots.Select(ScannedSlot.Of)],
        [.. instance.Faults.Select(ScannedFault.Of)],
        [.. Advisor.For(instance).Select(static a => a.ToString())],
        ScannedCoverage.Of(instance));
}

/// <summary>The container that a server runs in.</summary>
internal sealed record ScannedContainer(string? Id, string? HostName, string? PodUid, string? PodName)
{
    public static ScannedContainer? Of(Container? container) =>
        container is null ? null : new(container.Id, container.HostName, container.PodUid, container.PodName);
}

/// <summary>One shared slot. Its name and author are known when its making was seen; a scan comes too late for that, a recording does not.</summary>
internal sealed record ScannedSlot(
    uint Key, string Value, string Mapping, ImmutableArray<int> Holders, string? Name, string? Author, string? AskedBy)
{
    public static ScannedSlot Of(SharedSlot slot) =>
        new(slot.Key, $"0x{slot.Value:x}", slot.Memory.Name, [.. slot.Holders.Select(static h => h.Tgid)], slot.Name, slot.Origin?.Chain.Author, slot.Origin?.Chain.AskedBy);
}

/// <summary>Crashes, or complaints of the memory manager, that are alike. A scan has none, as it watches nothing.</summary>
internal record ScannedFault(
    string Kind, string? Signal, string? Complaint, string Role, string? Module, string? Caller, string? Address, long Count, int LastPid)
{
    public static ScannedFault Of(Fault fault) => new(
        fault.Signal is null ? "complaint" : "crash",
        fault.Signal is { } signal ? Words.SignalName(signal) : null,
        fault.Complaint is { } complaint ? Words.Of(complaint) : null,
        Words.Of(fault.Role),
        fault.Module,
        fault.Caller,
        fault.Address is { } address ? Words.Of(address) : null,
        fault.Count,
        fault.Process.Tgid);
}

/// <summary>The shared memory that the server allocates from, in bytes; null for what is not known.</summary>
internal sealed record ScannedMemory(ulong? Size, ulong? Used, ulong? Free, ulong? MaxUsed, string? Manager)
{
    public static ScannedMemory Of(SharedMemoryPool? pool) => new(pool?.Size, pool?.Used, pool?.Free, pool?.MaxUsed, pool?.Manager);
}

/// <summary>What could be seen.</summary>
internal sealed record ScannedCoverage(int Inspected, int Failed, bool SinceExec)
{
    public static ScannedCoverage Of(InstanceSnapshot instance)
    {
        int inspected = instance.Processes.Count(static p => p.Inspection == InspectionStatus.Inspected);
        return new(inspected, instance.Processes.Count(static p => p.Inspection is not (InspectionStatus.Inspected or InspectionStatus.Gone)), instance.SinceExec);
    }
}

/// <summary>One command that was checked.</summary>
/// <param name="Configuration">The value that it had of several; null when it was the only one.</param>
/// <param name="Verdict">The worst of its servers', or <c>unknown</c>.</param>
/// <param name="Reason">Why.</param>
/// <param name="ExitCode">Its exit code; null when a signal ended it, or it did not run.</param>
/// <param name="Signal">The signal that ended it, or null.</param>
/// <param name="Stopped">It ended after kamotel's SIGTERM, and not by itself.</param>
/// <param name="Killed">How many processes did not end in time and were killed.</param>
/// <param name="RootPids">The roots of its servers among the instances.</param>
internal sealed record CheckedCommandReport(
    string? Configuration, string Verdict, string Reason, int? ExitCode, int? Signal, bool Stopped, int Killed, ImmutableArray<int> RootPids)
{
    public static CheckedCommandReport Of(CheckResult result) => new(
        result.Configuration,
        Words.Of(result.Verdict),
        result.Reason,
        result.Status is { } status && (status & 0x7f) == 0 ? (status >> 8) & 0xff : null,
        result.Status is { } ended && (ended & 0x7f) != 0 ? ended & 0x7f : null,
        result.Stopped,
        result.Killed,
        [.. result.Servers.Select(static s => s.Root.Tgid)]);
}
