using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using Microsoft.Win32.SafeHandles;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>What an ELF file is for.</summary>
public enum ElfKind
{
    /// <summary>A program: position-independent, static or not.</summary>
    Executable,

    /// <summary>A shared library.</summary>
    SharedObject,
}

/// <summary>A function that an ELF file defines.</summary>
/// <param name="Name">Its symbol, without a version.</param>
/// <param name="Address">Its virtual address, before the loader relocates the file.</param>
/// <param name="FileOffset">Where its first instruction stands in the file, in bytes: what a uprobe is attached to.</param>
/// <param name="Size">Its length in bytes; 0 when the file does not tell.</param>
public readonly record struct ElfFunction(string Name, ulong Address, ulong FileOffset, ulong Size);

/// <summary>What a search for functions gave.</summary>
/// <param name="Found">One entry for every name and offset; aliases at one offset under one name appear once.</param>
/// <param name="Rejected">Symbols with a wanted name that cannot be the function they say they are.</param>
public sealed record ElfFunctions(ImmutableArray<ElfFunction> Found, ImmutableArray<ElfError> Rejected);

/// <summary>A data object that an ELF file defines.</summary>
/// <param name="Name">Its symbol, without a version.</param>
/// <param name="Address">Its virtual address, before the loader relocates the file.</param>
/// <param name="FileOffset">Where its first value stands in the file, in bytes; null when it has none there and begins as zeros.</param>
/// <param name="Size">Its length in bytes; 0 when the file does not tell.</param>
public readonly record struct ElfObject(string Name, ulong Address, ulong? FileOffset, ulong Size);

/// <summary>What a search for data objects gave.</summary>
/// <param name="Found">One entry for every name and address; aliases at one address under one name appear once.</param>
/// <param name="Rejected">Symbols with a wanted name that cannot be the object they say they are.</param>
public sealed record ElfObjects(ImmutableArray<ElfObject> Found, ImmutableArray<ElfError> Rejected);

/// <summary>
/// An ELF64 file, read piece by piece where it lies. Nothing that the file says is believed before it was checked:
/// a hostile or cut file gives an <see cref="ElfError"/>, costs bounded time and next to no memory.
/// </summary>
/// <remarks>The handle stays the caller's, and must be open while the file is in use.</remarks>
public sealed class ElfFile
{
    private readonly ElfReader _reader;
    private readonly ElfSegments _segments;
    private readonly ElfDynamic? _dynamic;
    private readonly SectionTable _sections;

    private ElfFile(ElfReader reader, ElfSegments segments, ElfDynamic? dynamic, SectionTable sections, ushort machine, ElfKind kind, string? buildId)
    {
        _reader = reader;
        _segments = segments;
        _dynamic = dynamic;
        _sections = sections;
        Machine = machine;
        Kind = kind;
        BuildId = buildId;
    }

    /// <summary>A program or a library.</summary>
    public ElfKind Kind { get; }

    /// <summary>The GNU build id in lower-case hexadecimal, or null when the file has none.</summary>
    public string? BuildId { get; }

    /// <summary>The processor that its code is for: <see cref="MachineX64"/> or <see cref="MachineArm64"/>.</summary>
    internal ushort Machine { get; }

    /// <summary>The loader maps it where the file says, and nowhere else.</summary>
    internal bool IsFixed { get; private init; }

    /// <summary>How the loader maps it.</summary>
    internal ElfSegments Segments => _segments;

    /// <summary>What the loader goes by; null for a file that is loaded without one.</summary>
    internal ElfDynamic? Dynamic => _dynamic;

    /// <summary>Bytes asked of the file so far.</summary>
    internal ulong BytesRead => _reader.BytesRead;

    /// <summary>Reads the headers. Only regular files make sense here: reading anything else may block.</summary>
    public static ElfResult<ElfFile> Open(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (!ElfReader.TryCreate(file, out ElfReader? reader, out ElfError? error))
        {
            return error;
        }

        Span<byte> header = stackalloc byte[HeaderSize];
        if (ReadHeader(reader, header) is { } unusable)
        {
            return unusable;
        }

        if (!ElfSegments.TryRead(reader, header, out ElfSegments? segments, out error))
        {
            return error;
        }

        ElfDynamic? dynamic = null;
        if (segments.Dynamic is { FileSize: > 0 } place && !ElfDynamic.TryRead(reader, place, out dynamic, out error))
        {
            return error;
        }

        // A position-independent program and a library have the same type; linkers older than the flag leave the interpreter as the sign.
        bool program = BinaryPrimitives.ReadUInt16LittleEndian(header[16..]) == TypeExecutable
            || dynamic is { Pie: true }
            || (segments.HasInterpreter && dynamic is not { HasSoname: true });
        var sections = new SectionTable(
            BinaryPrimitives.ReadUInt64LittleEndian(header[40..]),
            BinaryPrimitives.ReadUInt16LittleEndian(header[58..]),
            BinaryPrimitives.ReadUInt16LittleEndian(header[60..]));
        ushort machine = BinaryPrimitives.ReadUInt16LittleEndian(header[18..]);
        return new ElfFile(reader, segments, dynamic, sections, machine, program ? ElfKind.Executable : ElfKind.SharedObject, segments.ReadBuildId(reader))
        {
            IsFixed = BinaryPrimitives.ReadUInt16LittleEndian(header[16..]) == TypeExecutable,
        };
    }

    /// <summary>
    /// The functions with these names that the file defines (<c>STT_FUNC</c>, not the indirect ones), from
    /// <c>.dynsym</c> and <c>.symtab</c>; for a file without section headers, from its dynamic segment.
    /// </summary>
    /// <param name="names">Plain symbol names of 1 to 1024 characters.</param>
    /// <exception cref="ArgumentException">A name is empty or longer.</exception>
    public ElfResult<ElfFunctions> FindFunctions(ReadOnlySpan<string> names) =>
        Search(names, SymbolFunction).TryGet(out ElfSymbolSearch? search, out ElfError? error) ? search.Functions() : error;

    /// <summary>
    /// The data objects with these names that the file defines (<c>STT_OBJECT</c>, not thread-local ones), from the same tables.
    /// </summary>
    /// <param name="names">Plain symbol names of 1 to 1024 characters.</param>
    /// <exception cref="ArgumentException">A name is empty or longer.</exception>
    public ElfResult<ElfObjects> FindObjects(ReadOnlySpan<string> names) =>
        Search(names, SymbolObject).TryGet(out ElfSymbolSearch? search, out ElfError? error) ? search.Objects() : error;

    /// <summary>Fills <paramref name="buffer"/> with what the file has for a virtual address.</summary>
    internal ElfError? ReadAddress(ulong address, Span<byte> buffer, string what) =>
        _segments.ToFileOffset(address, (ulong)buffer.Length, executable: false) is { } offset
            ? _reader.Read(offset, buffer, what)
            : new(ElfErrorKind.Malformed, 0, $"{what} at address 0x{address:x} ({buffer.Length} bytes) is not in the file");

    /// <summary>The entries of a table at a virtual address. The caller bounds their number.</summary>
    internal ElfTable Table(ulong address, ulong count, int entrySize, Span<byte> buffer, string what, out ElfError? error)
    {
        ulong? offset = _segments.ToFileOffset(address, count * (ulong)entrySize, executable: false);
        error = offset is null ? new(ElfErrorKind.Malformed, 0, $"{what} at address 0x{address:x} ({count} of {entrySize} bytes) are not in the file") : null;
        return new ElfTable(_reader, offset ?? 0, offset is null ? 0 : count, entrySize, buffer, what);
    }

    private ElfResult<ElfSymbolSearch> Search(ReadOnlySpan<string> names, byte type)
    {
        foreach (string name in names)
        {
            if (name is not { Length: > 0 and <= MaxNameLength })
            {
                throw new ArgumentException($"a symbol's name has 1 to {MaxNameLength} characters, not {name?.Length ?? 0}", nameof(names));
            }
        }

        var search = new ElfSymbolSearch(_reader, _segments, names, type);
        if (!ElfSymbolTables.TryFromSections(_reader, _sections.Offset, _sections.EntrySize, _sections.Count, out ElfSymbolTables tables, out ElfError? error)
            && _dynamic is not { NamesSymbols: true })
        {
            return error;
        }

        if (tables.Dynamic is null && _dynamic is { NamesSymbols: true })
        {
            // What the loader goes by; section headers are for tools, and may be stripped or cut off.
            if (!_dynamic.TryFindSymbols(_reader, _segments, out ElfSymbolTable table, out error))
            {
                return error;
            }

            tables = tables with { Dynamic = table };
        }

        foreach (ElfSymbolTable? table in (ReadOnlySpan<ElfSymbolTable?>)[tables.Dynamic, tables.Full])
        {
            if (table is { } symbols && search.Search(symbols) is { } failure)
            {
                return failure;
            }
        }

        return search;
    }

    private static ElfError? ReadHeader(ElfReader reader, Span<byte> header)
    {
        int length = (int)Math.Min((ulong)header.Length, reader.Length);
        if (reader.Read(0, header[..length], "the ELF header") is { } error)
        {
            return error;
        }

        if (length < 4 || !header[..4].SequenceEqual("\u007fELF"u8))
        {
            return new(ElfErrorKind.NotElf, 0, "the file does not begin as an ELF file does");
        }

        if (length < header.Length)
        {
            return new(ElfErrorKind.Truncated, 0, $"the file ends at {length} bytes, inside the ELF header");
        }

        ushort type = BinaryPrimitives.ReadUInt16LittleEndian(header[16..]);
        ushort machine = BinaryPrimitives.ReadUInt16LittleEndian(header[18..]);
        return header switch
        {
            [_, _, _, _, 1, ..] => new(ElfErrorKind.UnsupportedClass, 4, "the file is a 32-bit one; only 64-bit files are supported"),
            [_, _, _, _, not 2, ..] => new(ElfErrorKind.UnsupportedClass, 4, $"the file's class is {header[4]}, which is neither 32 nor 64 bits"),
            [_, _, _, _, _, 2, ..] => new(ElfErrorKind.UnsupportedByteOrder, 5, "the file is big-endian; only little-endian files are supported"),
            [_, _, _, _, _, not 1, ..] => new(ElfErrorKind.UnsupportedByteOrder, 5, $"the file's byte order is {header[5]}, which is neither little nor big"),
            [_, _, _, _, _, _, not 1, ..] => new(ElfErrorKind.Malformed, 6, $"the format's version is {header[6]}, and there is only version 1"),
            _ when machine is not (MachineX64 or MachineArm64) =>
                new(ElfErrorKind.UnsupportedMachine, 18, $"the file is for machine {machine}; only x86-64 ({MachineX64}) and aarch64 ({MachineArm64}) are supported"),
            _ when type is not (TypeExecutable or TypeShared) =>
                new(ElfErrorKind.UnsupportedType, 16, $"the file's type is {type}, which is neither an executable nor a shared object"),
            _ => null,
        };
    }

    private readonly record struct SectionTable(ulong Offset, ushort EntrySize, ushort Count);
}
