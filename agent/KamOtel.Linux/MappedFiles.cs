using System.Diagnostics.CodeAnalysis;
using KamOtel.Diagnosis;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>What is known of a file that processes map as code. The same for as long as the file is.</summary>
internal sealed record MappedFile
{
    /// <summary>How the loader maps it; null when it is no ELF file that can be read.</summary>
    public ElfSegments? Segments { get; init; }

    /// <summary>It defines OpenSSL's thread-local functions: it is, or carries, a libcrypto.</summary>
    public bool DefinesThreadLocals { get; init; }

    /// <summary>How it keeps thread-local values, when it is a C library.</summary>
    public ThreadStorageLayout? Layout { get; init; }

    /// <summary>Why that is not known although it is a C library, or has a part of one; null otherwise.</summary>
    public string? Unsupported { get; init; }

    public static MappedFile Read(SafeFileHandle file)
    {
        const string SetLocal = "CRYPTO_THREAD_set_local";
        const string GetSpecific = "pthread_getspecific";
        if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out _))
        {
            return new();
        }

        if (!elf.FindFunctions([SetLocal, GetSpecific]).TryGet(out ElfFunctions? functions, out _))
        {
            return new() { Segments = elf.Segments };
        }

        ElfFunction[] getSpecific = [.. functions.Found.Where(static f => string.Equals(f.Name, GetSpecific, StringComparison.Ordinal))];
        return new()
        {
            Segments = elf.Segments,
            DefinesThreadLocals = functions.Found.Length > getSpecific.Length,
            Layout = ThreadStorageLayout.Of(elf, getSpecific, out string? unsupported),
            Unsupported = unsupported,
        };
    }
}

/// <summary>
/// The files and the shared memory that lines of <c>maps</c> name. Within a pass the same line is the same thing, so that a thousand
/// forked processes cost little more than one; a line is not believed for longer, since inode numbers are used again.
/// </summary>
internal sealed class MappedFiles(ProcFs proc)
{
    /// <summary>The most of each kind that are remembered; a host has some hundreds.</summary>
    private const int MaxRemembered = 8192;

    private readonly Dictionary<FileKey, MappedFile> _known = [];
    private readonly Dictionary<byte[], (MappedFile? File, string Path)> _files = new(new LineComparer());
    private readonly Dictionary<byte[], SharedMemory> _memory = new(new LineComparer());

    /// <summary>Forgets what lines mean, not what files are.</summary>
    public void BeginPass()
    {
        _files.Clear();
        _memory.Clear();
    }

    /// <summary>The file of a line with code.</summary>
    /// <param name="pid">The process that maps it.</param>
    /// <param name="line">The line.</param>
    /// <param name="tail">Its end from the device on: what names the file.</param>
    /// <param name="file">The file; null when it could not be opened.</param>
    /// <param name="path">Its path as the process sees it.</param>
    /// <param name="failure">Why it could not be opened.</param>
    /// <returns>False when the line makes no sense.</returns>
    public bool TryGetFile(int pid, ReadOnlySpan<byte> line, ReadOnlySpan<byte> tail, out MappedFile? file, out string path, out ProcFailure failure)
    {
        failure = default;
        Dictionary<byte[], (MappedFile?, string)>.AlternateLookup<ReadOnlySpan<byte>> byLine = _files.GetAlternateLookup<ReadOnlySpan<byte>>();
        if (byLine.TryGetValue(tail, out (MappedFile? File, string Path) seen))
        {
            (file, path) = seen;
            return true;
        }

        file = null;
        path = string.Empty;
        if (Mapping.Parse(line) is not { } mapping)
        {
            return false;
        }

        path = mapping.Path ?? string.Empty;
        if (!mapping.IsCode)
        {
            // The kernel's own code, or code made in memory: nothing to look at, whoever maps it.
            Remember(_files, tail, (null, path));
            return true;
        }

        if (TryRead(pid, mapping, out file, out failure))
        {
            Remember(_files, tail, (file, path));
        }

        return true;
    }

    /// <summary>The memory of a line that is shared and writable; null when the line makes no sense.</summary>
    public SharedMemory? GetMemory(ReadOnlySpan<byte> line)
    {
        if (_memory.GetAlternateLookup<ReadOnlySpan<byte>>().TryGetValue(line, out SharedMemory? known))
        {
            return known;
        }

        if (Mapping.Parse(line) is not { } mapping)
        {
            return null;
        }

        string name = mapping.Path is { } path ? TargetName.Sanitise(mapping.Deleted ? $"{path} (deleted)" : path) : $"[{mapping.Inode}]";
        var memory = new SharedMemory(name, mapping.Start, mapping.End, mapping.DeviceMajor, mapping.DeviceMinor, mapping.Inode);
        Remember(_memory, line, memory);
        return memory;
    }

    private static void Remember<T>(Dictionary<byte[], T> things, ReadOnlySpan<byte> line, T thing)
    {
        if (things.Count >= MaxRemembered)
        {
            things.Clear();
        }

        things[line.ToArray()] = thing;
    }

    private bool TryRead(int pid, Mapping mapping, [NotNullWhen(true)] out MappedFile? read, out ProcFailure failure)
    {
        read = null;

        // By the mapping it is the very file, but not everybody may do that; by the path it may be a newer one.
        bool byPath = !proc.OpenMapping(pid, mapping.Start, mapping.End).TryGet(out SafeFileHandle? file, out failure);
        if (byPath && mapping is { Deleted: false, Path: ['/', ..] path })
        {
            proc.OpenRooted(pid, path).TryGet(out file, out failure);
        }

        if (file is null)
        {
            return false;
        }

        using (file)
        {
            if (!FileKey.Of(file).TryGet(out FileKey key, out failure))
            {
                return false;
            }

            if (byPath && key.Inode != mapping.Inode)
            {
                failure = new(ProcStatus.Unavailable, $"{mapping.Path} is no longer the file that process {pid} maps");
                return false;
            }

            if (!_known.TryGetValue(key, out read))
            {
                if (_known.Count >= MaxRemembered)
                {
                    _known.Clear();
                }

                _known[key] = read = MappedFile.Read(file);
            }

            return true;
        }
    }

    /// <summary>Lines by their bytes, so that a known one is looked up where it was read.</summary>
    private sealed class LineComparer : IEqualityComparer<byte[]>, IAlternateEqualityComparer<ReadOnlySpan<byte>, byte[]>
    {
        public bool Equals(byte[]? x, byte[]? y) => x.AsSpan().SequenceEqual(y);

        public bool Equals(ReadOnlySpan<byte> alternate, byte[] other) => alternate.SequenceEqual(other);

        public int GetHashCode(byte[] obj) => GetHashCode((ReadOnlySpan<byte>)obj);

        public int GetHashCode(ReadOnlySpan<byte> alternate)
        {
            HashCode hash = default;
            hash.AddBytes(alternate);
            return hash.ToHashCode();
        }

        public byte[] Create(ReadOnlySpan<byte> alternate) => alternate.ToArray();
    }
}
