using System.Collections.Immutable;
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

    private static readonly LibraryState Nothing = new("", [], ProbedNs: null, Error: null);

    private readonly Dictionary<FileKey, LibraryState> _byKey = [];
    private readonly Dictionary<FileIdentity, LibraryState> _byIdentity = [];
    private readonly List<BpfLink> _links = [];

    /// <summary>Files that carry probes.</summary>
    public ImmutableArray<ProbedLibrary> Probed { get; private set; } = [];

    /// <summary>Files that should carry probes and do not.</summary>
    public long Failures { get; private set; }

    /// <summary>Looks at a file and attaches to it when it has thread-local functions that are not probed yet.</summary>
    /// <param name="file">The file, opened for reading.</param>
    /// <param name="path">What it is called in logs and on the page.</param>
    public LibraryState Offer(SafeFileHandle file, string path)
    {
        ProcOutcome<FileKey> key = SafeFile.KeyOf(file);
        if (!key.IsOk)
        {
            return Failed(path, key.Detail ?? "it cannot be examined");
        }
        if (_byKey.TryGetValue(key.Value, out LibraryState? known))
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
        LibraryState found = Examine(file, path);
        _byKey[key.Value] = found;
        if (found.IsLibcrypto)
        {
            _probedKeys[key.Value] = found;
        }
        return found;
    }

    /// <summary>Opens and offers a file by its path.</summary>
    public LibraryState OfferPath(string path)
    {
        ProcOutcome<SafeFileHandle> opened = SafeFile.Open(path);
        if (!opened.IsOk)
        {
            return Failed(path, opened.Detail ?? opened.Status.ToString());
        }
        using SafeFileHandle file = opened.Value!;
        return Offer(file, path);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (BpfLink link in _links)
        {
            link.Dispose();
        }
        _links.Clear();
    }

    private readonly Dictionary<FileKey, LibraryState> _probedKeys = [];

    private LibraryState Examine(SafeFileHandle file, string path)
    {
        bool named = IsNamedLibcrypto(path);
        if (ElfFile.Open(file, out ElfError? error) is not { } elf)
        {
            // Whatever else a server maps is its own affair; a libcrypto that cannot be read is ours.
            return named ? Failed(path, error!.Message) : Nothing;
        }
        ImmutableArray<ElfFunction> functions = elf.FindFunctions(KernelSide.Functions, out error);
        if (error is not null && named)
        {
            return Failed(path, error.Message);
        }
        if (functions.IsEmpty)
        {
            return named ? Failed(path, "none of the thread-local functions is among its symbols") : Nothing;
        }
        try
        {
            FileIdentity? identity = kernel.Identify(file);
            if (identity is { } twin && _byIdentity.TryGetValue(twin, out LibraryState? probed))
            {
                return probed;
            }
            LibraryState attached = Attach(file, path, functions);
            if (identity is { } own)
            {
                _byIdentity[own] = attached;
            }
            return attached;
        }
        catch (BpfException e)
        {
            return Failed(path, e.Message);
        }
    }

    private LibraryState Attach(SafeFileHandle file, string path, ImmutableArray<ElfFunction> functions)
    {
        // The descriptor pins the very file whose symbols were read.
        string pinned = $"/proc/self/fd/{file.DangerousGetHandle()}";
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
            }
        }
        ImmutableArray<string> attached = names.ToImmutable();
        if (!attached.IsEmpty)
        {
            Probed = Probed.Add(new ProbedLibrary(path, attached));
            ProbesAttached(logger, path, string.Join(", ", attached));
        }
        return refused is null
            ? new LibraryState(path, attached, BootClock.NowNs(), Error: null)
            : Failed(path, refused) with { Functions = attached };
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
