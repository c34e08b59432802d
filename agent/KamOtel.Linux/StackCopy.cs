using System.Collections.Immutable;

namespace KamOtel.Linux;

/// <summary>A stretch of a stack, as it was copied.</summary>
/// <param name="Address">Where its first byte stood.</param>
/// <param name="Bytes">The bytes.</param>
/// <param name="Holes">
/// A bit for every <see cref="StackCopy.ChunkSize"/> bytes, lowest bit first: set, when these could not be read. Missing bits are
/// clear.
/// </param>
public readonly record struct StackWindow(ulong Address, ReadOnlyMemory<byte> Bytes, ReadOnlyMemory<byte> Holes);

/// <summary>The registers of a thread, and what was copied of its stack at the same moment.</summary>
public sealed class StackCopy
{
    /// <summary>How many registers, in DWARF's order: rax, rdx, rcx, rbx, rsi, rdi, rbp, rsp, r8 to r15, rip.</summary>
    public const int RegisterCount = UnwinderProtocol.RegisterCount;

    /// <summary>The most windows.</summary>
    public const int MaxWindows = UnwinderProtocol.MaxWindows;

    /// <summary>The most bytes of all windows together.</summary>
    public const int MaxBytes = UnwinderProtocol.MaxStack;

    /// <summary>How many bytes a bit of <see cref="StackWindow.Holes"/> stands for.</summary>
    public const int ChunkSize = UnwinderProtocol.ChunkSize;

    /// <summary>A copy. The memory of the windows stays the caller's, and must not change while it is unwound.</summary>
    /// <exception cref="ArgumentException">Not <see cref="RegisterCount"/> registers, or more than the limits allow.</exception>
    public StackCopy(ImmutableArray<ulong> registers, ImmutableArray<StackWindow> windows)
    {
        if (registers.Length != RegisterCount)
        {
            throw new ArgumentException($"there are {RegisterCount} registers, not {registers.Length}", nameof(registers));
        }

        if (windows.Length > MaxWindows || windows.Sum(static window => (long)window.Bytes.Length) > MaxBytes)
        {
            throw new ArgumentException($"there are at most {MaxWindows} windows of {MaxBytes} bytes together", nameof(windows));
        }

        Registers = registers;
        Windows = windows;
    }

    /// <summary>The registers in DWARF's order.</summary>
    public ImmutableArray<ulong> Registers { get; }

    /// <summary>The windows.</summary>
    public ImmutableArray<StackWindow> Windows { get; }
}
