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
internal sealed record LibraryState(string Path, ImmutableArray<ProbedFunction> Functions, ulong? ProbedNs, string? Error)
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
    private readonly Dictionary<FileIdentity, Attachment> _byIdentity = [];
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
        ProbeLinks.Detach([.. _byIdentity.Values.SelectMany(static a => a.Links)]);
        _byIdentity.Clear();
    }

    /// <summary>
    /// No watched process maps the file any more. One that was deleted loses its probes: nobody will map it again, and they
    /// would hold it, and descriptors, for as long as the agent lives.
    /// </summary>
    public void Release(CodeFile file)
    {
        if (!file.IsUnlinked || !_byIdentity.Remove(IdentityOf(file.Handle, file.Key), out Attachment? attached))
        {
            return;
        }
        ProbeLinks.Detach([.. attached.Links]);
        Probed = Probed.Remove(attached.Library);
        foreach (Dictionary<FileKey, LibraryState> known in new[] { _byKey, _probedKeys })
        {
            foreach (FileKey key in known.Where(k => ReferenceEquals(k.Value, attached.State)).Select(static k => k.Key).ToArray())
            {
                _ = known.Remove(key);
            }
        }
        ProbesReleased(logger, file.Path);
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
            FileIdentity identity = IdentityOf(file, key);
            return _byIdentity.TryGetValue(identity, out Attachment? probed) ? probed.State : Attach(file, elf, path, identity, functions.Found);
        }
        catch (BpfException e)
        {
            return e.Denied ? FailedForPrivilege(path, e.Message) : Failed(path, e.Message);
        }
    }

    /// <summary>A kernel that cannot tell what lies below an overlay takes the file at its word.</summary>
    private FileIdentity IdentityOf(SafeFileHandle file, FileKey key) =>
        kernel.Identify(file) ?? new FileIdentity((key.DeviceMajor << 20) | key.DeviceMinor, key.Inode);

    private LibraryState Attach(SafeFileHandle file, ElfFile elf, string path, FileIdentity identity, ImmutableArray<ElfFunction> functions)
    {
        // The descriptor pins the very file whose symbols were read.
        string pinned = RegularFile.PathOf(file);
        var probed = ImmutableArray.CreateBuilder<ProbedFunction>();
        var links = new List<SafeHandle>();
        string? refused = null;
        foreach (ElfFunction function in functions)
        {
            try
            {
                string name = function.Name;
                links.Add(ProbeSites.Attach(function, ProbeSites.Of(elf, function), (offset, keyLoaded) => kernel.Attach(name, pinned, offset, keyLoaded), out ProbedFunction placed));
                probed.Add(placed);
            }
            catch (BpfException e)
            {
                // One refused probe does not take the others with it, but the file is not covered.
                refused = e.Message;
                _denied ??= e.Denied ? $"{path}: {e.Message}" : null;
            }
        }
        ImmutableArray<ProbedFunction> attached = probed.ToImmutable();
        LibraryState state = refused is null
            ? new LibraryState(path, attached, BootClock.NowNs, Error: null)
            : Failed(path, refused) with { Functions = attached };
        if (!attached.IsEmpty)
        {
            var library = new ProbedLibrary(path, attached);
            Probed = Probed.Add(library);
            // The probes hold the inode: its number is not used again.
            _byIdentity[identity] = new Attachment(state, library, links);
            ProbesAttached(logger, path, string.Join(", ", attached.Select(ProbeSites.Describe)));
        }
        return state;
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

    /// <summary>A file's probes.</summary>
    private sealed record Attachment(LibraryState State, ProbedLibrary Library, IReadOnlyList<SafeHandle> Links);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Path} was deleted and nobody maps it any more: its probes are taken away")]
    private static partial void ProbesReleased(ILogger logger, string path);

    [LoggerMessage(Level = LogLevel.Information, Message = "probes attached to {Path}: {Functions}")]
    private static partial void ProbesAttached(ILogger logger, string path, string functions);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path} carries no probes: {Reason}")]
    private static partial void NotProbed(ILogger logger, string path, string reason);
}
