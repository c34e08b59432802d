using System.Globalization;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>A scan for people: a line a server, and under it why.</summary>
internal sealed class ScanTable(TextWriter output, bool colored)
{
    /// <summary>More process identifiers than this tell nobody anything.</summary>
    private const int MaxHolders = 8;

    /// <summary>Kinds of faults; --json has all.</summary>
    private const int MaxFaults = 8;

    private static readonly string[] Titles = ["VERDICT", "ROOT", "PROCESSES", "KAMAILIO", "OPENSSL", "TARGET"];

    public void Print(IReadOnlyList<InstanceSnapshot> instances)
    {
        string[][] rows = [.. instances.Select(Cells)];
        int[] widths = [.. Titles.Select((title, column) => Math.Max(title.Length, rows.Max(row => row[column].Length)))];
        output.WriteLine(Line(Titles, widths));
        for (int i = 0; i < rows.Length; i++)
        {
            string line = Line(rows[i], widths);
            string verdict = rows[i][0];
            output.WriteLine(colored ? $"\u001b[{ColorOf(instances[i].Verdict)}m{verdict}\u001b[0m{line[verdict.Length..]}" : line);
            foreach (string detail in Details(instances[i]))
            {
                output.WriteLine($"  {detail}");
            }
        }
    }

    /// <summary>What is told below a server's line.</summary>
    internal static IEnumerable<string> Details(InstanceSnapshot instance)
    {
        yield return instance.Reason;
        foreach (SharedSlot slot in instance.SharedSlots)
        {
            string more = slot.Holders.Length > MaxHolders ? $", … ({slot.Holders.Length} in all)" : "";
            string name = slot.Name is { } known ? $" ({known})" : "";
            string author = slot.Origin?.Chain.Author is { } module ? $", set by {module}" : "";
            yield return $"key {slot.Key}{name} = 0x{slot.Value:x} in {slot.Memory.Name}{author}, held by {string.Join(", ", slot.Holders.Take(MaxHolders).Select(static h => h.Tgid))}{more}";
        }
        foreach (Fault fault in instance.Faults.Take(MaxFaults))
        {
            yield return Words.Of(fault);
        }
        if (instance.Faults.Length > MaxFaults)
        {
            yield return $"… and {instance.Faults.Skip(MaxFaults).Sum(static f => f.Count)} crashes and complaints of {instance.Faults.Length - MaxFaults} other kinds";
        }
        foreach (Advice advice in Advisor.For(instance))
        {
            yield return $"advice: {advice}";
        }
        ServerFacts facts = instance.Facts;
        string modules = facts.Modules.IsDefaultOrEmpty ? "none known" : string.Join(", ", facts.Modules);
        string mode = facts.TlsThreadsMode is { } value ? $"; tls_threads_mode {value.ToString(CultureInfo.InvariantCulture)}" : "";
        yield return $"modules: {modules}{mode}";
        if (facts.SharedMemory is { } pool)
        {
            string figures = pool is { Used: { } used, Free: { } free, MaxUsed: { } most } ? $": {Mebibytes(used)} used, {Mebibytes(free)} free, at most {Mebibytes(most)} used so far" : "";
            yield return $"shared memory: {Mebibytes(pool.Size)}{(pool.Manager is { } manager ? $", managed by {manager}" : "")}{figures}";
        }
        ScannedCoverage coverage = ScannedCoverage.Of(instance);
        yield return $"inspected: {coverage.Inspected} of {instance.Processes.Length} processes";
    }

    private static string[] Cells(InstanceSnapshot instance) =>
    [
        Words.Of(instance.Verdict),
        instance.Root.Tgid.ToString(CultureInfo.InvariantCulture),
        instance.Processes.Length.ToString(CultureInfo.InvariantCulture),
        instance.Facts.Kamailio ?? "-",
        instance.Facts.OpenSsl ?? "-",
        instance.Target,
    ];

    private static string Mebibytes(ulong bytes) => string.Create(CultureInfo.InvariantCulture, $"{bytes / 1048576.0:0.0} MiB");

    internal static string Line(string[] cells, int[] widths) =>
        string.Join("  ", cells.Select((cell, column) => cell.PadRight(widths[column]))).TrimEnd();

    internal static string ColorOf(Verdict verdict) => verdict switch
    {
        Verdict.Safe => "32",
        Verdict.Exposed => "33",
        Verdict.Unknown => "2",
        _ => "1;31",
    };
}
