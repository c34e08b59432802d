using System.Globalization;

namespace KamOtel.Linux;

/// <summary>What a process does with signals, and leaves to those that it starts. Bit 0 is signal 1.</summary>
/// <param name="Ignored">The signals that it ignores.</param>
/// <param name="Blocked">The signals that it has blocked.</param>
public readonly record struct SignalState(ulong Ignored, ulong Blocked)
{
    private const ulong Pipe = 1UL << (13 - 1);

    /// <summary>
    /// What this process was started with, as far as that can be told: to be asked before it handles signals. The runtime
    /// ignores SIGPIPE on its own account, and nobody knows what was before; hardly anybody starts a program with it ignored.
    /// </summary>
    public static SignalState OfThisProcess()
    {
        string[] lines = File.ReadAllLines("/proc/self/status");
        SignalState state = Parse(lines);
        return state with { Ignored = state.Ignored & ~Pipe };
    }

    /// <summary>Out of the lines of <c>/proc/PID/status</c>.</summary>
    internal static SignalState Parse(IEnumerable<string> lines)
    {
        SignalState state = default;
        foreach (string line in lines)
        {
            string[] parts = line.Split(':', 2, StringSplitOptions.TrimEntries);
            if (parts is ["SigIgn" or "SigBlk", _] && ulong.TryParse(parts[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong mask))
            {
                state = parts[0] == "SigIgn" ? state with { Ignored = mask } : state with { Blocked = mask };
            }
        }

        return state;
    }
}
