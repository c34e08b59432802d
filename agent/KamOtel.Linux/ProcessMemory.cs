using System.Buffers;

namespace KamOtel.Linux;

/// <summary>A stretch of a process's memory. Laid out as the kernel's <c>struct iovec</c>.</summary>
/// <param name="Address">Its first address.</param>
/// <param name="Length">Its length in bytes.</param>
internal readonly record struct MemoryRange(ulong Address, ulong Length);

/// <summary>The memory of live processes, read as it is while they run: nobody is stopped.</summary>
internal static class ProcessMemory
{
    /// <summary>The most stretches of one call: the kernel's IOV_MAX.</summary>
    public const int MaxRanges = 1024;

    /// <summary>The most bytes of one call.</summary>
    public const int MaxBytes = 1 << 20;

    /// <summary>What helps where it is refused.</summary>
    public const string Remedy = "run the agent as root, or give it CAP_SYS_PTRACE";

    /// <summary>Fills <paramref name="buffer"/>. Gone when the process is, Unavailable when not all of it is mapped.</summary>
    public static bool TryRead(int pid, ulong address, Span<byte> buffer, out ProcFailure failure) =>
        TryRead(pid, [new(address, (ulong)buffer.Length)], buffer, out failure);

    /// <summary>Reads stretches, in their order, one behind the other into <paramref name="buffer"/>, by one call: all of them or nothing.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="ranges">At most <see cref="MaxRanges"/>, together at most <see cref="MaxBytes"/> and at most the buffer.</param>
    /// <param name="buffer">Where to.</param>
    /// <param name="failure">Gone, Denied, or Unavailable when not all of it is mapped.</param>
    public static bool TryRead(int pid, ReadOnlySpan<MemoryRange> ranges, Span<byte> buffer, out ProcFailure failure)
    {
        failure = default;
        ulong total = 0;
        foreach (MemoryRange range in ranges)
        {
            // Stops before it can overflow: the lengths may come from a file.
            if (range.Length > MaxBytes - total)
            {
                failure = new(ProcStatus.Unavailable, $"more than {MaxBytes} bytes of process {pid} are not read at once");
                return false;
            }

            total += range.Length;
        }

        if (ranges.Length > MaxRanges || total > (ulong)buffer.Length)
        {
            failure = new(ProcStatus.Unavailable, $"{ranges.Length} stretches of {total} bytes of process {pid} do not fit into one read");
            return false;
        }

        if (total == 0)
        {
            return true;
        }

        if (!TryCall(pid, ranges, buffer[..(int)total], out nint count, out failure))
        {
            return false;
        }

        if ((ulong)count == total)
        {
            return true;
        }

        ulong missing = count < 0 ? 0 : (ulong)count;
        int at = 0;
        while (missing >= ranges[at].Length)
        {
            missing -= ranges[at++].Length;
        }

        failure = count < 0 && count != -Native.BadAddress
            ? ProcFailure.FromErrno((int)-count, $"the memory of process {pid}", Remedy)
            : new(ProcStatus.Unavailable, $"process {pid} has no memory at 0x{ranges[at].Address + missing:x}");
        return false;
    }

    /// <summary>One call: the number of bytes, or an error's number negative. False when it was not waited for.</summary>
    private static bool TryCall(int pid, ReadOnlySpan<MemoryRange> ranges, Span<byte> buffer, out nint count, out ProcFailure failure)
    {
        if (BoundedCall.IsHere)
        {
            BoundedCall.Progress();
            failure = default;
            count = Result(Native.ReadProcess(pid, buffer, ranges));
            return true;
        }

        // Its own copies: should the call not come back, it goes on without us.
        int length = buffer.Length;
        byte[] read = ArrayPool<byte>.Shared.Rent(length);
        MemoryRange[] asked = ranges.ToArray();
        if (!BoundedCall.TryRun(pid, () => Result(Native.ReadProcess(pid, read.AsSpan(0, length), asked)), out count, out failure))
        {
            return false;
        }

        read.AsSpan(0, length).CopyTo(buffer);
        ArrayPool<byte>.Shared.Return(read);
        return true;

        static nint Result(nint count) => count >= 0 ? count : -Native.LastError;
    }
}
