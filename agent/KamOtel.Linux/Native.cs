using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>
/// The few system calls that .NET has no quiet way for: a file that vanished is an ordinary thing in <c>/proc</c>,
/// and must not cost an exception.
/// </summary>
internal static partial class Native
{
    public const int ReadOnly = 0;
    public const int NonBlocking = 0x800;
    public const int CloseOnExec = 0x80000;
    public const int PathOnly = 0x200000;

    /// <summary>O_DIRECTORY, whose value differs between the two machines that we support.</summary>
    public static readonly int Directory = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x4000 : 0x10000;

    /// <summary>openat2(2): absolute links and ".." stay below the directory, as after a chroot.</summary>
    public const ulong ResolveInRoot = 0x10;

    /// <summary>openat2(2): links that only <c>/proc</c> can make are not followed.</summary>
    public const ulong ResolveNoMagicLinks = 0x02;

    public const int NoSuchFile = 2;
    public const int NoSuchProcess = 3;
    public const int Interrupted = 4;
    public const int AccessDenied = 13;
    public const int BadAddress = 14;
    public const int NotPermitted = 1;
    public const int NotDirectory = 20;
    public const int InvalidArgument = 22;

    private const int CurrentDirectory = -100;
    private const int EmptyPath = 0x1000;
    private const uint TypeAndKey = 0x1 | 0x4 | 0x80 | 0x100 | 0x200; // type, links, ctime, inode, size
    private const nint OpenAt2Number = 437;

    /// <summary>open(2). An invalid handle leaves the reason in <see cref="LastError"/>.</summary>
    public static SafeFileHandle Open(string path, int flags) => OpenAt(CurrentDirectory, path, flags | CloseOnExec);

    /// <summary>openat2(2): opens a path that somebody else may have laid out.</summary>
    public static unsafe SafeFileHandle OpenBelow(SafeFileHandle directory, string path, int flags, ulong resolve)
    {
        var how = new OpenHow { Flags = (ulong)(uint)(flags | CloseOnExec), Resolve = resolve };
        return OpenAt2(OpenAt2Number, directory, path, &how, (nuint)sizeof(OpenHow));
    }

    /// <summary>read(2), again when a signal came. −1 leaves the reason in <see cref="LastError"/>.</summary>
    public static unsafe int Read(SafeFileHandle file, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            nint count;
            do
            {
                count = Read(file, start, (nuint)buffer.Length);
            }
            while (count < 0 && LastError == Interrupted);

            return (int)count;
        }
    }

    /// <summary>process_vm_readv(2) into one buffer. −1 leaves the reason in <see cref="LastError"/>; less than asked for tells how far it came.</summary>
    public static unsafe nint ReadProcess(int pid, Span<byte> buffer, ReadOnlySpan<MemoryRange> ranges)
    {
        fixed (byte* start = buffer)
        fixed (MemoryRange* remote = ranges)
        {
            var local = new MemoryRange((ulong)start, (ulong)buffer.Length);
            return ReadProcess(pid, &local, 1, remote, (nuint)ranges.Length, 0);
        }
    }

    /// <summary>readlink(2). −1 leaves the reason in <see cref="LastError"/>.</summary>
    public static unsafe int ReadLink(string path, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            return (int)ReadLink(path, start, (nuint)buffer.Length);
        }
    }

    /// <summary>getdents64(2). −1 leaves the reason in <see cref="LastError"/>.</summary>
    public static unsafe int ReadDirectory(SafeFileHandle directory, Span<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            return (int)ReadDirectory(directory, start, (nuint)buffer.Length);
        }
    }

    /// <summary>statx(2) of an open file. False leaves the reason in <see cref="LastError"/>.</summary>
    public static unsafe bool TryStat(SafeFileHandle file, out FileStatus status)
    {
        fixed (FileStatus* result = &status)
        {
            return Stat(file, string.Empty, EmptyPath, TypeAndKey, result) == 0;
        }
    }

    /// <summary>clock_gettime(2) in nanoseconds.</summary>
    public static long Clock(int clock)
    {
        ClockGetTime(clock, out TimeSpec time);
        return (time.Seconds * 1_000_000_000) + time.Nanoseconds;
    }

    /// <summary>errno of the last call on this thread.</summary>
    public static int LastError => Marshal.GetLastPInvokeError();

    [LibraryImport("libc", EntryPoint = "openat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial SafeFileHandle OpenAt(int directory, string path, int flags);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial SafeFileHandle OpenAt2(nint number, SafeFileHandle directory, string path, OpenHow* how, nuint size);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static unsafe partial nint Read(SafeFileHandle file, byte* buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "process_vm_readv", SetLastError = true)]
    private static unsafe partial nint ReadProcess(int pid, MemoryRange* local, nuint localCount, MemoryRange* remote, nuint remoteCount, nuint flags);

    [LibraryImport("libc", EntryPoint = "readlink", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial nint ReadLink(string path, byte* buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "getdents64", SetLastError = true)]
    private static unsafe partial nint ReadDirectory(SafeFileHandle directory, byte* buffer, nuint size);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int Stat(SafeFileHandle directory, string path, int flags, uint mask, FileStatus* status);

    [LibraryImport("libc", EntryPoint = "clock_gettime")]
    private static partial int ClockGetTime(int clock, out TimeSpec time);

    /// <summary>struct statx: the same on every machine, unlike struct stat.</summary>
    [StructLayout(LayoutKind.Explicit, Size = 256)]
    public struct FileStatus
    {
        [FieldOffset(16)]
        public uint Links;
        [FieldOffset(28)]
        public ushort Mode;
        [FieldOffset(32)]
        public ulong Inode;
        [FieldOffset(40)]
        public ulong Size;
        [FieldOffset(96)]
        public long ChangedSeconds;
        [FieldOffset(104)]
        public uint ChangedNanoseconds;
        [FieldOffset(136)]
        public uint DeviceMajor;
        [FieldOffset(140)]
        public uint DeviceMinor;

        /// <summary>What kind of file it is, in a word.</summary>
        public readonly string Kind => (Mode & 0xf000) switch
        {
            0x1000 => "fifo",
            0x2000 => "character device",
            0x4000 => "directory",
            0x6000 => "block device",
            0x8000 => "regular file",
            0xa000 => "symbolic link",
            0xc000 => "socket",
            _ => "file of no known kind",
        };

        public readonly bool IsRegular => (Mode & 0xf000) == 0x8000;
    }

    private struct OpenHow
    {
        public ulong Flags;
        public ulong Mode;
        public ulong Resolve;
    }

    private struct TimeSpec
    {
        public long Seconds;
        public long Nanoseconds;
    }
}
