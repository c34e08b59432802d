using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Extensions.Logging;

namespace KamOtel.Bpf;

/// <summary>
/// libbpf's own log, routed into an <see cref="ILogger"/>. libbpf has one log for the whole process, so the last
/// logger given wins. The latest warnings are kept: they are the detail of the next error.
/// </summary>
internal static unsafe partial class LibbpfLog
{
    private const int Kept = 12;
    private static readonly Queue<string> Warnings = new();
    private static volatile ILogger? _logger;

    internal static void RouteTo(ILogger logger)
    {
        _logger = logger;
        _ = Libbpf.libbpf_set_print(&Print);
    }

    /// <summary>The warnings since the last call, oldest first, in one line.</summary>
    internal static string TakeWarnings()
    {
        lock (Warnings)
        {
            string text = string.Join(" | ", Warnings);
            Warnings.Clear();
            return text;
        }
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int Print(int level, byte* format, nint arguments)
    {
        // A verifier log can be megabytes; its head says what matters.
        const int Size = 4096;
        byte* buffer = stackalloc byte[Size];
        int length = Libc.vsnprintf(buffer, Size, format, arguments);
        if (length < 0)
        {
            return length;
        }
        string text = Encoding.UTF8.GetString(buffer, Math.Min(length, Size - 1)).TrimEnd();
        if (level == 0)
        {
            lock (Warnings)
            {
                if (Warnings.Count == Kept)
                {
                    _ = Warnings.Dequeue();
                }
                Warnings.Enqueue(text);
            }
        }
        if (_logger is { } logger)
        {
            // What fails is told by an exception; libbpf's account of it is for whoever debugs.
            if (level == 2)
            {
                Trace(logger, text);
            }
            else
            {
                Debug(logger, text);
            }
        }
        return length;
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "{Text}")]
    private static partial void Debug(ILogger logger, string text);

    [LoggerMessage(Level = LogLevel.Trace, Message = "{Text}")]
    private static partial void Trace(ILogger logger, string text);
}
