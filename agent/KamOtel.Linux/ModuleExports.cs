using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>The function that a module of Kamailio initialises itself with.</summary>
/// <param name="Module">The module's name.</param>
/// <param name="FileOffset">Where its first instruction stands in the file, in bytes; null when the module has none.</param>
public readonly record struct ModuleInit(string Module, ulong? FileOffset);

/// <summary>
/// Reads what a module of Kamailio 5 or 6 exports: <c>struct module_exports</c>. Its pointers are not in the file but in the
/// relocations, which are believed as little as the rest: a file is taken for a module only when its exported name is its own.
/// </summary>
public static class ModuleExports
{
    // char *name, unsigned int dlflags, cmds, params, rpc, pvs, response_f, init_mod_f, child_init, destroy: the same from 5.0 on.
    private const ulong NameAt = 0;
    private const ulong InitAt = 56;
    private const ulong Size = 80;

    /// <summary>A module's name has some ten characters.</summary>
    private const int MaxName = 64;

    /// <summary>The largest modules have some thousand.</summary>
    private const ulong MaxRelocations = 1 << 18;

    private const uint RelativeX64 = 8;
    private const uint RelativeArm64 = 1027;
    private const uint AbsoluteX64 = 1;
    private const uint AbsoluteArm64 = 257;

    /// <summary>The init function of the module that a file is.</summary>
    /// <param name="file">The file.</param>
    /// <param name="name">The file's name without <c>.so</c>.</param>
    public static ElfResult<ModuleInit> ReadInit(SafeFileHandle file, string name)
    {
        ArgumentNullException.ThrowIfNull(file);
        ArgumentNullException.ThrowIfNull(name);
        if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out ElfError? error)
            || !elf.FindObjects(["exports"]).TryGet(out ElfObjects? objects, out error))
        {
            return error;
        }

        if (objects.Found is not [{ Address: var exports }])
        {
            return new ElfError(ElfErrorKind.Malformed, 0, objects.Found.IsEmpty ? "the file exports no module" : "the file exports more than one module");
        }

        if (elf.ReadAddress(exports, stackalloc byte[(int)Size], "what the module exports") is { } outside)
        {
            return outside;
        }

        if (!ReadPointers(elf, exports, out ulong? namePointer, out ulong? init, out error))
        {
            return error!;
        }

        if (namePointer is not { } at || !IsText(elf, at, name))
        {
            return new ElfError(ElfErrorKind.Malformed, 0, $"the module does not call itself {name}");
        }

        if (init is null)
        {
            return new ModuleInit(name, FileOffset: null);
        }

        return elf.Segments.ToFileOffset(init.Value, 1, executable: true) is { } offset
            ? new ModuleInit(name, offset)
            : new ElfError(ElfErrorKind.Malformed, 0, $"the module's init function at address 0x{init:x} is no code of the file");
    }

    /// <summary>What the loader would write into the two fields; null where it writes nothing and the file has zero.</summary>
    private static bool ReadPointers(ElfFile elf, ulong exports, out ulong? name, out ulong? init, out ElfError? error)
    {
        name = ReadPointer(elf, exports + NameAt);
        init = ReadPointer(elf, exports + InitAt);
        ElfDynamic? dynamic = elf.Dynamic;
        if (dynamic is null)
        {
            error = new(ElfErrorKind.Malformed, 0, "the module has no dynamic segment");
            return false;
        }

        // Packed relative relocations (DT_RELR) add to the address that stands in the place: ReadPointer has it.
        (ulong address, ulong size) = dynamic.Relocations;
        ulong count = size / RelocationEntrySize;
        if (count > MaxRelocations)
        {
            error = new(ElfErrorKind.TooLarge, 0, $"the file has {count} relocations; at most {MaxRelocations} are read");
            return false;
        }

        error = null;
        if (count == 0)
        {
            return true;
        }

        ElfTable table = elf.Table(address, count, RelocationEntrySize, stackalloc byte[ElfTable.BufferSize], "the relocations", out error);
        while (error is null && table.MoveNext())
        {
            ulong at = BinaryPrimitives.ReadUInt64LittleEndian(table.Current);
            if (at == exports + NameAt)
            {
                name = Target(elf, dynamic, table.Current);
            }
            else if (at == exports + InitAt)
            {
                init = Target(elf, dynamic, table.Current);
            }
        }

        error ??= table.Error;
        return error is null;
    }

    /// <summary>The address in the file that a relocation makes a pointer to; null when it is another file's, or of another kind.</summary>
    private static ulong? Target(ElfFile elf, ElfDynamic dynamic, ReadOnlySpan<byte> relocation)
    {
        ulong info = BinaryPrimitives.ReadUInt64LittleEndian(relocation[8..]);
        ulong addend = BinaryPrimitives.ReadUInt64LittleEndian(relocation[16..]);
        return ((uint)info, elf.Machine) switch
        {
            (RelativeX64, MachineX64) or (RelativeArm64, MachineArm64) => addend,
            (AbsoluteX64, MachineX64) or (AbsoluteArm64, MachineArm64) when SymbolValue(elf, dynamic, (uint)(info >> 32)) is { } value => unchecked(value + addend),
            _ => null,
        };
    }

    /// <summary>The address of a symbol that the file defines itself.</summary>
    private static ulong? SymbolValue(ElfFile elf, ElfDynamic dynamic, uint number)
    {
        Span<byte> symbol = stackalloc byte[SymbolEntrySize];
        return elf.ReadAddress(dynamic.AddressOfSymbol(number), symbol, "a symbol") is null
            && BinaryPrimitives.ReadUInt16LittleEndian(symbol[6..]) is > SectionUndefined and < SectionReservedFirst
            ? BinaryPrimitives.ReadUInt64LittleEndian(symbol[8..]) : null;
    }

    private static ulong? ReadPointer(ElfFile elf, ulong address)
    {
        Span<byte> pointer = stackalloc byte[8];
        return elf.ReadAddress(address, pointer, "a pointer") is null && BinaryPrimitives.ReadUInt64LittleEndian(pointer) is not 0 and var value ? value : null;
    }

    private static bool IsText(ElfFile elf, ulong address, string text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        if (length is 0 or > MaxName)
        {
            return false;
        }

        Span<byte> expected = stackalloc byte[length + 1];
        expected.Clear();
        _ = Encoding.UTF8.GetBytes(text, expected);
        Span<byte> found = stackalloc byte[length + 1];
        return elf.ReadAddress(address, found, "the module's name") is null && found.SequenceEqual(expected);
    }
}
