using System.Buffers.Binary;
using System.Collections.Immutable;
using Iced.Intel;

namespace KamOtel.Linux;

/// <summary>
/// A call by a pointer that leads to no code: no unwind information covers where the thread is, but who called can be known. x86-64
/// only.
/// </summary>
public static class LostCall
{
    private const int StackPointer = 7;
    private const int InstructionPointer = 16;
    private const int MaxCall = 7;

    /// <summary>Linux lets nobody map the lowest page (vm.mmap_min_addr): what leads there is a null pointer, perhaps with an offset.</summary>
    private const ulong NullPage = 4096;

    /// <summary>DWARF's numbers.</summary>
    private static readonly Register[] Numbered =
    [
        Register.RAX, Register.RDX, Register.RCX, Register.RBX, Register.RSI, Register.RDI, Register.RBP, Register.RSP,
        Register.R8, Register.R9, Register.R10, Register.R11, Register.R12, Register.R13, Register.R14, Register.R15,
    ];

    /// <summary>
    /// The thread as it was before the call, if its place is no code and it certainly came there by a call: the word on the top of
    /// the stack follows an indirect call, which went by a register that still holds the place, or the place is null. Else as it is.
    /// </summary>
    public static StackCopy Undo(AddressSpace space, StackCopy stack)
    {
        ArgumentNullException.ThrowIfNull(space);
        ArgumentNullException.ThrowIfNull(stack);
        ulong place = stack.Registers[InstructionPointer];
        ulong top = stack.Registers[StackPointer];
        if (MappingOf(space, place) is not null || Word(stack, top) is not { } after || MappingOf(space, after) is not { } mapping || CallBefore(mapping, after, place, stack.Registers) is not { } call)
        {
            return stack;
        }
        return new StackCopy(stack.Registers.SetItem(InstructionPointer, call).SetItem(StackPointer, top + sizeof(ulong)), stack.Windows);
    }

    private static CodeMapping? MappingOf(AddressSpace space, ulong address)
    {
        foreach (CodeMapping mapping in space.Mappings)
        {
            if (address >= mapping.Start && address < mapping.End)
            {
                return mapping;
            }
        }
        return null;
    }

    private static ulong? Word(StackCopy stack, ulong address)
    {
        foreach (StackWindow window in stack.Windows)
        {
            ulong at = unchecked(address - window.Address);
            if (at < (ulong)window.Bytes.Length && (ulong)window.Bytes.Length - at >= sizeof(ulong))
            {
                int chunk = (int)at / StackCopy.ChunkSize;
                bool isHole = chunk / 8 < window.Holes.Length && (window.Holes.Span[chunk / 8] >> (chunk % 8) & 1) != 0;
                return isHole ? null : BinaryPrimitives.ReadUInt64LittleEndian(window.Bytes.Span[(int)at..]);
            }
        }
        return null;
    }

    private static ulong? CallBefore(CodeMapping mapping, ulong after, ulong place, ImmutableArray<ulong> registers)
    {
        byte[] bytes = new byte[MaxCall];
        ulong offset = after - mapping.Start + mapping.Offset;
        if (after - mapping.Start < MaxCall || !ElfReader.TryCreate(mapping.File.Handle, out ElfReader? reader, out _) || reader.Read(offset - MaxCall, bytes, "code") is not null)
        {
            return null;
        }
        for (int length = 2; length <= MaxCall; length++)
        {
            Decoder.Create(64, bytes[^length..], after - (ulong)length, DecoderOptions.None).Decode(out Instruction instruction);
            if (instruction.Length != length || instruction.Code != Code.Call_rm64)
            {
                continue;
            }
            int number = instruction.Op0Kind == OpKind.Register ? Array.IndexOf(Numbered, instruction.Op0Register) : -1;
            if (number >= 0 ? registers[number] == place : place < NullPage)
            {
                return instruction.IP;
            }
        }
        return null;
    }
}
