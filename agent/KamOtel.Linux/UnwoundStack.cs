using System.Collections.Immutable;

namespace KamOtel.Linux;

/// <summary>Why a stack has no further frame.</summary>
public enum UnwindEnd
{
    /// <summary>There was no answer; <see cref="UnwoundStack.Detail"/> tells why.</summary>
    Failed,

    /// <summary>The outermost frame is the last one of the thread: its unwind information says so.</summary>
    Complete,

    /// <summary>The next frame needs memory that was not copied.</summary>
    Truncated,

    /// <summary>The last frame's code is out of a known file, and nothing there tells how to go on.</summary>
    NoUnwindInfo,

    /// <summary>The last frame's code is in no mapping of a file: generated code, the vDSO, or no code at all.</summary>
    UnknownCode,

    /// <summary>The last frame's file, or its unwind information, cannot be used.</summary>
    BadFile,

    /// <summary>More frames than are told.</summary>
    TooDeep,
}

/// <summary>A frame.</summary>
/// <param name="Mapping">Where its code is mapped; null when nobody knows, which only the last frame may be.</param>
/// <param name="Address">Where it executes; for a caller the address behind its call.</param>
/// <param name="FileAddress">The same as the file counts it, before the loader relocates; 0 when the file could not be used.</param>
/// <param name="Function">The function by the file's symbols, fit to be shown; null when none with a size covers the code.</param>
/// <param name="Offset">Bytes from the function's start; 0 without a function.</param>
public sealed record UnwoundFrame(CodeMapping? Mapping, ulong Address, ulong FileAddress, string? Function, ulong Offset);

/// <summary>A stack, as far as it is known for certain.</summary>
public sealed class UnwoundStack
{
    internal UnwoundStack(ImmutableArray<UnwoundFrame> frames, UnwindEnd end, string detail)
    {
        Frames = frames;
        End = end;
        Detail = detail;
    }

    /// <summary>Innermost first. Right for every <see cref="End"/>.</summary>
    public ImmutableArray<UnwoundFrame> Frames { get; }

    /// <summary>Why there are no more.</summary>
    public UnwindEnd End { get; }

    /// <summary>A sentence for people; empty when there is nothing to add.</summary>
    public string Detail { get; }
}
