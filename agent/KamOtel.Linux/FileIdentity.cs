using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>
/// Which file an open file is. Two paths of one file system with one identity are one file; on an overlay the same lower file
/// has an identity in every container that shares it.
/// </summary>
/// <param name="DeviceMajor">The device's major number.</param>
/// <param name="DeviceMinor">The device's minor number.</param>
/// <param name="Inode">The inode.</param>
public readonly record struct FileIdentity(uint DeviceMajor, uint DeviceMinor, ulong Inode)
{
    /// <summary>The identity of an open file.</summary>
    public static ProcOutcome<FileIdentity> Of(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return Native.TryStat(file, out Native.FileStatus status)
            ? new FileIdentity(status.DeviceMajor, status.DeviceMinor, status.Inode)
            : new ProcFailure(ProcStatus.Unavailable, "the open file does not tell its inode");
    }
}
