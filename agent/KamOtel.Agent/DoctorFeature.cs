using System.Collections.Immutable;

namespace KamOtel.Agent;

/// <summary>Something that kamotel does, and that a machine may not let it do.</summary>
/// <param name="Id">Its name in the report.</param>
/// <param name="What">What works when it works.</param>
/// <param name="Unknown">What nobody will know when it does not.</param>
/// <param name="Needs">The features without which this one does not work either.</param>
internal sealed record DoctorFeature(string Id, string What, string Unknown, params string[] Needs)
{
    public const string Verdicts = "verdicts";
    public const string Watching = "watching";
    public const string Calls = "calls";
    public const string Authors = "authors";
    public const string Starts = "starts";
    public const string Complaints = "complaints";
    public const string Confirmation = "confirmation";
    public const string LastSlots = "last_slots";
    public const string OwnLibraries = "own_libraries";
    public const string ReplacedFiles = "replaced_files";
    public const string ClosedFiles = "closed_files";
    public const string Metrics = "metrics";
    public const string Otlp = "otlp";

    /// <summary>All there are; who needs another stands behind it.</summary>
    public static ImmutableArray<DoctorFeature> All { get; } =
    [
        new(Verdicts, "verdicts, by `kamotel scan` and `run`", "the verdict of a server"),
        new(Watching, "`kamotel run` starts, and sees servers start, fork and end", "when a server started, forked and ended, and of which signal"),
        new(Calls, "each thread-local call, with its process and time", "which process set an OpenSSL slot, and whether before the fork", Watching),
        new(Authors, "the module that made a call", "which module set a slot", Calls),
        new(Starts, "how long each module took to initialise", "what the time of a start went into", Watching),
        new(Complaints, "what a server's memory manager complains of", "whether a server found its memory damaged, or had none left", Watching),
        new(Confirmation, "which processes use a shared slot", "whether a shared slot is in use", Watching, Verdicts),
        new(LastSlots, "what a process held when a signal killed it", "what a process held that died of a signal", Watching, Verdicts),
        new(OwnLibraries, "probes on a libcrypto that only a server has: in a container, in a folder of its own", "the calls of a server with a libcrypto of its own", Calls),
        new(ReplacedFiles, "files that were replaced on disk while a server has them mapped", "the verdict of a server whose C library was upgraded under it, and the calls of one whose libcrypto was", Verdicts),
        new(ClosedFiles, "a libcrypto in a folder that is closed to the agent's user", "the calls of a server whose libcrypto lies in a closed folder", Calls),
        new(Metrics, "/metrics, /healthz and /readyz", "everything, to Prometheus", Watching),
        new(Otlp, "OTLP export", "everything, to the OTLP endpoint", Watching),
    ];

    /// <summary>What does not work when these findings hold: a feature's name, and the findings to blame.</summary>
    public static Dictionary<string, ImmutableArray<string>> Broken(IEnumerable<Finding> findings)
    {
        Finding[] failed = [.. findings.Where(static f => f.Status == FindingStatus.Failed)];
        var broken = new Dictionary<string, ImmutableArray<string>>(StringComparer.Ordinal);
        foreach (DoctorFeature feature in All)
        {
            ImmutableArray<string> blame =
            [
                .. failed.Where(f => f.Breaks.Contains(feature.Id, StringComparer.Ordinal)).Select(static f => f.Id)
                    .Concat(feature.Needs.SelectMany(need => broken.TryGetValue(need, out ImmutableArray<string> why) ? why : []))
                    .Distinct(StringComparer.Ordinal),
            ];
            if (!blame.IsEmpty)
            {
                broken[feature.Id] = blame;
            }
        }
        return broken;
    }
}
