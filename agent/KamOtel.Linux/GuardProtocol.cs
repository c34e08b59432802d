using System.Buffers.Binary;

namespace KamOtel.Linux;

/// <summary>What the guard of a command tells; agent/guard/protocol.h has the same.</summary>
public enum GuardReportKind
{
    /// <summary>The command's process is there, before its first instruction.</summary>
    Started = 1,

    /// <summary>The command could not be executed: the value is errno.</summary>
    Failed = 2,

    /// <summary>The command ended: the value is its wait status.</summary>
    Ended = 3,

    /// <summary>Processes did not end in time and were killed: the value is how many.</summary>
    Killed = 4,

    /// <summary>Nothing of what the command started is left.</summary>
    Gone = 5,

    /// <summary>The guard itself ended before that.</summary>
    Lost = 6,
}

/// <summary>One thing that the guard tells.</summary>
/// <param name="Kind">What.</param>
/// <param name="Pid">The command's process; 0 where it is about none.</param>
/// <param name="Value">What <paramref name="Kind"/> says.</param>
public readonly record struct GuardReport(GuardReportKind Kind, int Pid, int Value)
{
    /// <summary>Bytes of a report on its way.</summary>
    internal const int Size = 12;

    /// <summary>A report as the guard sent it; null when it is none.</summary>
    internal static GuardReport? Parse(ReadOnlySpan<byte> message)
    {
        if (message.Length != Size)
        {
            return null;
        }

        uint kind = BinaryPrimitives.ReadUInt32LittleEndian(message);
        return kind is >= (uint)GuardReportKind.Started and <= (uint)GuardReportKind.Gone
            ? new((GuardReportKind)kind, BinaryPrimitives.ReadInt32LittleEndian(message[4..]), BinaryPrimitives.ReadInt32LittleEndian(message[8..]))
            : null;
    }
}

/// <summary>What the guard is told, a byte each.</summary>
internal enum GuardOrder : byte
{
    Start = (byte)'s',
    Stop = (byte)'t',
    Kill = (byte)'k',
}
