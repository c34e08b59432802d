using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;
using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>What <c>kamotel doctor --json</c> prints: a contract, described by docs/doctor.schema.json.</summary>
/// <param name="Schema">The version of the form.</param>
/// <param name="Kamotel">The version of kamotel.</param>
/// <param name="Result"><c>works</c>, <c>degraded</c> (a feature does not work) or <c>unusable</c> (<c>run</c> would not start).</param>
/// <param name="Features">What kamotel does, and whether it can do it here.</param>
/// <param name="Findings">What was looked at.</param>
/// <param name="Libraries">Every libcrypto that <c>run</c> would look at when it starts.</param>
/// <param name="Servers">The servers that run.</param>
/// <param name="ProbeCost">What a probe costs here; null when it could not be measured.</param>
/// <param name="Unknown">What would be unknown here, and why.</param>
internal sealed record DoctorReport(
    int Schema,
    string Kamotel,
    string Result,
    ImmutableArray<ReportedFeature> Features,
    ImmutableArray<ReportedFinding> Findings,
    ImmutableArray<ReportedLibrary> Libraries,
    ImmutableArray<ReportedServer> Servers,
    ReportedCost? ProbeCost,
    ImmutableArray<ReportedUnknown> Unknown)
{
    /// <summary>The exit code that tells the same.</summary>
    [JsonIgnore]
    public int ExitCode => Result switch { "works" => Agent.ExitCode.Ok, "degraded" => Agent.ExitCode.Degraded, _ => Agent.ExitCode.Unusable };

    public static DoctorReport Of(IReadOnlyList<Finding> findings, DoctorKernel kernel, ImmutableArray<ExaminedLibrary> libraries, ImmutableArray<ExaminedServer> servers) =>
        Of(findings, kernel.Costs, kernel.BareCall, libraries, servers);

    /// <summary>Puts together what was found.</summary>
    public static DoctorReport Of(
        IReadOnlyList<Finding> findings, ImmutableArray<ProbeCost> costs, double bareCall, ImmutableArray<ExaminedLibrary> libraries, ImmutableArray<ExaminedServer> servers)
    {
        Dictionary<string, ImmutableArray<string>> broken = DoctorFeature.Broken(findings);
        return new DoctorReport(
            1,
            CommandLine.Build.Version,
            broken.Count == 0 ? "works" : broken.ContainsKey(DoctorFeature.Watching) ? "unusable" : "degraded",
            [.. DoctorFeature.All.Select(feature => new ReportedFeature(feature.Id, feature.What, !broken.ContainsKey(feature.Id), broken.GetValueOrDefault(feature.Id, [])))],
            [.. findings.Select(static f => new ReportedFinding(f.Id, NameOf(f.Status), f.Seen, f.Means, f.Remedy, f.Breaks))],
            [.. libraries.Select(l => new ReportedLibrary(l.Path, l.Version, l.Functions, NameOf(l.Entry), l.Set?.Site, l.Set is { Reason: { Length: > 0 } reason } ? reason : null, Rounded(costs.FirstOrDefault(c => c.Entry == l.Priced)?.Server), l.Problem))],
            [.. servers.Select(static s => new ReportedServer(s.Target, s.RootPid, s.Problem is null, s.Problem))],
            costs.IsEmpty ? null : new ReportedCost(Math.Round(bareCall, 1), [.. costs.Select(static c => new ReportedEntryCost(NameOf(c.Entry), Math.Round(c.Others), Math.Round(c.Server)))]),
            [.. UnknownOf(findings, broken, libraries, servers)]);
    }

    /// <summary>An instruction as it is written.</summary>
    public static string NameOf(EntryInstruction entry) => entry switch
    {
        EntryInstruction.Push => "push",
        EntryInstruction.Subtract => "sub",
        EntryInstruction.EndBranch => "endbr64",
        _ => "other",
    };

    public string ToJson() => JsonSerializer.Serialize(this, ReportJson.Readable.DoctorReport);

    private static double? Rounded(double? nanoseconds) => nanoseconds is { } value ? Math.Round(value) : null;

    private static string NameOf(FindingStatus status) => status.ToString().ToLowerInvariant();

    private static IEnumerable<ReportedUnknown> UnknownOf(
        IReadOnlyList<Finding> findings, Dictionary<string, ImmutableArray<string>> broken, ImmutableArray<ExaminedLibrary> libraries, ImmutableArray<ExaminedServer> servers)
    {
        foreach (DoctorFeature feature in DoctorFeature.All.Where(f => broken.ContainsKey(f.Id)))
        {
            yield return new ReportedUnknown(feature.Unknown, string.Join("; ", broken[feature.Id].Select(id => $"{id}: {findings.First(f => f.Id == id && f.Status == FindingStatus.Failed).Seen}").Take(2)));
        }
        foreach (ExaminedServer server in servers.Where(static s => s.Problem is not null && !s.Refused))
        {
            yield return new ReportedUnknown($"the verdict of {server.Target}", server.Problem!);
        }
        foreach (ExaminedLibrary library in libraries.Where(static l => l.Problem is not null))
        {
            yield return new ReportedUnknown($"the calls of a server with {library.Path}", library.Problem!);
        }
    }
}

/// <summary>A feature: does it work here, and if not, which findings are to blame?</summary>
internal sealed record ReportedFeature(string Id, string What, bool Works, ImmutableArray<string> Because);

/// <summary>A finding.</summary>
internal sealed record ReportedFinding(string Id, string Status, string Seen, string Means, string? Remedy, ImmutableArray<string> Breaks);

/// <summary>A libcrypto.</summary>
internal sealed record ReportedLibrary(string Path, string? Version, ImmutableArray<string> Functions, string SetBeginsWith, string? SetSite, string? SetSiteReason, double? SetCallNs, string? Problem);

/// <summary>A running server.</summary>
internal sealed record ReportedServer(string Target, int RootPid, bool Inspectable, string? Problem);

/// <summary>What a probe costs here, in nanoseconds a call.</summary>
internal sealed record ReportedCost(double BareCallNs, ImmutableArray<ReportedEntryCost> Entries);

/// <summary>The same for a first instruction.</summary>
internal sealed record ReportedEntryCost(string Instruction, double OthersNs, double ServerNs);

/// <summary>What would be unknown, and why.</summary>
internal sealed record ReportedUnknown(string What, string Why);
