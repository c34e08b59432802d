using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>A part of the file that the loader maps. What it has in memory beyond the file is zero at first: <c>.bss</c>.</summary>
internal readonly record struct ElfSegment(ulong FileOffset, ulong Address, ulong FileSize, ulong MemorySize, bool Executable, bool Writable)
{
    /// <summary>All of <c>address .. address + size</c> is in the first <paramref name="length"/> bytes.</summary>
    public bool Holds(ulong address, ulong size, ulong length) =>
        address >= Address && address - Address < length && size <= length - (address - Address);
}

/// <summary>The program headers: how the loader maps the file, and so where an address stands in it.</summary>
internal sealed class ElfSegments
{
    private readonly List<ElfSegment> _loads = [];
    private readonly List<(ulong Offset, ulong Size, ulong Alignment)> _notes = [];

    private ElfSegments()
    {
    }

    /// <summary>What the loader maps.</summary>
    public IReadOnlyList<ElfSegment> Loads => _loads;

    /// <summary>The dynamic segment.</summary>
    public ElfSegment? Dynamic { get; private set; }

    /// <summary>The file names an interpreter, as programs do that are linked dynamically.</summary>
    public bool HasInterpreter { get; private set; }

    public static bool TryRead(ElfReader reader, ReadOnlySpan<byte> header, [NotNullWhen(true)] out ElfSegments? segments, [NotNullWhen(false)] out ElfError? error)
    {
        segments = null;
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[32..]);
        ushort entrySize = BinaryPrimitives.ReadUInt16LittleEndian(header[54..]);
        ushort count = BinaryPrimitives.ReadUInt16LittleEndian(header[56..]);
        error = (count, entrySize) switch
        {
            (0, _) => new(ElfErrorKind.Malformed, 56, "the file has no program headers, so nothing of it can be mapped"),
            ( > MaxSegments, _) => new(ElfErrorKind.TooLarge, 56, $"the file has {count} program headers; Linux takes {MaxSegments} at most"),
            (_, not SegmentEntrySize) => new(ElfErrorKind.Malformed, 54, $"a program header has {entrySize} bytes instead of {SegmentEntrySize}"),
            _ => null,
        };
        if (error is not null)
        {
            return false;
        }

        var result = new ElfSegments();
        var table = new ElfTable(reader, offset, count, SegmentEntrySize, stackalloc byte[ElfTable.BufferSize], "the program header table");
        while (table.MoveNext())
        {
            error = result.Add(reader, table.Current, table.CurrentOffset);
            if (error is not null)
            {
                return false;
            }
        }

        error = table.Error;
        segments = result;
        return error is null;
    }

    /// <summary>The place in the file of <c>address .. address + size</c>, when one segment holds all of it.</summary>
    public ulong? ToFileOffset(ulong address, ulong size, bool executable)
    {
        foreach (ElfSegment load in _loads)
        {
            if ((load.Executable || !executable) && load.Holds(address, size, load.FileSize))
            {
                return load.FileOffset + (address - load.Address);
            }
        }

        return null;
    }

    /// <summary>All of <c>address .. address + size</c> is in one segment's memory, with or without bytes in the file.</summary>
    public bool HoldsInMemory(ulong address, ulong size)
    {
        foreach (ElfSegment load in _loads)
        {
            if (load.Holds(address, size, load.MemorySize))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>
    /// What a process adds to the file's addresses, by where it maps <paramref name="length"/> bytes of code from the file offset
    /// on. Null when that is no code of the file, or could be either of two segments.
    /// </summary>
    public ulong? LoadBias(ulong start, ulong length, ulong fileOffset)
    {
        ulong? bias = null;
        foreach (ElfSegment load in _loads)
        {
            bool apart = fileOffset >= load.FileOffset + load.FileSize || (load.FileOffset > fileOffset && load.FileOffset - fileOffset >= length);
            if (!load.Executable || load.FileSize == 0 || apart)
            {
                continue;
            }

            // Modulo 2^64: a program at a fixed address has bias 0, and a prelinked one may have less.
            ulong here = unchecked(start - (load.Address - load.FileOffset + fileOffset));
            if (bias is { } other && other != here)
            {
                return null;
            }

            bias = here;
        }

        return bias;
    }

    /// <summary>Where an address stands in the file, and how many bytes follow it there, when no process writes to it.</summary>
    public (ulong FileOffset, ulong Length)? ConstantsFrom(ulong address)
    {
        foreach (ElfSegment load in _loads)
        {
            if (!load.Writable && load.Holds(address, 1, load.FileSize))
            {
                return (load.FileOffset + (address - load.Address), load.FileSize - (address - load.Address));
            }
        }

        return null;
    }

    /// <summary>The end in the file of the segment that holds <paramref name="fileOffset"/>.</summary>
    public ulong EndOfSegment(ulong fileOffset)
    {
        foreach (ElfSegment load in _loads)
        {
            if (fileOffset >= load.FileOffset && fileOffset - load.FileOffset < load.FileSize)
            {
                return load.FileOffset + load.FileSize;
            }
        }

        return fileOffset;
    }

    /// <summary>The build id. Notes that make no sense end the search: nothing else depends on them.</summary>
    public string? ReadBuildId(ElfReader reader)
    {
        Span<byte> buffer = stackalloc byte[MaxNotes];
        foreach ((ulong offset, ulong size, ulong alignment) in _notes)
        {
            Span<byte> notes = buffer[..(int)Math.Min(size, (ulong)buffer.Length)];
            if (reader.Read(offset, notes, "a note segment") is null && FindBuildId(notes, alignment == 8 ? 8u : 4u) is { } id)
            {
                return id;
            }
        }

        return null;
    }

    private static string? FindBuildId(ReadOnlySpan<byte> notes, uint alignment)
    {
        while (notes.Length >= 12)
        {
            uint nameSize = BinaryPrimitives.ReadUInt32LittleEndian(notes);
            uint valueSize = BinaryPrimitives.ReadUInt32LittleEndian(notes[4..]);
            uint type = BinaryPrimitives.ReadUInt32LittleEndian(notes[8..]);
            ulong value = Align(12UL + nameSize, alignment);
            ulong end = value + valueSize;
            if (end > (ulong)notes.Length)
            {
                return null;
            }

            if (type == NoteBuildId && valueSize is > 0 and <= 64 && notes.Slice(12, (int)nameSize).SequenceEqual("GNU\0"u8))
            {
                return Convert.ToHexStringLower(notes.Slice((int)value, (int)valueSize));
            }

            notes = notes[(int)Math.Min(Align(end, alignment), (ulong)notes.Length)..];
        }

        return null;

        static ulong Align(ulong value, uint to) => (value + to - 1) & ~((ulong)to - 1);
    }

    private ElfError? Add(ElfReader reader, ReadOnlySpan<byte> entry, ulong at)
    {
        uint type = BinaryPrimitives.ReadUInt32LittleEndian(entry);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(entry[4..]);
        bool executable = (flags & FlagExecute) != 0;
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(entry[16..]);
        ulong fileSize = BinaryPrimitives.ReadUInt64LittleEndian(entry[32..]);
        ulong memorySize = Math.Max(fileSize, BinaryPrimitives.ReadUInt64LittleEndian(entry[40..]));
        switch (type)
        {
            case SegmentLoad:
                if (memorySize > ulong.MaxValue - address)
                {
                    return new(ElfErrorKind.Malformed, at, $"a segment at address 0x{address:x} ends beyond the address space");
                }

                if (executable && ((offset ^ address) & 0xfff) != 0)
                {
                    return new(ElfErrorKind.Malformed, at, $"an executable segment's offset 0x{offset:x} and address 0x{address:x} do not lie alike in a page, so it cannot be mapped");
                }

                if (memorySize > 0)
                {
                    _loads.Add(new(offset, address, fileSize, memorySize, executable, (flags & FlagWrite) != 0));
                }

                return fileSize > 0 ? reader.Check(offset, fileSize, "a segment that the loader maps") : null;
            case SegmentDynamic:
                Dynamic ??= new(offset, address, fileSize, fileSize, Executable: false, Writable: true);
                return null;
            case SegmentInterpreter:
                HasInterpreter = true;
                return null;
            case SegmentNote when _notes.Count < 16:
                _notes.Add((offset, fileSize, BinaryPrimitives.ReadUInt64LittleEndian(entry[48..])));
                return null;
            default:
                return null;
        }
    }
}
