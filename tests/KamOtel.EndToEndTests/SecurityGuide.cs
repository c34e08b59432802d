namespace KamOtel.EndToEndTests;

/// <summary>What <c>docs/security.md</c> says of capabilities: every list of them elsewhere is held against it.</summary>
internal static class SecurityGuide
{
    /// <summary>What the agent needs, from Linux 6.6 on.</summary>
    public static IReadOnlyList<string> Capabilities { get; } = Words("| Linux 6.6 and later |");

    /// <summary>What it needs on an older kernel.</summary>
    public static IReadOnlyList<string> CapabilitiesOfOlderKernels { get; } = Words("| older |");

    /// <summary>The features that stop without one of them; null: the agent does not start.</summary>
    public static IReadOnlyList<string>? StopsWithout(string capability)
    {
        string[] cells = Line($"| `{capability}` |").Split('|');
        string stops = cells[3].Trim();
        return stops == "the same" || stops.Contains("exit code 77", StringComparison.Ordinal) ? null : InBackticks(stops);
    }

    private static string[] Words(string head) => InBackticks(Line(head).Split('|')[2]);

    private static string Line(string head) =>
        File.ReadLines(Path.Combine(Requirements.Repository, "docs", "security.md")).First(line => line.StartsWith(head, StringComparison.Ordinal));

    private static string[] InBackticks(string cell) => [.. cell.Split('`').Where(static (_, i) => i % 2 == 1)];
}
