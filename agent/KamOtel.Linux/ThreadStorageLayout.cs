using System.Buffers.Binary;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>
/// Where a C library keeps the values of pthread keys, as it tells itself: glibc by what it exports for libthread_db, musl by the code
/// of its <c>pthread_getspecific</c>. Good for every process that maps the same file.
/// </summary>
public sealed class ThreadStorageLayout
{
    /// <summary>The most blocks, slots in a block, and bytes of a thread's descriptor that are believed: far beyond glibc's 32, 32 and 2.4 KiB.</summary>
    private const uint MaxBlocks = 64;

    private const uint MaxBlockSlots = 64;
    private const uint MaxThreadSize = 64 * 1024;
    private const uint MaxEntrySize = 64;

    /// <summary>musl's PTHREAD_KEYS_MAX, a part of its interface.</summary>
    private const int MuslKeys = 128;

    private const string Specific = "_thread_db_pthread_specific";
    private const string ThreadSize = "_thread_db_sizeof_pthread";
    private const string SlotSizeName = "_thread_db_sizeof_pthread_key_data";
    private const string SlotSequence = "_thread_db_pthread_key_data_seq";
    private const string SlotData = "_thread_db_pthread_key_data_data";
    private const string Block = "_thread_db_pthread_key_data_level2_data";
    private const string KeysName = "_thread_db___pthread_keys";
    private const string KeySize = "_thread_db_sizeof_pthread_key_struct";
    private const string KeySequence = "_thread_db_pthread_key_struct_seq";
    private const string KeyDestructor = "_thread_db_pthread_key_struct_destr";
    private const string KeysVariable = "__pthread_keys";

    private const string GetSpecific = "pthread_getspecific";
    private const string MuslDestructors = "keys";
    private const string MuslNoDestructor = "nodtor";

    private static readonly string[] Objects =
        [Specific, ThreadSize, SlotSizeName, SlotSequence, SlotData, Block, KeysName, KeySize, KeySequence, KeyDestructor, KeysVariable];

    private ThreadStorageLayout()
    {
    }

    /// <summary>
    /// Added to the thread pointer, in bytes: the address of glibc's array of pointers to blocks of slots, or of musl's pointer to its
    /// flat array of values.
    /// </summary>
    public required long TableOffset { get; init; }

    /// <summary>musl: one flat array of 128 values. Otherwise glibc: blocks of slots, each a sequence number and a value.</summary>
    public required bool Flat { get; init; }

    /// <summary>How many pointers to blocks there are: 1 for a flat array.</summary>
    internal int Blocks { get; init; }

    /// <summary>Slots in a block.</summary>
    internal int BlockSlots { get; init; }

    /// <summary>Bytes of a slot.</summary>
    internal int SlotSize { get; init; }

    /// <summary>Where in a slot the number is that its key had when it was set. Not for a flat array.</summary>
    internal int SequenceAt { get; init; }

    /// <summary>Where in a slot its value is.</summary>
    internal int DataAt { get; init; }

    /// <summary>The file's address of the table of keys; null when the file does not tell.</summary>
    internal ulong? KeyTable { get; init; }

    /// <summary>Bytes of an entry of that table.</summary>
    internal int KeyEntrySize { get; init; }

    /// <summary>Where in an entry the key's number is: odd while the key is in use. Not for a flat array.</summary>
    internal int KeySequenceAt { get; init; }

    /// <summary>Where in an entry the key's destructor is.</summary>
    internal int KeyDestructorAt { get; init; }

    /// <summary>musl: the file's address of the function that stands for none.</summary>
    internal ulong? NoDestructor { get; init; }

    /// <summary>The first word at the thread pointer is the thread pointer: so it is on x86-64.</summary>
    internal bool PointsToItself { get; init; }

    /// <summary>Bytes of a block.</summary>
    internal int BlockSize => BlockSlots * SlotSize;

    /// <summary>Bytes of the table that tells where a thread's blocks are.</summary>
    internal int TableSize => Blocks * sizeof(ulong);

    /// <summary>Bytes of the table of keys; 0 when there is none.</summary>
    internal int KeyTableSize => KeyTableSizeOf(Blocks);

    /// <summary>Bytes of the table of keys up to the last that the first blocks have slots for.</summary>
    internal int KeyTableSizeOf(int blocks) => KeyTable is null ? 0 : blocks * BlockSlots * KeyEntrySize;

    /// <summary>The layout that a file tells. Both null: the file is no C library.</summary>
    /// <param name="elf">The file.</param>
    /// <param name="getSpecific">The functions called <c>pthread_getspecific</c> that it defines.</param>
    /// <param name="unsupported">The file has a part of a C library, but its layout could not be learned; why, in a sentence.</param>
    internal static ThreadStorageLayout? Of(ElfFile elf, ReadOnlySpan<ElfFunction> getSpecific, out string? unsupported)
    {
        unsupported = null;
        if (!elf.FindObjects(Objects).TryGet(out ElfObjects? objects, out ElfError? error))
        {
            unsupported = getSpecific.IsEmpty ? null : error.Message;
            return null;
        }

        var read = new Descriptors(elf, objects);
        return read.Has(Specific) ? OfGlibc(elf.Machine, read, out unsupported)
            : getSpecific.IsEmpty ? null
            : OfMusl(elf, getSpecific, out unsupported);
    }

    private static ThreadStorageLayout? OfGlibc(ushort machine, Descriptors read, out string? unsupported)
    {
        // {bits, elements, offset} of a field, or a plain number.
        (uint bits, uint elements, uint offset) = read.Field(Specific);
        uint threadSize = read.Number(ThreadSize, MaxThreadSize);
        uint slotSize = read.Number(SlotSizeName, MaxEntrySize);
        uint sequenceAt = read.Word(SlotSequence, slotSize);
        uint dataAt = read.Word(SlotData, slotSize);
        (uint slotBits, uint blockSlots, uint blockAt) = read.Field(Block);
        (uint keyBits, uint keys, _) = read.Field(KeysName);
        uint keySize = read.Number(KeySize, MaxEntrySize);
        uint keySequenceAt = read.Word(KeySequence, keySize);
        uint destructorAt = read.Word(KeyDestructor, keySize);
        ElfObject table = read.Object(KeysVariable);
        ulong pointers = (ulong)bits / 64 * elements;
        read.Check(Specific, bits % 64 == 0 && pointers is > 0 and <= MaxBlocks && offset % 8 == 0 && offset + (pointers * 8) <= threadSize);
        read.Check(Block, slotBits == slotSize * 8 && blockSlots is > 0 and <= MaxBlockSlots && blockAt == 0);
        read.Check(KeysName, keyBits == keySize * 8 && keys == pointers * blockSlots);
        read.Check(KeysVariable, table.Size == (ulong)keys * keySize);
        unsupported = read.Problem;
        return unsupported is not null ? null : new()
        {
            // On aarch64 a thread's descriptor ends where its thread pointer points to.
            TableOffset = machine == MachineArm64 ? offset - (long)threadSize : offset,
            Flat = false,
            Blocks = (int)pointers,
            BlockSlots = (int)blockSlots,
            SlotSize = (int)slotSize,
            SequenceAt = (int)sequenceAt,
            DataAt = (int)dataAt,
            KeyTable = table.Address,
            KeyEntrySize = (int)keySize,
            KeySequenceAt = (int)keySequenceAt,
            KeyDestructorAt = (int)destructorAt,
            PointsToItself = machine == MachineX64,
        };
    }

    private static ThreadStorageLayout? OfMusl(ElfFile elf, ReadOnlySpan<ElfFunction> getSpecific, out string? unsupported)
    {
        Span<byte> code = stackalloc byte[MuslCode.MaxLength];
        ElfFunction function = getSpecific[0];
        if (getSpecific.Length > 1)
        {
            unsupported = $"it has {getSpecific.Length} functions called {GetSpecific}, and no description of glibc's";
            return null;
        }

        code = code[..(int)Math.Min(function.Size, (ulong)code.Length)];
        if (elf.ReadAddress(function.Address, code, GetSpecific) is { } error)
        {
            unsupported = error.Message;
            return null;
        }

        if (!MuslCode.TryFindTable(elf.Machine, code, out long offset, out string met))
        {
            unsupported = $"it has no description as glibc has it, and its {GetSpecific} is not musl's: {met}";
            return null;
        }

        // Local symbols with names that anybody may use: taken only when they can be nothing else.
        unsupported = null;
        ElfObject[] destructors = elf.FindObjects([MuslDestructors]).TryGet(out ElfObjects? objects, out _)
            ? [.. objects.Found.Where(static o => o.Size == MuslKeys * sizeof(ulong))]
            : [];
        ElfFunction[] none = elf.FindFunctions([MuslNoDestructor]).TryGet(out ElfFunctions? functions, out _) ? [.. functions.Found] : [];
        bool known = destructors.Length == 1 && none.Length == 1;
        return new()
        {
            TableOffset = offset,
            Flat = true,
            Blocks = 1,
            BlockSlots = MuslKeys,
            SlotSize = sizeof(ulong),
            KeyTable = known ? destructors[0].Address : null,
            KeyEntrySize = sizeof(ulong),
            NoDestructor = known ? none[0].Address : null,
            PointsToItself = elf.Machine == MachineX64,
        };
    }

    /// <summary>What glibc describes for libthread_db, each part checked; the first that is wrong is named.</summary>
    private sealed class Descriptors(ElfFile elf, ElfObjects objects)
    {
        public string? Problem { get; private set; }

        public bool Has(string name) => objects.Found.Any(o => string.Equals(o.Name, name, StringComparison.Ordinal));

        public ElfObject Object(string name)
        {
            ElfObject[] found = [.. objects.Found.Where(o => string.Equals(o.Name, name, StringComparison.Ordinal))];
            Check(name, found.Length == 1);
            return found.Length == 1 ? found[0] : default;
        }

        public (uint Bits, uint Elements, uint Offset) Field(string name)
        {
            Span<byte> value = stackalloc byte[3 * sizeof(uint)];
            Read(name, value);
            return (BinaryPrimitives.ReadUInt32LittleEndian(value), BinaryPrimitives.ReadUInt32LittleEndian(value[4..]), BinaryPrimitives.ReadUInt32LittleEndian(value[8..]));
        }

        /// <summary>The offset of a 64-bit field in something of <paramref name="size"/> bytes.</summary>
        public uint Word(string name, uint size)
        {
            (uint bits, uint elements, uint offset) = Field(name);
            Check(name, bits == 64 && elements == 1 && offset % 8 == 0 && offset < size && size - offset >= sizeof(ulong));
            return offset;
        }

        public uint Number(string name, uint max)
        {
            Span<byte> value = stackalloc byte[sizeof(uint)];
            Read(name, value);
            uint number = BinaryPrimitives.ReadUInt32LittleEndian(value);
            Check(name, number > 0 && number % 8 == 0 && number <= max);
            return number;
        }

        public void Check(string name, bool good) => Problem ??= good ? null : $"its {name} is missing or makes no sense";

        private void Read(string name, Span<byte> value)
        {
            value.Clear();
            ElfObject found = Object(name);
            Check(name, found.Size == (ulong)value.Length && elf.ReadAddress(found.Address, value, name) is null);
        }
    }
}
