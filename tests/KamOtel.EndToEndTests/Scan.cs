using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace KamOtel.EndToEndTests;

/// <summary>What <c>kamotel scan --json</c> told. A field that is missing, or that nobody knows, is an error.</summary>
internal sealed record ScanReport(int Schema, ScannedInstance[] Instances, CheckedCommand[] Commands)
{
    private static readonly JsonSerializerOptions Strict = new(JsonSerializerDefaults.Web)
    {
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
        NumberHandling = JsonNumberHandling.Strict,
    };

    /// <summary>Reads it.</summary>
    public static ScanReport Parse(string json) => JsonSerializer.Deserialize<ScanReport>(json, Strict)!;

    /// <summary>The server with this target; there is exactly one.</summary>
    public ScannedInstance Of(KamailioServer server) =>
        Instances.Where(instance => instance.Target == server.Configuration).ShouldHaveSingleItem();

    /// <summary>The exit code that tells the same.</summary>
    public int ExitCode() =>
        Instances.Any(static instance => instance.Verdict is "hazard" or "corrupted") ? 1
        : Instances.Length == 0 || Instances.Any(static instance => instance.Verdict == "unknown") ? 2
        : 0;
}

/// <summary>One command of a check.</summary>
internal sealed record CheckedCommand(
    string? Configuration, string Verdict, string Reason, int? ExitCode, int? Signal, bool Stopped, int Killed, int[] RootPids);

/// <summary>One server of a scan.</summary>
internal sealed record ScannedInstance(
    string Target,
    ScannedContainer? Container,
    int RootPid,
    int Processes,
    string Verdict,
    string Reason,
    string? Kamailio,
    string? Openssl,
    string[] Modules,
    int? TlsThreadsMode,
    ScannedMemory SharedMemory,
    ScannedSlot[] SharedSlots,
    ScannedFault[] Faults,
    string[] Advice,
    ScannedCoverage Coverage);

/// <summary>The container of a server.</summary>
internal sealed record ScannedContainer(string? Id, string? HostName, string? PodUid, string? PodName);

/// <summary>One shared slot of a scan.</summary>
internal sealed record ScannedSlot(uint Key, string Value, string Mapping, int[] Holders, string? Name, string? Author, string? AskedBy)
{
    /// <summary>The value as a number.</summary>
    public ulong Address() => ulong.Parse(Value.AsSpan("0x".Length), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
}

/// <summary>Crashes or complaints of a server that are alike.</summary>
internal sealed record ScannedFault(
    string Kind, string? Signal, string? Complaint, string Role, string? Module, string? Caller, string? Address, long Count, int LastPid);

/// <summary>The shared memory of a server, in bytes.</summary>
internal sealed record ScannedMemory(long? Size, long? Used, long? Free, long? MaxUsed, string? Manager);

/// <summary>What a scan could see of a server.</summary>
internal sealed record ScannedCoverage(int Inspected, int Failed, bool SinceExec);

/// <summary>The command <c>kamotel scan</c>.</summary>
internal static class Scan
{
    /// <summary>Scans for people.</summary>
    public static Task<Ended> Run(params string[] options)
    {
        Requirements.Bpf();
        return RunningProgram.Run(Requirements.Binary, ["scan", .. options]);
    }

    /// <summary>Scans for programs; the exit code tells the same as the document.</summary>
    public static async Task<ScanReport> Json(params string[] options)
    {
        Ended ended = await Run(["--json", .. options]);
        ended.Output.ShouldStartWith("{", customMessage: ended.ToString());
        var report = ScanReport.Parse(ended.Output);
        ended.Code.ShouldBe(report.ExitCode(), ended.ToString());
        return report;
    }
}
