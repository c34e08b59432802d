using System.Buffers;
using System.Buffers.Binary;
using System.Buffers.Text;
using System.Collections.Immutable;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>Takes a line of <c>/proc/PID/maps</c> without its end, good during the call; false when it makes no sense.</summary>
internal delegate bool MapLine(ReadOnlySpan<byte> line);

/// <summary>
/// What <c>/proc</c> tells of live processes. Processes vanish at any moment; that is an outcome here, not an exception.
/// </summary>
/// <param name="root">Where the proc file system is mounted: the host's, when the agent runs in a container.</param>
public sealed class ProcFs(string root = "/proc")
{
    /// <summary>The most mappings that are read of one process: twice what the kernel allows unless told otherwise.</summary>
    internal const int MaxMappings = 131_072;

    private const int MaxLine = 64 * 1024;
    private const int MaxPath = 4096;
    private const string ReadRemedy = "run the agent as root, or give it CAP_SYS_PTRACE (and CAP_DAC_READ_SEARCH)";
    private const string MappingRemedy = "run the agent as root, or give it CAP_SYS_PTRACE and CAP_CHECKPOINT_RESTORE (CAP_SYS_ADMIN before Linux 5.9)";

    /// <summary>Where the proc file system is mounted.</summary>
    public string Root { get; } = root;

    /// <summary>The processes that there are now.</summary>
    /// <exception cref="IOException">There is no proc file system at <see cref="Root"/>.</exception>
    public IEnumerable<int> Processes() => ListNumbers(Root).TryGet(out ImmutableArray<int> pids, out ProcFailure failure)
        ? pids
        : throw new IOException($"{failure.Detail}; the proc file system should be mounted there");

    /// <summary>The process's threads that there are now.</summary>
    public ProcOutcome<ImmutableArray<int>> ReadThreads(int pid) => ListNumbers(PathOf(pid, "task"));

    /// <summary>Name, identity, parent and state.</summary>
    public ProcOutcome<ProcessStat> ReadStat(int pid)
    {
        Span<byte> buffer = stackalloc byte[2048];
        if (!ReadFile(pid, "stat", buffer).TryGet(out int length, out ProcFailure failure))
        {
            return failure;
        }

        return ProcessStat.Parse(pid, buffer[..length]) is { } stat
            ? stat
            : new ProcFailure(ProcStatus.Malformed, $"{PathOf(pid, "stat")} is not as the kernel writes it");
    }

    /// <summary>
    /// The process's mappings, read as a stream. They may change while they are read: each is true, all together need not be.
    /// None for a kernel thread and for a process that exited and was not yet waited for.
    /// </summary>
    /// <param name="pid">The process.</param>
    /// <param name="onlyCode">Keep only those that are code out of a file (<see cref="Mapping.IsCode"/>).</param>
    public ProcOutcome<ImmutableArray<Mapping>> ReadMaps(int pid, bool onlyCode = false)
    {
        ImmutableArray<Mapping>.Builder mappings = ImmutableArray.CreateBuilder<Mapping>();
        bool read = TryReadMapLines(
            pid,
            line =>
            {
                if (Mapping.Parse(line) is not { } mapping)
                {
                    return false;
                }

                if (!onlyCode || mapping.IsCode)
                {
                    mappings.Add(mapping);
                }

                return true;
            },
            out ProcFailure failure);
        return read ? mappings.DrainToImmutable() : failure;
    }

    /// <summary>
    /// The path of the process's program, as the process sees it; without the kernel's mark when the file was replaced since.
    /// Gone also for kernel threads.
    /// </summary>
    public ProcOutcome<string> ExecutablePath(int pid) => ReadLink(pid, "exe");

    /// <summary>
    /// Opens a file by the path that the process sees, as in its own root: links lead nowhere outside it. Regular files only;
    /// a fifo or device is not even opened. The caller disposes of the handle.
    /// </summary>
    public ProcOutcome<SafeFileHandle> OpenRooted(int pid, string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string rootPath = PathOf(pid, "root");
        string what = $"{path} of process {pid}";
        if (path[0] != '/' || path.Contains('\0', StringComparison.Ordinal))
        {
            return new ProcFailure(ProcStatus.Unavailable, $"{what} is no absolute path");
        }

        using SafeFileHandle directory = Native.Open(rootPath, Native.PathOnly | Native.Directory);
        if (directory.IsInvalid)
        {
            return ProcFailure.FromErrno(Native.LastError, rootPath, ReadRemedy);
        }

        using SafeFileHandle place = Native.OpenBelow(directory, path, Native.PathOnly, Native.ResolveInRoot | Native.ResolveNoMagicLinks);
        return RegularFile.Open(place, what, ReadRemedy);
    }

    /// <summary>
    /// Opens the very file that the process maps at <c>start .. end</c> (a whole mapping, as <see cref="ReadMaps"/> gives it),
    /// even when its path is gone or leads to a newer file. Regular files only. The caller disposes of the handle.
    /// </summary>
    public ProcOutcome<SafeFileHandle> OpenMapping(int pid, ulong start, ulong end)
    {
        string path = PathOf(pid, $"map_files/{start:x}-{end:x}");
        using SafeFileHandle place = Native.Open(path, Native.PathOnly);
        return RegularFile.Open(place, path, MappingRemedy);
    }

    /// <summary>Where a link such as <c>exe</c> or <c>cwd</c> leads.</summary>
    internal ProcOutcome<string> ReadLink(int pid, string name)
    {
        const string Deleted = " (deleted)";
        Span<byte> buffer = stackalloc byte[MaxPath];
        string path = PathOf(pid, name);
        int length = Native.ReadLink(path, buffer);
        if (length < 0)
        {
            return ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
        }

        string target = Encoding.UTF8.GetString(buffer[..length]);
        return target.EndsWith(Deleted, StringComparison.Ordinal) ? target[..^Deleted.Length] : target;
    }

    /// <summary>The lines of the process's <c>maps</c> as they are, without their ends: most readers want few of them.</summary>
    internal bool TryReadMapLines(int pid, MapLine take, out ProcFailure failure)
    {
        string path = PathOf(pid, "maps");
        using SafeFileHandle file = Native.Open(path, Native.ReadOnly);
        if (file.IsInvalid)
        {
            failure = ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
            return false;
        }

        failure = default;
        byte[] rented = ArrayPool<byte>.Shared.Rent(MaxLine);
        try
        {
            int filled = 0;
            int lines = 0;
            while (true)
            {
                int count = Native.Read(file, rented.AsSpan(filled, MaxLine - filled));
                if (count < 0)
                {
                    failure = ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
                    return false;
                }

                if (count == 0)
                {
                    failure = filled == 0
                        ? default
                        : new ProcFailure(ProcStatus.Malformed, $"{path} ends, or has a line of more than {MaxLine} bytes, after line {lines}");
                    return filled == 0;
                }

                ReadOnlySpan<byte> text = rented.AsSpan(0, filled + count);
                for (int end; (end = text.IndexOf((byte)'\n')) >= 0; text = text[(end + 1)..])
                {
                    if (++lines > MaxMappings)
                    {
                        failure = new ProcFailure(ProcStatus.Unavailable, $"{path} has more than {MaxMappings} mappings, and no more are read");
                        return false;
                    }

                    if (!take(text[..end]))
                    {
                        failure = new ProcFailure(ProcStatus.Malformed, $"line {lines} of {path} is not as the kernel writes it");
                        return false;
                    }
                }

                filled = text.Length;
                text.CopyTo(rented);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    /// <summary>Reads a file of the process until its end or the buffer's, and tells how many bytes there were.</summary>
    internal ProcOutcome<int> ReadFile(int pid, string name, Span<byte> buffer)
    {
        string path = PathOf(pid, name);
        using SafeFileHandle file = Native.Open(path, Native.ReadOnly);
        if (file.IsInvalid)
        {
            return ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
        }

        int length = 0;
        while (length < buffer.Length)
        {
            int count = Native.Read(file, buffer[length..]);
            if (count < 0)
            {
                return ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
            }

            if (count == 0)
            {
                break;
            }

            length += count;
        }

        return length;
    }

    /// <summary>The entries of a directory that are numbers, in the kernel's order.</summary>
    private static ProcOutcome<ImmutableArray<int>> ListNumbers(string path)
    {
        using SafeFileHandle directory = Native.Open(path, Native.ReadOnly | Native.Directory);
        if (directory.IsInvalid)
        {
            return ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
        }

        const int NameAt = 19;
        Span<byte> buffer = stackalloc byte[16 * 1024];
        ImmutableArray<int>.Builder numbers = ImmutableArray.CreateBuilder<int>();
        while (true)
        {
            int count = Native.ReadDirectory(directory, buffer);
            if (count < 0)
            {
                return ProcFailure.FromErrno(Native.LastError, path, ReadRemedy);
            }

            if (count == 0)
            {
                return numbers.DrainToImmutable();
            }

            for (ReadOnlySpan<byte> entries = buffer[..count]; !entries.IsEmpty;)
            {
                int length = BinaryPrimitives.ReadUInt16LittleEndian(entries[16..]);
                ReadOnlySpan<byte> name = entries[NameAt..length];
                name = name[..name.IndexOf((byte)0)];
                if (Utf8Parser.TryParse(name, out int number, out int used) && used == name.Length)
                {
                    numbers.Add(number);
                }

                entries = entries[length..];
            }
        }
    }

    private string PathOf(int pid, string name) => $"{Root}/{pid}/{name}";
}
