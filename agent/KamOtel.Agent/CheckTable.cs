using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>A check for people: a line a configuration, and under it why.</summary>
internal sealed class CheckTable(TextWriter output, bool colored)
{
    private static readonly string[] Titles = ["VERDICT", "KAMAILIO", "OPENSSL", "SLOTS", "AUTHOR", "TARGET"];

    public void Print(IReadOnlyList<CheckResult> results)
    {
        string[][] rows = [.. results.Select(Cells)];
        int[] widths = [.. Titles.Select((title, column) => Math.Max(title.Length, rows.Max(row => row[column].Length)))];
        output.WriteLine(ScanTable.Line(Titles, widths));
        for (int i = 0; i < rows.Length; i++)
        {
            string line = ScanTable.Line(rows[i], widths);
            string verdict = rows[i][0];
            output.WriteLine(colored ? $"\u001b[{ScanTable.ColorOf(results[i].Verdict)}m{verdict}\u001b[0m{line[verdict.Length..]}" : line);
            foreach (string detail in Details(results[i]))
            {
                output.WriteLine($"  {detail}");
            }
        }
    }

    /// <summary>All that is told of a result but its line.</summary>
    internal static IEnumerable<string> Details(CheckResult result)
    {
        if (result.Problem is { } problem)
        {
            yield return problem;
        }
        foreach (InstanceSnapshot server in result.Servers)
        {
            if (result.Servers.Length > 1)
            {
                yield return $"server {server.Root.Tgid}: {Words.Of(server.Verdict)}";
            }
            foreach (string detail in ScanTable.Details(server))
            {
                yield return detail;
            }
        }
        if (result.End is { } end)
        {
            yield return $"command: {end}";
        }
        foreach (string remark in result.Remarks)
        {
            yield return remark;
        }
    }

    private static string[] Cells(CheckResult result)
    {
        string[] authors = [.. result.Servers.SelectMany(static s => s.SharedSlots).Select(static s => s.Origin?.Chain.Author).OfType<string>().Distinct(StringComparer.Ordinal)];
        int slots = result.Servers.Sum(static s => s.SharedSlots.Length);
        return
        [
            Words.Of(result.Verdict),
            result.Worst?.Facts.Kamailio ?? "-",
            result.Worst?.Facts.OpenSsl ?? "-",
            // Where nobody could look, nobody counted.
            result.Verdict == Verdict.Unknown && slots == 0 ? "-" : $"{slots}",
            authors.Length == 0 ? "-" : string.Join(",", authors),
            result.Name,
        ];
    }
}
