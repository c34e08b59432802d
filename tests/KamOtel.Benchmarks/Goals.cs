using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KamOtel.Benchmarks;

/// <summary>What a figure must not pass.</summary>
/// <param name="Bound">The last value that is good.</param>
/// <param name="AtLeast">More is better.</param>
/// <param name="OfRatio">The ratio has the goal, not the value.</param>
internal sealed record Goal(double Bound, bool AtLeast, bool OfRatio)
{
    /// <summary>Met, or by how much it is missed.</summary>
    public string Outcome(double reached) =>
        (AtLeast ? reached >= Bound : reached <= Bound) ? "met"
        : Bound == 0 ? string.Create(CultureInfo.InvariantCulture, $"missed by {reached:0.###}")
        : string.Create(CultureInfo.InvariantCulture, $"missed by {Math.Abs(reached - Bound) / Bound * 100:0.#} %");
}

/// <summary>A line of the table.</summary>
/// <param name="Path">Where the value is in the report: bench.key.</param>
/// <param name="Text">What it is.</param>
/// <param name="Unit">Its unit.</param>
/// <param name="Beside">Where the value is that it is divided by for the ratio; null: there is no ratio.</param>
/// <param name="Goal">Its goal; null: it has none.</param>
internal sealed record Figure(string Path, string Text, string Unit, string? Beside = null, Goal? Goal = null);

/// <summary>The table at the end of a run: figures side by side, with the goals of this project.</summary>
internal static class Goals
{
    /// <summary>All figures that have a line.</summary>
    public static IReadOnlyList<Figure> Figures { get; } =
    [
        new("hit.trapNs", "a hit: the bare trap", "ns"),
        new("hit.siteNs", "KamOtel, where it stands", "ns", "hit.trapNs", AtMost(1.1, ofRatio: true)),
        new("hit.strangerNs", "the same, a process that is not watched", "ns", "hit.trapNs"),
        new("hit.entryNs", "KamOtel at the entry", "ns", "hit.trapNs"),
        new("hit.bpftraceNs", "bpftrace, beside KamOtel where it stands", "ns", "hit.siteNs", AtLeast(10, ofRatio: true)),
        new("hit.gdbNs", "GDB, beside KamOtel where it stands", "ns", "hit.siteNs"),
        new("handshakes.without", "TLS handshakes: nobody looks", "1/s"),
        new("handshakes.with", "with the agent", "1/s", "handshakes.without", AtLeast(0.99, ofRatio: true)),
        new("handshakes.confirm", "in its confirm window", "1/s", "handshakes.without", AtLeast(0.90, ofRatio: true)),
        new("handshakes.confirmUnlimited", "the same without the limit of calls", "1/s", "handshakes.without"),
        new("handshakes.bpftrace", "with bpftrace", "1/s", "handshakes.without"),
        new("ring.eventsPerSecond", "ring to fleet, one core", "1/s", null, AtLeast(3e6)),
        new("ring.cEventsPerSecond", "a C program that only looks at them", "1/s", "ring.eventsPerSecond", AtMost(1.5, ofRatio: true)),
        new("ring.bytesPerEvent", "allocated an event", "bytes", null, AtMost(0)),
        new("agent.startToAttachedMs", "the agent: start to probes attached", "ms", null, AtMost(200)),
        new("agent.execToAttachedMs", "a new libcrypto to its probes attached", "ms"),
        // 40 MB.
        new("agent.residentMiB", "resident, 10 servers", "MiB", null, AtMost(38.1)),
        new("agent.idleCpuPercent", "idle", "% of a core", null, AtMost(0.1)),
        new("agent.calls.cpuPercent", "at 100,000 events a second", "% of a core"),
        new("agent.calls.residentMiB", "resident then", "MiB"),
        new("inspection.10", "inspection of 10 processes", "ms"),
        new("inspection.100", "of 100", "ms", "inspection.10"),
        // Linear: ten times the processes, ten times the time, and the noise.
        new("inspection.1000", "of 1,000: beside 100", "ms", "inspection.100", AtMost(11, ofRatio: true)),
        new("inspection.1000", "of 1,000", "ms", null, AtMost(50)),
    ];

    /// <summary>The table of what was measured: figure, value, ratio, goal, and whether that is met. What was not has no line.</summary>
    public static string Table(JsonObject report)
    {
        string[] head = ["figure", "value", "ratio", "goal", ""];
        string[][] lines = [head, .. Figures.Select(figure => Line(figure, report)).OfType<string[]>()];
        int[] widths = [.. head.Select((_, column) => lines.Max(line => line[column].Length))];
        var table = new StringBuilder();
        foreach (string[] line in lines)
        {
            _ = table.AppendLine($"{line[0].PadRight(widths[0])}  {line[1].PadLeft(widths[1])}  {line[2].PadLeft(widths[2])}  {line[3].PadLeft(widths[3])}  {line[4]}".TrimEnd());
        }
        return table.ToString();
    }

    private static string[]? Line(Figure figure, JsonObject report)
    {
        if (Value(report, figure.Path) is not { } value)
        {
            return null;
        }
        double? ratio = figure.Beside is { } beside && Value(report, beside) is { } other and not 0 ? value / other : null;
        double? judged = figure.Goal is { OfRatio: true } ? ratio : value;
        return
        [
            figure.Text,
            $"{Number(value)} {figure.Unit}",
            ratio is { } r ? $"{Number(r)} x" : "",
            figure.Goal is { } goal ? $"{(goal.AtLeast ? "≥" : "≤")} {Number(goal.Bound)}{(goal.OfRatio ? " x" : "")}" : "",
            figure.Goal is null ? "" : judged is { } reached ? figure.Goal.Outcome(reached) : "cannot be told: there is nothing beside it",
        ];
    }

    private static double? Value(JsonNode? report, string path)
    {
        foreach (string key in path.Split('.'))
        {
            report = (report as JsonObject)?[key];
        }
        return report is null ? null : report.Deserialize<double>();
    }

    private static string Number(double value) => value.ToString(
        Math.Abs(value) switch { >= 1000 => "#,0", >= 100 => "0", >= 10 => "0.#", >= 0.5 => "0.###", _ => "0.####" },
        CultureInfo.InvariantCulture);

    private static Goal AtLeast(double bound, bool ofRatio = false) => new(bound, AtLeast: true, ofRatio);

    private static Goal AtMost(double bound, bool ofRatio = false) => new(bound, AtLeast: false, ofRatio);
}
