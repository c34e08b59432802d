using System.Collections.Immutable;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>What became of a file that was offered for probing.</summary>
/// <param name="Path">The path it was found under first.</param>
/// <param name="Functions">The functions that carry probes; empty when the file has none of them.</param>
/// <param name="ProbedNs">Boot time since which all of them are attached, in nanoseconds; null when that failed.</param>
/// <param name="Error">Why it failed, or null.</param>
internal sealed record LibraryState(string Path, ImmutableArray<string> Functions, ulong? ProbedNs, string? Error)
{
    /// <summary>The file is (or contains) a libcrypto.</summary>
    public bool IsLibcrypto => !Functions.IsEmpty || Error is not null;
}

/// <summary>
/// The files that carry probes. A file is attached once, whatever the number of paths, containers and processes
/// that it is reached through. Watch loop only.
/// </summary>
internal sealed partial class Libraries(KernelSide kernel, ILogger logger) : IDisposable
{
    /// <summary>More files than any host maps; beyond it the files that are no libcrypto are looked at anew.</summary>
    private const int MaxRemembered = 16384;

    private static readonly string[] Names = [.. KernelSide.Functions];

    private static readonly LibraryState Nothing = new("", [], ProbedNs: null, Error: null);

    private readonly Dictionary<FileKey, LibraryState> _byKey = [];
    private readonly Dictionary<FileKey, LibraryState> _probedKeys = [];
    private readonly Dictionary<FileIdentity, LibraryState> _byIdentity = [];
    private readonly List<SafeHandle> _links = [];
    private string? _denied;

    /// <summary>Files that carry probes.</summary>
    public ImmutableArray<ProbedLibrary> Probed { get; private set; } = [];

    /// <summary>
    /// Why not one probe is attached although there is a libcrypto: a privilege is missing. Null when there is a probe, or
    /// nothing to probe.
    /// </summary>
    public string? Denied => Probed.IsEmpty ? _denied : null;

    /// <summary>Files that should carry probes and do not.</summary>
    public long Failures { get; private set; }

    /// <summary>Looks at a file and attaches to it when it has thread-local functions that are not probed yet.</summary>
    /// <param name="file">The file, opened for reading.</param>
    /// <param name="path">What it is called in logs and on the page.</param>
    public LibraryState Offer(SafeFileHandle file, string path)
    {
        if (!FileKey.Of(file).TryGet(out FileKey key, out ProcFailure failure))
        {
            return Failed(path, failure.Detail);
        }
        if (_byKey.TryGetValue(key, out LibraryState? known))
        {
            return known;
        }
        if (_byKey.Count >= MaxRemembered)
        {
            _byKey.Clear();
            foreach ((FileKey kept, LibraryState state) in _probedKeys)
            {
                _byKey[kept] = state;
            }
        }
        LibraryState found = Examine(file, path, key);
        _byKey[key] = found;
        if (found.IsLibcrypto)
        {
            _probedKeys[key] = found;
        }
        return found;
    }

    /// <summary>Opens and offers a file by its path.</summary>
    public LibraryState OfferPath(string path)
    {
        if (!RegularFile.Open(path).TryGet(out SafeFileHandle? file, out ProcFailure failure))
        {
            return failure.Status == ProcStatus.Denied ? FailedForPrivilege(path, failure.Detail) : Failed(path, failure.Detail);
        }
        using (file)
        {
            return Offer(file, path);
        }
    }

    /// <summary>A libcrypto is there and could not be opened. Somebody else says so.</summary>
    public LibraryState NotOpened(string path, ProcFailure failure)
    {
        _denied ??= failure.Status == ProcStatus.Denied ? failure.Detail : null;
        return new LibraryState(path, [], ProbedNs: null, failure.Detail);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        ProbeLinks.Detach([.. _links]);
        _links.Clear();
    }

    private LibraryState Examine(SafeFileHandle file, string path, FileKey key)
    {
        bool named = IsNamedLibcrypto(path);
        if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out ElfError? error)
            || !elf.FindFunctions(Names).TryGet(out ElfFunctions? functions, out error))
        {
            // Whatever else a server maps is its own affair; a libcrypto that cannot be read is ours.
            return named ? Failed(path, error.ToString()) : Nothing;
        }
        if (functions.Found.IsEmpty)
        {
            string reason = functions.Rejected.IsEmpty ? "none of the thread-local functions is among its symbols" : functions.Rejected[0].ToString();
            return named ? Failed(path, reason) : Nothing;
        }
        try
        {
            // A kernel that cannot tell what lies below an overlay takes the file at its word.
            FileIdentity identity = kernel.Identify(file) ?? new FileIdentity((key.DeviceMajor << 20) | key.DeviceMinor, key.Inode);
            if (_byIdentity.TryGetValue(identity, out LibraryState? probed))
            {
                return probed;
            }
            LibraryState attached = Attach(file, path, functions.Found);
            if (!attached.Functions.IsEmpty)
            {
                // The probes hold the inode: its number is not used again.
                _byIdentity[identity] = attached;
            }
            return attached;
        }
        catch (BpfException e)
        {
            return e.Denied ? FailedForPrivilege(path, e.Message) : Failed(path, e.Message);
        }
    }

    private LibraryState Attach(SafeFileHandle file, string path, ImmutableArray<ElfFunction> functions)
    {
        // The descriptor pins the very file whose symbols were read.
        string pinned = RegularFile.PathOf(file);
        var names = ImmutableArray.CreateBuilder<string>();
        string? refused = null;
        foreach (ElfFunction function in functions)
        {
            try
            {
                _links.Add(kernel.Attach(function.Name, pinned, function.FileOffset));
                names.Add(function.Name);
            }
            catch (BpfException e)
            {
                // One refused probe does not take the others with it, but the file is not covered.
                refused = e.Message;
                _denied ??= e.Denied ? $"{path}: {e.Message}" : null;
            }
        }
        ImmutableArray<string> attached = names.ToImmutable();
        if (!attached.IsEmpty)
        {
            Probed = Probed.Add(new ProbedLibrary(path, attached));
            ProbesAttached(logger, path, string.Join(", ", attached));
        }
        return refused is null
            ? new LibraryState(path, attached, BootClock.NowNs, Error: null)
            : Failed(path, refused) with { Functions = attached };
    }

    private LibraryState FailedForPrivilege(string path, string reason)
    {
        _denied ??= reason;
        return Failed(path, reason);
    }

    private LibraryState Failed(string path, string reason)
    {
        Failures++;
        NotProbed(logger, path, reason);
        return new LibraryState(path, [], ProbedNs: null, reason);
    }

    private static bool IsNamedLibcrypto(string path) =>
        Path.GetFileName(path).StartsWith("libcrypto", StringComparison.Ordinal);

    [LoggerMessage(Level = LogLevel.Information, Message = "probes attached to {Path}: {Functions}")]
    private static partial void ProbesAttached(ILogger logger, string path, string functions);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path} carries no probes: {Reason}")]
    private static partial void NotProbed(ILogger logger, string path, string reason);
}
