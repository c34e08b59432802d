using System.Buffers.Binary;
using System.Text;

namespace KamOtel.Tests.Linux;

/// <summary>ELF files made by hand, to be wrong in one place each.</summary>
internal sealed class Sample
{
    private const int Code = 0x1000;
    private readonly List<(string Name, ulong Address, ulong Size)> _symbols = [];

    /// <summary>What stands between the symbols' names and the end of the string table.</summary>
    public string Strings { get; init; } = string.Empty;

    /// <summary>Bytes before the first name: moves it over the edge of a reader's buffer.</summary>
    public int Padding { get; init; }

    /// <summary>Where the section header table is, once the file is made.</summary>
    public int Sections { get; private set; }

    /// <summary>The header of the section with the symbols.</summary>
    public int SymbolSection => Sections + 64;

    /// <summary>The header of the section with their names.</summary>
    public int StringSection => Sections + 128;

    public Sample Add(string name, ulong address = Code, ulong size = 1)
    {
        _symbols.Add((name, address, size));
        return this;
    }

    /// <summary>Header, one executable segment at 0x1000 that is the whole file, symbols, names, sections.</summary>
    public byte[] ToBytes()
    {
        var names = new MemoryStream();
        names.Write(new byte[1 + Padding]);
        var symbols = new MemoryStream();
        symbols.Write(new byte[24]);
        Span<byte> entry = stackalloc byte[24];
        foreach ((string name, ulong address, ulong size) in _symbols)
        {
            entry.Clear();
            BinaryPrimitives.WriteUInt32LittleEndian(entry, (uint)names.Length);
            entry[4] = 0x12;
            entry[6] = 1;
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], address);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[16..], size);
            symbols.Write(entry);
            names.Write(Encoding.UTF8.GetBytes(name + '\0'));
        }

        names.Write(Encoding.UTF8.GetBytes(Strings + '\0'));
        int symbolsAt = 64 + 56;
        int namesAt = symbolsAt + (int)symbols.Length;
        Sections = (namesAt + (int)names.Length + 7) & ~7;
        byte[] file = new byte[Sections + (3 * 64)];
        Span<byte> header = file;
        "\u007fELF\u0002\u0001\u0001"u8.CopyTo(header);
        BinaryPrimitives.WriteUInt16LittleEndian(header[16..], 3);
        BinaryPrimitives.WriteUInt16LittleEndian(header[18..], 62);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], 64);
        BinaryPrimitives.WriteUInt64LittleEndian(header[40..], (ulong)Sections);
        BinaryPrimitives.WriteUInt16LittleEndian(header[54..], 56);
        BinaryPrimitives.WriteUInt16LittleEndian(header[56..], 1);
        BinaryPrimitives.WriteUInt16LittleEndian(header[58..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(header[60..], 3);
        Span<byte> segment = header[64..];
        BinaryPrimitives.WriteUInt32LittleEndian(segment, 1);
        BinaryPrimitives.WriteUInt32LittleEndian(segment[4..], 5);
        BinaryPrimitives.WriteUInt64LittleEndian(segment[16..], Code);
        BinaryPrimitives.WriteUInt64LittleEndian(segment[32..], (ulong)file.Length);
        symbols.ToArray().CopyTo(header[symbolsAt..]);
        names.ToArray().CopyTo(header[namesAt..]);
        Section(header[SymbolSection..], type: 2, symbolsAt, symbols.Length, link: 2, entrySize: 24);
        Section(header[StringSection..], type: 3, namesAt, names.Length, link: 0, entrySize: 0);
        return file;
    }

    /// <summary>As <c>strip --strip-section-headers</c> of newer binutils does.</summary>
    public static void DropSectionHeaders(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        DropSectionHeaders(bytes);
        File.WriteAllBytes(path, bytes);
    }

    public static void DropSectionHeaders(Span<byte> file)
    {
        file[40..48].Clear();
        file[58..64].Clear();
    }

    private static void Section(Span<byte> at, uint type, long offset, long size, uint link, ulong entrySize)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], type);
        BinaryPrimitives.WriteInt64LittleEndian(at[24..], offset);
        BinaryPrimitives.WriteInt64LittleEndian(at[32..], size);
        BinaryPrimitives.WriteUInt32LittleEndian(at[40..], link);
        BinaryPrimitives.WriteUInt64LittleEndian(at[56..], entrySize);
    }
}
