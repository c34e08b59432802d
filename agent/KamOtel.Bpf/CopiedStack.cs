namespace KamOtel.Bpf;

/// <summary>
/// The top of a thread's stack at a call, as the kernel side copied it: from the stack pointer on, and where that is not
/// all of it also the end where the stack began. In place: the bytes are the kernel's again when the call returns.
/// </summary>
public readonly ref struct CopiedStack
{
    /// <summary>Holes and windows are counted in chunks of so many bytes.</summary>
    public const int ChunkSize = 1024;

    /// <summary>The registers as DWARF numbers them; on x86-64: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip.</summary>
    public ReadOnlySpan<ulong> Registers { get; init; }

    /// <summary>Address of <see cref="Bytes"/>.</summary>
    public ulong Start { get; init; }

    /// <summary>The window from the stack pointer on.</summary>
    public ReadOnlySpan<byte> Bytes { get; init; }

    /// <summary>Address of <see cref="OuterBytes"/>.</summary>
    public ulong Outer { get; init; }

    /// <summary>The window up to where the stack began; empty when the first one goes as far.</summary>
    public ReadOnlySpan<byte> OuterBytes { get; init; }

    /// <summary>Bit n: chunk n, counted through both windows, could not be read; its bytes are zero.</summary>
    public ulong Holes { get; init; }
}
