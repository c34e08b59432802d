using System.Globalization;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>Whether this process may look into others and into files that are closed to it: tried, without reading anything.</summary>
public static class AccessTrial
{
    /// <summary>
    /// Whether the memory of a process may be read. It is asked for address 0, where there is none: the kernel looks at the
    /// privilege first.
    /// </summary>
    public static ProcOutcome<bool> ReadMemory(int pid)
    {
        // By this thread, whose privilege is asked for: where there is nothing, nothing can make it wait.
        Span<byte> nothing = stackalloc byte[1];
        return Native.ReadProcess(pid, nothing, [new(0, 1)]) >= 0 || Native.LastError == Native.BadAddress
            ? true
            : ProcFailure.FromErrno(Native.LastError, $"the memory of process {pid}", ProcessMemory.Remedy);
    }

    /// <summary>
    /// Whether files can be read whose permissions forbid it to everybody, as other users' closed folders do: tried on nameless
    /// memory.
    /// </summary>
    public static ProcOutcome<bool> ReadClosedFile()
    {
        using SafeFileHandle page = UnwinderNative.CreatePage();
        if (page.IsInvalid || !UnwinderNative.CloseToAll(page))
        {
            return new ProcFailure(ProcStatus.Unavailable, $"nameless memory cannot be had (memfd_create): errno {Native.LastError}");
        }

        using SafeFileHandle again = Native.Open(RegularFile.PathOf(page), Native.ReadOnly);
        return again.IsInvalid ? ProcFailure.FromErrno(Native.LastError, "a closed file", "give CAP_DAC_READ_SEARCH") : true;
    }

    /// <summary>The user that a process runs as: its effective one.</summary>
    public static ProcOutcome<uint> UserOf(ProcFs proc, int pid)
    {
        ArgumentNullException.ThrowIfNull(proc);
        Span<byte> buffer = stackalloc byte[4096];
        if (!proc.ReadFile(pid, "status", buffer).TryGet(out int length, out ProcFailure failure))
        {
            return failure;
        }

        string? line = System.Text.Encoding.UTF8.GetString(buffer[..length]).Split('\n').FirstOrDefault(static l => l.StartsWith("Uid:", StringComparison.Ordinal));
        return line?.Split('\t') is [_, _, { } effective, ..] && uint.TryParse(effective, NumberStyles.None, CultureInfo.InvariantCulture, out uint user)
            ? user
            : new ProcFailure(ProcStatus.Malformed, $"the status of process {pid} tells no user");
    }
}
