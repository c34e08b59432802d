namespace KamOtel.Linux;

/// <summary>The numbers of the ELF64 format that we need (gABI and the GNU extensions), and our own limits.</summary>
internal static class ElfFormat
{
    public const int HeaderSize = 64;
    public const int SegmentEntrySize = 56;
    public const int SectionEntrySize = 64;
    public const int SymbolEntrySize = 24;
    public const int DynamicEntrySize = 16;
    public const int RelocationEntrySize = 24;

    public const ushort TypeExecutable = 2;
    public const ushort TypeShared = 3;
    public const ushort MachineX64 = 62;
    public const ushort MachineArm64 = 183;

    public const uint SegmentLoad = 1;
    public const uint SegmentDynamic = 2;
    public const uint SegmentInterpreter = 3;
    public const uint SegmentNote = 4;
    public const uint FlagExecute = 1;
    public const uint FlagWrite = 2;

    public const uint SectionSymbols = 2;
    public const uint SectionStrings = 3;
    public const uint SectionDynamicSymbols = 11;

    public const ulong DynamicHash = 4;
    public const ulong DynamicStrings = 5;
    public const ulong DynamicSymbols = 6;
    public const ulong DynamicRelocations = 7;
    public const ulong DynamicRelocationsSize = 8;
    public const ulong DynamicStringsSize = 10;
    public const ulong DynamicSoname = 14;
    public const ulong DynamicGnuHash = 0x6ffffef5;
    public const ulong DynamicFlags1 = 0x6ffffffb;
    public const ulong Flag1Pie = 0x08000000;

    public const byte SymbolObject = 1;
    public const byte SymbolFunction = 2;
    public const ushort SectionUndefined = 0;
    public const ushort SectionReservedFirst = 0xff00;
    public const ushort SectionExtended = 0xffff;

    public const uint NoteBuildId = 3;

    /// <summary>Linux itself refuses a program header table larger than 64 KiB.</summary>
    public const int MaxSegments = 65536 / SegmentEntrySize;

    /// <summary>Far beyond linked files (tens); object files of huge programs have more, and are not our business.</summary>
    public const ulong MaxSections = 1 << 17;

    /// <summary>Twice what the largest browsers carry with all their local symbols.</summary>
    public const ulong MaxSymbols = 4 << 20;

    /// <summary>The same for their names, in bytes.</summary>
    public const ulong MaxStrings = 512 << 20;

    /// <summary>The dynamic section of the largest programs has some hundred entries.</summary>
    public const ulong MaxDynamicEntries = 4096;

    /// <summary>The longest run of notes that we look through for the build id, in bytes.</summary>
    public const int MaxNotes = 16 * 1024;

    /// <summary>The longest name that is looked for, in characters.</summary>
    public const int MaxNameLength = 1024;

    /// <summary>The most symbols with wanted names, and the most places of such names in the string table.</summary>
    public const int MaxMatches = 1024;
}
