using System.Globalization;

namespace KamOtel.Agent;

/// <summary>The doctor's report for people: problems first, with what helps; then, in short, what is well.</summary>
internal sealed class DoctorTable(TextWriter output, bool colored)
{
    private const int Width = 110;

    public void Print(DoctorReport report)
    {
        ReportedFeature[] broken = [.. report.Features.Where(static f => !f.Works)];
        output.WriteLine(report.Result switch
        {
            "works" => "All of kamotel works here.",
            "degraded" => $"kamotel works here, but for {broken.Length} of {report.Features.Length} features.",
            _ => "`kamotel run` does not start here.",
        });
        foreach (string status in new[] { "failed", "warning", "note" })
        {
            foreach (IGrouping<(string Seen, string? Remedy), ReportedFinding> alike in report.Findings.Where(f => f.Status == status).GroupBy(static f => (WithoutName(f.Seen), f.Remedy)))
            {
                ReportedFinding[] findings = [.. alike];
                output.WriteLine();
                Print(status, $"{string.Join(", ", findings.Select(static f => f.Id))}: {findings[0].Seen}");
                Wrap("means", findings.Length == 1 ? findings[0].Means : string.Join("; ", findings.Select(static f => f.Means.Split("; ", 2)[0]).Distinct(StringComparer.Ordinal)));
                if (findings.SelectMany(static f => f.Breaks).Distinct().ToArray() is { Length: > 0 } breaks)
                {
                    Wrap("breaks", string.Join(", ", breaks));
                }
                if (alike.Key.Remedy is { } remedy)
                {
                    Wrap("remedy", remedy);
                }
            }
        }
        output.WriteLine();
        Wrap("works", string.Join(", ", report.Features.Where(static f => f.Works).Select(static f => f.Id)) is { Length: > 0 } works ? works : "nothing");
        ReportedFinding[] well = [.. report.Findings.Where(static f => f.Status == "ok")];
        foreach (ReportedFinding finding in well.Where(static f => !f.Id.StartsWith("program.", StringComparison.Ordinal)))
        {
            Print("ok", $"{finding.Id}: {finding.Seen}");
        }
        if (well.Count(static f => f.Id.StartsWith("program.", StringComparison.Ordinal)) is > 0 and var programs)
        {
            Print("ok", $"program.*: {programs.ToString(CultureInfo.InvariantCulture)} programs loaded and attached");
        }
        if (!report.Unknown.IsEmpty)
        {
            output.WriteLine();
            output.WriteLine("Unknown here would be");
            foreach (ReportedUnknown unknown in report.Unknown)
            {
                Wrap("-", $"{unknown.What}: {unknown.Why}");
            }
        }
    }

    /// <summary>Programs that are refused alike differ in their name only.</summary>
    private static string WithoutName(string seen) => seen.IndexOf(": ", StringComparison.Ordinal) is > 0 and var at ? seen[at..] : seen;

    private void Print(string status, string text)
    {
        string word = status.PadRight(7);
        Lines(colored ? $"\u001b[{ColorOf(status)}m{word}\u001b[0m  " : word + "  ", text, 9);
    }

    private void Wrap(string head, string text) => Lines($"  {head.PadRight(head == "-" ? 1 : 6)} ", text, head == "-" ? 4 : 9);

    private void Lines(string head, string text, int indent)
    {
        string line = head;
        int used = indent;
        bool first = true;
        foreach (string word in text.Split(' '))
        {
            if (!first && used + 1 + word.Length > Width)
            {
                output.WriteLine(line.TrimEnd());
                (line, used, first) = (new string(' ', indent), indent, true);
            }
            line += first ? word : " " + word;
            used += word.Length + (first ? 0 : 1);
            first = false;
        }
        output.WriteLine(line);
    }

    private static string ColorOf(string status) => status switch
    {
        "failed" => "1;31",
        "warning" => "33",
        "note" => "36",
        _ => "32",
    };
}
