using System.Diagnostics.CodeAnalysis;

namespace KamOtel.Linux;

/// <summary>Why an ELF file could not be read.</summary>
public enum ElfErrorKind
{
    /// <summary>Not an ELF file at all.</summary>
    NotElf,

    /// <summary>An ELF file of another class than ELF64.</summary>
    UnsupportedClass,

    /// <summary>A big-endian file.</summary>
    UnsupportedByteOrder,

    /// <summary>Code for a machine other than x86-64 and aarch64.</summary>
    UnsupportedMachine,

    /// <summary>Neither an executable nor a shared object: an object file, a core.</summary>
    UnsupportedType,

    /// <summary>The file ends before something that its own headers promise.</summary>
    Truncated,

    /// <summary>The file contradicts itself or the format.</summary>
    Malformed,

    /// <summary>Something is larger than any honest file has it, and is not read.</summary>
    TooLarge,

    /// <summary>The operating system would not give the bytes.</summary>
    Unreadable,
}

/// <summary>What is wrong with an ELF file.</summary>
/// <param name="Kind">The kind of trouble.</param>
/// <param name="Offset">Where in the file, in bytes.</param>
/// <param name="Message">A sentence for people, without the file's name and without a full stop.</param>
public sealed record ElfError(ElfErrorKind Kind, ulong Offset, string Message)
{
    /// <summary>The sentence with its place in the file.</summary>
    public override string ToString() => $"{Message} (at offset 0x{Offset:x})";
}

/// <summary>A value, or what is wrong with the file that should have given it.</summary>
/// <typeparam name="T">What a readable file gives.</typeparam>
public readonly struct ElfResult<T>
    where T : notnull
{
    private readonly T? _value;

    private ElfResult(T? value, ElfError? error) => (_value, Error) = (value, error);

    /// <summary>What is wrong, or null when there is a value.</summary>
    public ElfError? Error { get; }

    /// <summary>The value.</summary>
    /// <exception cref="InvalidOperationException">There is an <see cref="Error"/> instead.</exception>
    public T Value => TryGet(out T? value, out ElfError? error) ? value : throw new InvalidOperationException(error.ToString());

    /// <summary>Either the value or the error.</summary>
    public bool TryGet([NotNullWhen(true)] out T? value, [NotNullWhen(false)] out ElfError? error)
    {
        value = _value;
        error = Error;
        return error is null;
    }

    /// <summary>A result with a value.</summary>
    public static implicit operator ElfResult<T>(T value) => new(value, error: null);

    /// <summary>A result without one.</summary>
    public static implicit operator ElfResult<T>(ElfError error) => new(default, error);
}
