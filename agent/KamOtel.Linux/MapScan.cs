using System.Buffers.Text;
using System.Diagnostics.CodeAnalysis;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>Takes from a process's <c>maps</c> what a <see cref="ProcessView"/> needs. One is used for many processes, one after the other.</summary>
internal sealed class MapScan(ProcFs proc, MappedFiles files)
{
    private readonly List<SharedMemory> _shared = [];
    private readonly List<(ulong Start, ulong End)> _openSsl = [];
    private readonly List<(MappedFile File, ulong? Bias, string Path)> _candidates = [];
    private MapLine? _take;
    private int _pid;
    private bool _mapsLibcrypto;
    private (ProcFailure Failure, bool CLibrary)? _unopened;

    /// <summary>All files of the latest process could be opened.</summary>
    public bool OpenedAll => _unopened is null;

    /// <summary>Reads the maps. The view has no keys yet.</summary>
    public bool TryRead(ProcessId process, [NotNullWhen(true)] out ProcessView? view, out InspectionStatus status, out string detail)
    {
        view = null;
        _pid = process.Tgid;
        _shared.Clear();
        _openSsl.Clear();
        _candidates.Clear();
        _mapsLibcrypto = false;
        _unopened = null;
        if (!proc.TryReadMapLines(process.Tgid, _take ??= Take, out ProcFailure failure))
        {
            (status, detail) = (ToStatus(failure.Status), failure.Detail);
            return false;
        }

        if (!TryChoose(out ThreadStorageLayout? layout, out ulong bias, out status, out detail))
        {
            return false;
        }

        view = new(process, layout) { MapsLibcrypto = _mapsLibcrypto, SharedMemory = [.. _shared], OpenSslCode = [.. _openSsl], Bias = bias };
        return true;
    }

    public static InspectionStatus ToStatus(ProcStatus status) => status switch
    {
        ProcStatus.Ok => InspectionStatus.Inspected,
        ProcStatus.Gone => InspectionStatus.Gone,
        ProcStatus.Denied => InspectionStatus.Denied,
        _ => InspectionStatus.Unreadable,
    };

    /// <summary>libcrypto.so.3, libcrypto-81d66ed9.so.3; not libcryptopp.so.</summary>
    private static bool IsNamed(ReadOnlySpan<char> name, string library) =>
        name.StartsWith(library, StringComparison.Ordinal) && (name.Length == library.Length || name[library.Length] is '.' or '-' or '_');

    private static bool IsNamedAsCLibrary(ReadOnlySpan<char> name) =>
        IsNamed(name, "libc") || IsNamed(name, "libpthread") || name.StartsWith("ld-musl", StringComparison.Ordinal);

    private bool Take(ReadOnlySpan<byte> line)
    {
        // start-end rwxs offset device inode path: most lines are of no interest, and their kind is told by the second word.
        int blank = line.IndexOf((byte)' ');
        if (blank < 0 || line.Length < blank + 6)
        {
            return false;
        }

        ReadOnlySpan<byte> access = line.Slice(blank + 1, 4);
        if (access[1] == 'w' && access[3] == 's')
        {
            if (files.GetMemory(line) is not { } memory)
            {
                return false;
            }

            _shared.Add(memory);
        }

        return access[2] != 'x' || TakeCode(line, line[(blank + 6)..]);
    }

    private bool TakeCode(ReadOnlySpan<byte> line, ReadOnlySpan<byte> rest)
    {
        int device = rest.IndexOf((byte)' ') + 1;
        if (!Utf8Parser.TryParse(line, out ulong start, out int used, 'x')
            || !Utf8Parser.TryParse(line[Math.Min(used + 1, line.Length)..], out ulong end, out _, 'x')
            || !Utf8Parser.TryParse(rest, out ulong offset, out _, 'x')
            || device == 0
            || !files.TryGetFile(_pid, line, rest[device..], out MappedFile? file, out string path, out ProcFailure failure))
        {
            return false;
        }

        ReadOnlySpan<char> name = Path.GetFileName(path.AsSpan());
        bool libcrypto = file is { DefinesThreadLocals: true } || IsNamed(name, "libcrypto");
        _mapsLibcrypto |= libcrypto;
        if (libcrypto || IsNamed(name, "libssl"))
        {
            _openSsl.Add((start, end));
        }

        if (failure.Status != ProcStatus.Ok && _unopened is not { CLibrary: true })
        {
            bool cLibrary = IsNamedAsCLibrary(name);
            _unopened = cLibrary ? (failure, cLibrary) : _unopened ?? (failure, cLibrary);
        }

        if (file is { Layout: not null } or { Unsupported: not null })
        {
            _candidates.Add((file, file.Segments?.LoadBias(start, end - start, offset), path));
        }

        return true;
    }

    /// <summary>One C library keeps a process's keys. Two would each keep some, and which are OpenSSL's could only be guessed.</summary>
    private bool TryChoose([NotNullWhen(true)] out ThreadStorageLayout? layout, out ulong bias, out InspectionStatus status, out string detail)
    {
        layout = null;
        bias = 0;
        (status, detail) = (InspectionStatus.Unsupported, string.Empty);
        string chosen = string.Empty;
        foreach ((MappedFile file, ulong? here, string path) in _candidates)
        {
            if (file.Layout is not { } found)
            {
                continue;
            }

            if (here is not { } place)
            {
                detail = $"process {_pid} maps {path} in a way that its program headers do not tell of";
                layout = null;
                return false;
            }

            // What looks like musl's function beside a glibc is somebody's wrapper.
            if (layout is null || (layout.Flat && !found.Flat))
            {
                (layout, bias, chosen) = (found, place, path);
            }
            else if (found.Flat == layout.Flat && (found != layout || place != bias))
            {
                detail = $"process {_pid} has two C libraries, {chosen} and {path}, and which of them holds OpenSSL's values is not known";
                layout = null;
                return false;
            }
        }

        if (layout is not null)
        {
            status = InspectionStatus.Inspected;
            return true;
        }

        if (_candidates.Count > 0)
        {
            detail = $"{_candidates[0].Path} of process {_pid} is a C library of an unknown kind: {_candidates[0].File.Unsupported}";
        }
        else if (_unopened is { } unopened)
        {
            (status, detail) = (ToStatus(unopened.Failure.Status), unopened.Failure.Detail);
        }
        else
        {
            detail = $"process {_pid} maps neither glibc nor musl; a static program is read when it keeps its symbols";
        }

        return false;
    }
}
