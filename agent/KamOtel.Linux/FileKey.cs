using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>
/// What distinguishes the content of an open file from any other's seen before: a key for what was learned of it. The same file
/// may have several keys (one in each container that shares a layer), but two contents never have one.
/// </summary>
/// <param name="DeviceMajor">The device's major number.</param>
/// <param name="DeviceMinor">The device's minor number.</param>
/// <param name="Inode">The inode. Numbers are used again after a file was removed, hence the rest.</param>
/// <param name="Size">Size in bytes.</param>
/// <param name="ChangedNs">Last change of the inode (ctime) in nanoseconds since the Unix epoch; cannot be set back.</param>
public readonly record struct FileKey(uint DeviceMajor, uint DeviceMinor, ulong Inode, ulong Size, long ChangedNs)
{
    /// <summary>The key of an open file.</summary>
    public static ProcOutcome<FileKey> Of(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return Native.TryStat(file, out Native.FileStatus status)
            ? new FileKey(status.DeviceMajor, status.DeviceMinor, status.Inode, status.Size, (status.ChangedSeconds * 1_000_000_000) + status.ChangedNanoseconds)
            : new ProcFailure(ProcStatus.Unavailable, "the open file does not tell its inode");
    }
}
