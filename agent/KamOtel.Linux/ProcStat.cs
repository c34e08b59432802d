using System.Buffers.Text;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>What <c>/proc/PID/stat</c> tells.</summary>
/// <param name="Id">The process, for good.</param>
/// <param name="Name">The main thread's name.</param>
/// <param name="State">Its state as one letter: <c>R</c>, <c>S</c>, <c>D</c>, <c>T</c>, <c>Z</c> (exited, not yet waited for), ….</param>
/// <param name="ParentPid">The parent; 0 when it has none here.</param>
/// <param name="Threads">How many threads the process has.</param>
public sealed record ProcessStat(ProcessId Id, TaskName Name, char State, int ParentPid, int Threads)
{
    /// <summary>The file's text, or null when it makes no sense.</summary>
    internal static ProcessStat? Parse(int pid, ReadOnlySpan<byte> text)
    {
        // The name may hold anything, parentheses, blanks and line ends too; nothing after it may hold a parenthesis.
        int open = text.IndexOf((byte)'(');
        int close = text.LastIndexOf((byte)')');
        if (open < 0 || close < open || !Utf8Parser.TryParse(text, out int number, out _) || number != pid)
        {
            return null;
        }

        TaskName name = TaskName.From(text[(open + 1)..close]);
        ReadOnlySpan<byte> rest = text[(close + 1)..].TrimEnd((byte)'\n');
        char state = '\0';
        int parent = 0;
        int threads = 0;
        ulong start = 0;
        int field = 2;
        foreach (Range range in rest.Split((byte)' '))
        {
            ReadOnlySpan<byte> value = rest[range];
            bool good = field switch
            {
                3 => value.Length == 1 && (state = (char)value[0]) != '\0',
                4 => Parse(value, out parent),
                20 => Parse(value, out threads),
                22 => Utf8Parser.TryParse(value, out start, out int used) && used == value.Length,
                _ => true,
            };
            if (!good)
            {
                return null;
            }

            field++;
        }

        return field > 22 ? new(new ProcessId(pid, start), name, state, parent, threads) : null;

        static bool Parse(ReadOnlySpan<byte> value, out int number) =>
            Utf8Parser.TryParse(value, out number, out int used) && used == value.Length && number >= 0;
    }
}
