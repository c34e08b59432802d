using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>Where symbols and their names stand in the file.</summary>
internal readonly record struct ElfSymbolTable(ulong Symbols, ulong Count, ulong Strings, ulong StringsSize, string What)
{
    /// <summary>An error when the table is larger than we read, or not inside the file.</summary>
    public ElfError? Check(ElfReader reader)
    {
        if (Count > MaxSymbols)
        {
            return new(ElfErrorKind.TooLarge, Symbols, $"{What} has {Count} symbols; at most {MaxSymbols} are read");
        }

        if (StringsSize > MaxStrings)
        {
            return new(ElfErrorKind.TooLarge, Strings, $"the names of {What} take {StringsSize} bytes; at most {MaxStrings} are read");
        }

        return reader.Check(Symbols, Count * SymbolEntrySize, What) ?? reader.Check(Strings, StringsSize, $"the names of {What}");
    }
}

/// <summary>The symbol tables that the section headers name: the dynamic one and the full one.</summary>
internal readonly record struct ElfSymbolTables(ElfSymbolTable? Dynamic, ElfSymbolTable? Full)
{
    /// <summary>Without section headers there are none, and that is no error.</summary>
    public static bool TryFromSections(ElfReader reader, ulong offset, ushort entrySize, ushort headerCount, out ElfSymbolTables tables, [NotNullWhen(false)] out ElfError? error)
    {
        tables = default;
        error = null;
        if (offset == 0)
        {
            return true;
        }

        if (entrySize != SectionEntrySize)
        {
            error = new(ElfErrorKind.Malformed, 58, $"a section header has {entrySize} bytes instead of {SectionEntrySize}");
            return false;
        }

        Span<byte> linked = stackalloc byte[SectionEntrySize];
        ulong count = headerCount;
        if (count == 0)
        {
            // More sections than the header can count: the first section's size tells.
            error = reader.Read(offset, linked, "the section header table");
            count = BinaryPrimitives.ReadUInt64LittleEndian(linked[32..]);
        }

        if (count > MaxSections)
        {
            error ??= new(ElfErrorKind.TooLarge, offset, $"the file has {count} sections; at most {MaxSections} are read");
        }

        if (error is not null)
        {
            return false;
        }

        ElfSymbolTables found = default;
        var sections = new ElfTable(reader, offset, count, SectionEntrySize, stackalloc byte[ElfTable.BufferSize], "the section header table");
        while (error is null && sections.MoveNext())
        {
            ReadOnlySpan<byte> section = sections.Current;
            switch (BinaryPrimitives.ReadUInt32LittleEndian(section[4..]))
            {
                case SectionDynamicSymbols when found.Dynamic is null:
                    error = Describe(reader, offset, count, section, sections.CurrentOffset, "the dynamic symbol table", linked, out ElfSymbolTable dynamic);
                    found = found with { Dynamic = dynamic };
                    break;
                case SectionSymbols when found.Full is null:
                    error = Describe(reader, offset, count, section, sections.CurrentOffset, "the symbol table", linked, out ElfSymbolTable full);
                    found = found with { Full = full };
                    break;
            }
        }

        error ??= sections.Error;
        tables = error is null ? found : default;
        return error is null;
    }

    private static ElfError? Describe(
        ElfReader reader, ulong sections, ulong count, ReadOnlySpan<byte> section, ulong at, string what, Span<byte> linked, out ElfSymbolTable table)
    {
        table = default;
        uint link = BinaryPrimitives.ReadUInt32LittleEndian(section[40..]);
        ulong entrySize = BinaryPrimitives.ReadUInt64LittleEndian(section[56..]);
        if (entrySize != SymbolEntrySize)
        {
            return new(ElfErrorKind.Malformed, at, $"{what} has entries of {entrySize} bytes instead of {SymbolEntrySize}");
        }

        if (link >= count)
        {
            return new(ElfErrorKind.Malformed, at, $"the names of {what} are in section {link}, and there are only {count}");
        }

        if (reader.Read(sections + (link * (ulong)SectionEntrySize), linked, "the section header table") is { } error)
        {
            return error;
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(linked[4..]) != SectionStrings)
        {
            return new(ElfErrorKind.Malformed, at, $"the names of {what} are in section {link}, which is no string table");
        }

        table = new(
            BinaryPrimitives.ReadUInt64LittleEndian(section[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(section[32..]) / SymbolEntrySize,
            BinaryPrimitives.ReadUInt64LittleEndian(linked[24..]),
            BinaryPrimitives.ReadUInt64LittleEndian(linked[32..]),
            what);
        return table.Check(reader);
    }
}

/// <summary>
/// Looks for functions or data objects by name: first where the wanted names stand in the string table (also as the end of a longer
/// one: linkers merge tails), then which symbols point there. Two straight passes, whatever the file's size.
/// </summary>
internal sealed class ElfSymbolSearch
{
    private readonly ElfReader _reader;
    private readonly ElfSegments _segments;
    private readonly string[] _names;
    private readonly byte[][] _patterns;
    private readonly int _longest;
    private readonly byte _type;
    private readonly List<ElfFunction> _functions = [];
    private readonly List<ElfObject> _objects = [];
    private readonly HashSet<(int Name, ulong Place)> _distinct = [];
    private readonly List<ElfError> _rejected = [];

    public ElfSymbolSearch(ElfReader reader, ElfSegments segments, ReadOnlySpan<string> names, byte type)
    {
        _reader = reader;
        _segments = segments;
        _type = type;
        _names = names.ToArray();
        _patterns = Array.ConvertAll(_names, static name => Encoding.UTF8.GetBytes(name + '\0'));
        foreach (byte[] pattern in _patterns)
        {
            _longest = Math.Max(_longest, pattern.Length);
        }
    }

    public ElfFunctions Functions() => new([.. _functions], [.. _rejected]);

    public ElfObjects Objects() => new([.. _objects], [.. _rejected]);

    /// <summary>Adds one table's symbols.</summary>
    public ElfError? Search(in ElfSymbolTable table)
    {
        var places = new SortedList<uint, int>();
        if (FindNames(table, places) is { } error)
        {
            return error;
        }

        if (places.Count == 0)
        {
            return null;
        }

        int matches = 0;
        IList<uint> wanted = places.Keys;
        (uint first, uint last) = (wanted[0], wanted[^1]);
        var symbols = new ElfTable(_reader, table.Symbols, table.Count, SymbolEntrySize, stackalloc byte[ElfTable.BufferSize], table.What);
        while (symbols.MoveNext())
        {
            uint place = BinaryPrimitives.ReadUInt32LittleEndian(symbols.Current);
            if (place < first || place > last || !places.TryGetValue(place, out int name))
            {
                continue;
            }

            if (++matches > MaxMatches)
            {
                return new(ElfErrorKind.TooLarge, symbols.CurrentOffset, $"more than {MaxMatches} symbols of {table.What} have the names that are looked for");
            }

            Add(name, symbols.Current, symbols.CurrentOffset);
        }

        return symbols.Error;
    }

    private void Add(int name, ReadOnlySpan<byte> symbol, ulong at)
    {
        ushort section = BinaryPrimitives.ReadUInt16LittleEndian(symbol[6..]);
        if ((symbol[4] & 0xf) != _type || section == SectionUndefined || section is >= SectionReservedFirst and not SectionExtended)
        {
            return;
        }

        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(symbol[8..]);
        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(symbol[16..]);
        if (_type == SymbolObject)
        {
            AddObject(name, address, size, at);
        }
        else if (_segments.ToFileOffset(address, Math.Max(size, 1), executable: true) is not { } offset)
        {
            _rejected.Add(new(ElfErrorKind.Malformed, at, $"the function {_names[name]} at address 0x{address:x} ({size} bytes) lies outside every executable segment"));
        }
        else if (_distinct.Add((name, offset)))
        {
            _functions.Add(new(_names[name], address, offset, size));
        }
    }

    private void AddObject(int name, ulong address, ulong size, ulong at)
    {
        if (!_segments.HoldsInMemory(address, Math.Max(size, 1)))
        {
            _rejected.Add(new(ElfErrorKind.Malformed, at, $"the object {_names[name]} at address 0x{address:x} ({size} bytes) lies outside every segment"));
        }
        else if (_distinct.Add((name, address)))
        {
            _objects.Add(new(_names[name], address, _segments.ToFileOffset(address, Math.Max(size, 1), executable: false), size));
        }
    }

    private ElfError? FindNames(in ElfSymbolTable table, SortedList<uint, int> places)
    {
        Span<byte> buffer = stackalloc byte[ElfTable.BufferSize];
        int kept = 0;
        for (ulong at = 0; at < table.StringsSize;)
        {
            Span<byte> fresh = buffer[kept..];
            fresh = fresh[..(int)Math.Min((ulong)fresh.Length, table.StringsSize - at)];
            if (_reader.Read(table.Strings + at, fresh, $"the names of {table.What}") is { } error)
            {
                return error;
            }

            ReadOnlySpan<byte> text = buffer[..(kept + fresh.Length)];
            for (int name = 0; name < _patterns.Length; name++)
            {
                // What was kept of the last stretch is shorter than the longest name, but may hold all of a shorter one: found again, at the same place.
                for (int from = 0, hit; (hit = text[from..].IndexOf(_patterns[name])) >= 0; from += hit + 1)
                {
                    places[(uint)(at - (ulong)kept + (ulong)(from + hit))] = name;
                    if (places.Count > MaxMatches)
                    {
                        return new(ElfErrorKind.TooLarge, table.Strings, $"the names that are looked for stand more than {MaxMatches} times among those of {table.What}");
                    }
                }
            }

            at += (ulong)fresh.Length;
            kept = Math.Min(_longest - 1, text.Length);
            text[^kept..].CopyTo(buffer);
        }

        return null;
    }
}
