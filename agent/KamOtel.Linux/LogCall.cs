using Iced.Intel;

namespace KamOtel.Linux;

/// <summary>A call that takes a format.</summary>
/// <param name="Address">Of the call, in the file's own addresses.</param>
/// <param name="Format">The format's, likewise.</param>
/// <param name="Argument">Which argument it is, counted from 0.</param>
internal readonly record struct LogCall(ulong Address, ulong Format, int Argument)
{
    private const int MaxInstructions = 64;
    private const int MaxJumps = 4;
    private const int MaxBytes = 512;

    /// <summary>In the order of the calling convention (System V x86-64 ABI, 3.2.3).</summary>
    private static readonly Register[] Arguments = [Register.RDI, Register.RSI, Register.RDX, Register.RCX];

    /// <summary>A function gives these back as they were.</summary>
    private static readonly Register[] Preserved = [Register.RBX, Register.RBP, Register.R12, Register.R13, Register.R14, Register.R15];

    /// <summary>
    /// The call that gets the address which the instruction at <paramref name="load"/> loads, when each step from there to it is
    /// certain. Null when there is a branch between, or an instruction that nobody expects there.
    /// </summary>
    public static LogCall? After(ElfFile elf, ulong load)
    {
        if (Code(elf, load) is not { } decoder)
        {
            return null;
        }
        decoder.Decode(out Instruction first);
        if (Loaded(in first) is not { } format)
        {
            return null;
        }
        // Where the format's address is now.
        var holding = new HashSet<Register> { first.Op0Register.GetFullRegister() };
        int jumps = 0;
        for (int i = 0; i < MaxInstructions && holding.Count > 0; i++)
        {
            decoder.Decode(out Instruction instruction);
            switch (instruction.FlowControl)
            {
                case FlowControl.Call or FlowControl.IndirectCall:
                    // Code that was not optimised leaves it in the register that it passed through, too: the format comes first.
                    int argument = Array.FindIndex(Arguments, holding.Contains);
                    if (argument >= 0)
                    {
                        return new LogCall(instruction.IP, format, argument);
                    }
                    holding.IntersectWith(Preserved);
                    break;
                case FlowControl.UnconditionalBranch when instruction.IsJmpShortOrNear && ++jumps <= MaxJumps && Code(elf, instruction.NearBranchTarget) is { } there:
                    decoder = there;
                    break;
                case FlowControl.Next when Step(in instruction, holding):
                    break;
                default:
                    return null;
            }
        }
        return null;
    }

    private static Decoder? Code(ElfFile elf, ulong address)
    {
        for (int size = MaxBytes; size >= 8; size /= 2)
        {
            byte[] bytes = new byte[size];
            // The segment may end before.
            if (elf.Segments.ToFileOffset(address, (ulong)size, executable: true) is not null && elf.ReadAddress(address, bytes, "code") is null)
            {
                return Decoder.Create(64, bytes, address, DecoderOptions.None);
            }
        }
        return null;
    }

    private static ulong? Loaded(in Instruction instruction) => instruction.Code switch
    {
        Iced.Intel.Code.Lea_r64_m when instruction.IsIPRelativeMemoryOperand => instruction.IPRelativeMemoryAddress,
        Iced.Intel.Code.Mov_r32_imm32 => instruction.Immediate32,
        _ => null,
    };

    /// <summary>Follows who holds the address; false when the instruction is none of those of which that is certain.</summary>
    private static bool Step(in Instruction instruction, HashSet<Register> holding)
    {
        switch (instruction.Mnemonic)
        {
            case Mnemonic.Mov when instruction.Op0Kind == OpKind.Register && instruction.Op1Kind == OpKind.Register && holding.Contains(instruction.Op1Register):
                _ = holding.Add(instruction.Op0Register);
                return true;
            case Mnemonic.Push or Mnemonic.Nop or Mnemonic.Endbr64 or Mnemonic.Cmp or Mnemonic.Test:
                return true;
            case Mnemonic.Mov or Mnemonic.Lea or Mnemonic.Pop or Mnemonic.Movzx or Mnemonic.Movsx or Mnemonic.Movsxd
                or Mnemonic.Add or Mnemonic.Sub or Mnemonic.Xor or Mnemonic.Or or Mnemonic.And or Mnemonic.Not or Mnemonic.Neg or Mnemonic.Inc or Mnemonic.Dec
                or Mnemonic.Shl or Mnemonic.Shr or Mnemonic.Sar or Mnemonic.Bswap
                or Mnemonic.Cmove or Mnemonic.Cmovne or Mnemonic.Cmova or Mnemonic.Cmovae or Mnemonic.Cmovb or Mnemonic.Cmovbe
                or Mnemonic.Cmovg or Mnemonic.Cmovge or Mnemonic.Cmovl or Mnemonic.Cmovle or Mnemonic.Cmovs or Mnemonic.Cmovns
                or Mnemonic.Sete or Mnemonic.Setne
                or Mnemonic.Movaps or Mnemonic.Movups or Mnemonic.Movapd or Mnemonic.Movupd or Mnemonic.Movdqa or Mnemonic.Movdqu
                or Mnemonic.Movq or Mnemonic.Movd or Mnemonic.Movhps or Mnemonic.Movlps or Mnemonic.Movss or Mnemonic.Pxor or Mnemonic.Xorps
                or Mnemonic.Punpcklqdq or Mnemonic.Pinsrq or Mnemonic.Pshufd or Mnemonic.Pshuflw:
                if (instruction.Op0Kind == OpKind.Register)
                {
                    _ = holding.Remove(instruction.Op0Register.GetFullRegister());
                }
                return true;
            default:
                return false;
        }
    }
}
