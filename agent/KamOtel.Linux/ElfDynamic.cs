using System.Buffers.Binary;
using System.Diagnostics.CodeAnalysis;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>The dynamic segment: what the loader itself goes by. Addresses, not offsets.</summary>
internal sealed class ElfDynamic
{
    private readonly ulong _offset;
    private ulong _symbols;
    private ulong _strings;
    private ulong _stringsSize;
    private ulong _hash;
    private ulong _gnuHash;
    private ulong _relocations;
    private ulong _relocationsSize;

    private ElfDynamic(ulong offset) => _offset = offset;

    /// <summary>The linker marked the file as a position-independent program.</summary>
    public bool Pie { get; private set; }

    /// <summary>The file has a library's name.</summary>
    public bool HasSoname { get; private set; }

    /// <summary>It tells where symbols and their names are, as all do but those of some static programs.</summary>
    public bool NamesSymbols => _symbols != 0 && _strings != 0;

    /// <summary>Address and size in bytes of the relocations with addends that the loader makes at once.</summary>
    public (ulong Address, ulong Size) Relocations => (_relocations, _relocationsSize);

    /// <summary>Where a symbol's entry is, by its number.</summary>
    public ulong AddressOfSymbol(uint number) => unchecked(_symbols + (number * (ulong)SymbolEntrySize));

    public static bool TryRead(ElfReader reader, ElfSegment place, [NotNullWhen(true)] out ElfDynamic? dynamic, [NotNullWhen(false)] out ElfError? error)
    {
        dynamic = null;
        ulong count = place.FileSize / DynamicEntrySize;
        if (count > MaxDynamicEntries)
        {
            error = new(ElfErrorKind.TooLarge, place.FileOffset, $"the dynamic segment has {count} entries; at most {MaxDynamicEntries} are read");
            return false;
        }

        var result = new ElfDynamic(place.FileOffset);
        var table = new ElfTable(reader, place.FileOffset, count, DynamicEntrySize, stackalloc byte[ElfTable.BufferSize], "the dynamic segment");
        while (table.MoveNext() && result.Add(table.Current))
        {
        }

        error = table.Error;
        dynamic = result;
        return error is null;
    }

    /// <summary>The symbol table. Its length stands nowhere; the hash table that the loader searches tells it.</summary>
    public bool TryFindSymbols(ElfReader reader, ElfSegments segments, out ElfSymbolTable table, [NotNullWhen(false)] out ElfError? error)
    {
        table = default;
        error = null;
        if (segments.ToFileOffset(_symbols, SymbolEntrySize, executable: false) is not { } symbols)
        {
            error = new(ElfErrorKind.Malformed, _offset, $"the dynamic symbol table at address 0x{_symbols:x} lies outside every segment");
            return false;
        }

        if (segments.ToFileOffset(_strings, _stringsSize, executable: false) is not { } strings)
        {
            error = new(ElfErrorKind.Malformed, _offset, $"the dynamic string table at address 0x{_strings:x} ({_stringsSize} bytes) lies outside every segment");
            return false;
        }

        ulong count;
        if (_gnuHash != 0)
        {
            error = CountByGnuHash(reader, segments, out count);
        }
        else
        {
            error = CountByHash(reader, segments, out count);
        }

        if (error is not null)
        {
            return false;
        }

        if (count > (segments.EndOfSegment(symbols) - symbols) / SymbolEntrySize)
        {
            error = new(ElfErrorKind.Malformed, symbols, $"the dynamic symbol table with its {count} symbols leaves its segment");
            return false;
        }

        table = new(symbols, count, strings, _stringsSize, "the dynamic symbol table");
        error = table.Check(reader);
        return error is null;
    }

    private bool Add(ReadOnlySpan<byte> entry)
    {
        ulong value = BinaryPrimitives.ReadUInt64LittleEndian(entry[8..]);
        switch (BinaryPrimitives.ReadUInt64LittleEndian(entry))
        {
            case 0: return false;
            case DynamicHash: _hash = value; break;
            case DynamicStrings: _strings = value; break;
            case DynamicSymbols: _symbols = value; break;
            case DynamicRelocations: _relocations = value; break;
            case DynamicRelocationsSize: _relocationsSize = value; break;
            case DynamicStringsSize: _stringsSize = value; break;
            case DynamicSoname: HasSoname = true; break;
            case DynamicGnuHash: _gnuHash = value; break;
            case DynamicFlags1: Pie = (value & Flag1Pie) != 0; break;
        }

        return true;
    }

    private ElfError? CountByHash(ElfReader reader, ElfSegments segments, out ulong count)
    {
        count = 0;
        if (segments.ToFileOffset(_hash, 8, executable: false) is not { } offset)
        {
            return new(ElfErrorKind.Malformed, _offset, "the file has neither section headers nor a hash table that tell how many dynamic symbols there are");
        }

        Span<byte> head = stackalloc byte[8];
        ElfError? error = reader.Read(offset, head, "the hash table");
        count = BinaryPrimitives.ReadUInt32LittleEndian(head[4..]);
        return error;
    }

    /// <summary>The symbols are sorted by bucket, and each bucket's chain ends with a set low bit: the last one ends the table.</summary>
    private ElfError? CountByGnuHash(ElfReader reader, ElfSegments segments, out ulong count)
    {
        const string What = "the GNU hash table";
        count = 0;
        if (segments.ToFileOffset(_gnuHash, 16, executable: false) is not { } offset)
        {
            return new(ElfErrorKind.Malformed, _offset, $"{What} at address 0x{_gnuHash:x} lies outside every segment");
        }

        Span<byte> head = stackalloc byte[16];
        if (reader.Read(offset, head, What) is { } error)
        {
            return error;
        }

        ulong bucketCount = BinaryPrimitives.ReadUInt32LittleEndian(head);
        ulong firstHashed = BinaryPrimitives.ReadUInt32LittleEndian(head[4..]);
        ulong buckets = offset + 16 + (8UL * BinaryPrimitives.ReadUInt32LittleEndian(head[8..]));
        if (bucketCount > MaxSymbols)
        {
            return new(ElfErrorKind.TooLarge, offset, $"{What} has {bucketCount} buckets; at most {MaxSymbols} are read");
        }

        Span<byte> buffer = stackalloc byte[ElfTable.BufferSize];
        ulong last = 0;
        var bucket = new ElfTable(reader, buckets, bucketCount, sizeof(uint), buffer, What);
        while (bucket.MoveNext())
        {
            last = Math.Max(last, BinaryPrimitives.ReadUInt32LittleEndian(bucket.Current));
        }

        if (bucket.Error is not null || last < firstHashed)
        {
            count = firstHashed;
            return bucket.Error;
        }

        // A chain without an end stops at the limit, or where the file ends.
        ulong limit = MaxSymbols > last ? MaxSymbols - last : 0;
        ulong chainAt = buckets + (sizeof(uint) * (bucketCount + (last - firstHashed)));
        limit = Math.Min(limit, reader.Length > chainAt ? (reader.Length - chainAt) / sizeof(uint) : 0);
        var chain = new ElfTable(reader, chainAt, limit, sizeof(uint), buffer, What);
        while (chain.MoveNext())
        {
            last++;
            if ((BinaryPrimitives.ReadUInt32LittleEndian(chain.Current) & 1) != 0)
            {
                count = last;
                return null;
            }
        }

        return chain.Error ?? new(ElfErrorKind.Malformed, chainAt, $"the last chain of {What} has no end");
    }
}
