using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>
/// An open file that processes map code of. The descriptor says which file it is: whatever happens to the path later, the
/// unwinder reads the file that was mapped.
/// </summary>
public sealed class CodeFile : IDisposable
{
    private static ulong s_lastId;

    private readonly Lazy<string?> _module;

    /// <summary>Takes the handle over.</summary>
    /// <param name="handle">The file, open for reading.</param>
    /// <param name="path">Where the process saw it, for people.</param>
    /// <param name="key">The file's content as of now: what a bad file is remembered by.</param>
    /// <param name="deleted">It was no longer at its path.</param>
    public CodeFile(SafeFileHandle handle, string path, FileKey key, bool deleted)
    {
        ArgumentNullException.ThrowIfNull(handle);
        ArgumentNullException.ThrowIfNull(path);
        Handle = handle;
        Path = path;
        Key = key;
        Deleted = deleted;
        _module = new(() => ServerModule.NameOf(Path, Handle));
    }

    /// <summary>The open file.</summary>
    public SafeFileHandle Handle { get; }

    /// <summary>Where the process saw it, for people.</summary>
    public string Path { get; }

    /// <summary>The file's content as of its opening.</summary>
    public FileKey Key { get; }

    /// <summary>It was no longer at its path.</summary>
    public bool Deleted { get; }

    /// <summary>It has no name any more: nobody can map it anew.</summary>
    public bool IsUnlinked => Native.TryStat(Handle, out Native.FileStatus status) && status.Links == 0;

    /// <summary>The server's own module that it is, or null. Any thread.</summary>
    public string? Module => _module.Value;

    /// <summary>Never given twice, unlike descriptors.</summary>
    internal ulong Id { get; } = Interlocked.Increment(ref s_lastId);

    /// <summary>Closes the file. An unwinder that may know it is told by <see cref="Unwinder.Forget(CodeFile)"/>.</summary>
    public void Dispose() => Handle.Dispose();
}
