using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>How far back a call chain goes.</summary>
public enum ChainEnd
{
    /// <summary>To the start of the thread.</summary>
    Complete,

    /// <summary>As far as the copy of the stack does.</summary>
    Truncated,

    /// <summary>To code that does not tell how to find its caller.</summary>
    NoUnwindInfo,

    /// <summary>To an address that no file is mapped at.</summary>
    UnknownCode,

    /// <summary>To code of a file that cannot be read.</summary>
    BadFile,

    /// <summary>As many frames as are kept.</summary>
    TooDeep,

    /// <summary>Nowhere: the stack could not be unwound at all.</summary>
    Failed,

    /// <summary>Nowhere: there is no copy of the stack.</summary>
    NotCopied,
}

/// <summary>One call in a chain.</summary>
/// <param name="File">The name of the file that the code is of, such as <c>libpq.so.5.15</c>.</param>
/// <param name="Module">The server's own module that the file is, without <c>.so</c>; null when it is none.</param>
/// <param name="IsProgram">The file is the server's executable.</param>
/// <param name="Function">The function, where the file has a symbol for it; else null.</param>
/// <param name="Offset">Bytes from the start of the function; without one, the address in the file.</param>
public readonly record struct CallFrame(string File, string? Module, bool IsProgram, string? Function, ulong Offset)
{
    /// <inheritdoc/>
    public override string ToString() => Function is null ? $"{File}+0x{Offset:x}" : $"{File} {Function}+0x{Offset:x}";
}

/// <summary>Who called whom when a thread-local call was made, the innermost first. What it has is right, however far it goes.</summary>
/// <param name="Frames">The frames; the first is the thread-local function itself.</param>
/// <param name="End">How far back it goes.</param>
/// <param name="Detail">Why it does not go further, in a clause for people; empty when it is complete.</param>
public sealed record CallChain(ImmutableArray<CallFrame> Frames, ChainEnd End, string Detail)
{
    /// <summary>The name of the author where no module is on the stack, but the server's program.</summary>
    public const string Core = "core";

    private static readonly string[] CLibrary = ["libc", "libpthread", "ld-musl-x86_64", "ld-musl-aarch64"];

    private string? _stacktrace;

    /// <summary>The frames, innermost first, one a line. One text for as long as the chain is.</summary>
    public string Stacktrace => _stacktrace ??= string.Join('\n', Frames);

    /// <summary>A chain of no frame.</summary>
    public static CallChain Unknown(ChainEnd end, string detail) => new([], end, detail);

    /// <summary>
    /// The innermost of the server's modules on the stack, or <see cref="Core"/>; null when the stack does not say. A chain
    /// that is cut before it shows a module says nothing: one may have come after.
    /// </summary>
    public string? Author => Modules.FirstOrDefault() ?? (IsAllCore ? Core : null);

    /// <summary>The outermost of the server's modules: on whose behalf it was done. Null when the stack does not say.</summary>
    public string? AskedBy => End != ChainEnd.Complete ? null : Modules.LastOrDefault() ?? (IsAllCore ? Core : null);

    /// <summary>
    /// Who asked, who did it, and the libraries between that and libcrypto, in the order of the calls: <c>htable</c>,
    /// <c>db_postgres</c>, <c>libpq</c>, <c>libssl</c>. Empty when there is no author.
    /// </summary>
    public ImmutableArray<string> Path
    {
        get
        {
            if (Author is not { } author)
            {
                return [];
            }
            // Libraries call the C library and are called back by it (once, at-exit): it did nothing of its own.
            int innermost = Frames.TakeWhile(f => author == Core ? !f.IsProgram : f.Module is null).Count();
            IEnumerable<string> libraries = Frames.Take(innermost).Reverse().TakeWhile(f => f.File != Frames[0].File).Select(static f => ShortName(f.File)).Where(static name => !CLibrary.Contains(name, StringComparer.Ordinal));
            IEnumerable<string> modules = author == Core ? [Core] : Modules.Reverse();
            return [.. Distinct(modules.Concat(libraries))];
        }
    }

    /// <summary>Why there is no author, in a clause for people.</summary>
    public string WhyUnknown =>
        Detail.Length > 0 ? Detail
        : Frames.FirstOrDefault(MayBeModule) is { File: { } file } ? $"{file} is no module that is known, and may be one"
        : "no code of the server is on the stack";

    private IEnumerable<string> Modules => Frames.Select(static f => f.Module).OfType<string>();

    private bool IsAllCore => End == ChainEnd.Complete && Frames.Any(static f => f.IsProgram) && !Frames.Any(MayBeModule);

    /// <summary>A file that is named as modules are, and not as libraries: the core must not be blamed for what it did.</summary>
    private static bool MayBeModule(CallFrame frame) =>
        frame is { Module: null, IsProgram: false } && frame.File.EndsWith(".so", StringComparison.Ordinal) && !frame.File.StartsWith("lib", StringComparison.Ordinal);

    /// <summary><c>libpq.so.5.15</c> is <c>libpq</c>.</summary>
    private static string ShortName(string file)
    {
        int at = file.IndexOf(".so", StringComparison.Ordinal);
        return at > 0 ? file[..at] : file;
    }

    /// <summary>Without the repetitions of a name that follows itself.</summary>
    private static IEnumerable<string> Distinct(IEnumerable<string> names)
    {
        string? before = null;
        foreach (string name in names)
        {
            if (name != before)
            {
                yield return name;
            }
            before = name;
        }
    }

    /// <inheritdoc/>
    public bool Equals(CallChain? other) => other is not null && End == other.End && Detail == other.Detail && Frames.SequenceEqual(other.Frames);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(End, Detail, Frames.Length, Frames.IsEmpty ? 0 : Frames[^1].GetHashCode(), Frames.Length < 2 ? 0 : Frames[1].GetHashCode());
}
