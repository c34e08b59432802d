using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>
/// Opens files that somebody else may have laid out, for reading only. They are looked at first: opening a fifo could wait, opening
/// a device could do anything.
/// </summary>
public static class RegularFile
{
    /// <summary>Opens a file by its path in the agent's own view. The caller disposes of the handle.</summary>
    public static ProcOutcome<SafeFileHandle> Open(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        using SafeFileHandle place = Native.Open(path, Native.PathOnly);
        return Open(place, path, "run the agent as root, or give it CAP_DAC_READ_SEARCH");
    }

    /// <summary>
    /// A path for an open file, for whoever takes only paths: it leads to the very file, even when that has no other path any more.
    /// Good in this process while the handle is open.
    /// </summary>
    public static string PathOf(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return $"/proc/self/fd/{file.DangerousGetHandle()}";
    }

    /// <summary>Opens what <paramref name="place"/> (O_PATH, just opened) refers to.</summary>
    internal static ProcOutcome<SafeFileHandle> Open(SafeFileHandle place, string what, string remedy)
    {
        if (place.IsInvalid || !Native.TryStat(place, out Native.FileStatus status))
        {
            return ProcFailure.FromErrno(Native.LastError, what, remedy);
        }

        if (!status.IsRegular)
        {
            return new ProcFailure(ProcStatus.Unavailable, $"{what} is a {status.Kind}, not a regular file");
        }

        // By the descriptor, so that it is the file just looked at.
        SafeFileHandle file = Native.Open(PathOf(place), Native.ReadOnly | Native.NonBlocking);
        if (!file.IsInvalid)
        {
            return file;
        }

        int errno = Native.LastError;
        file.Dispose();
        return ProcFailure.FromErrno(errno, what, remedy);
    }
}
