using Iced.Intel;

namespace KamOtel.Linux;

/// <summary>What stands at a site, and if it is the function's first instruction without need: why.</summary>
public enum SiteKind
{
    /// <summary><c>push</c> of a register: the kernel emulates it.</summary>
    Push,

    /// <summary><c>nop</c>, likewise.</summary>
    Nop,

    /// <summary>A direct <c>jmp</c>, with or without a condition, likewise.</summary>
    Jump,

    /// <summary>A direct <c>call</c>, likewise.</summary>
    Call,

    /// <summary>The first instruction: this machine's code is not understood (x86-64 only).</summary>
    OtherMachine,

    /// <summary>The first instruction: what follows is no code, ends too soon, or goes where a pointer leads.</summary>
    Unclear,

    /// <summary>The first instruction: the function ends or goes where a pointer leads before any instruction that is emulated.</summary>
    NoneEmulated,

    /// <summary>The first instruction: where one is emulated an argument is no longer in its register, or the key may have been overwritten.</summary>
    ArgumentMoved,

    /// <summary>The first instruction: the function jumps back to where one is emulated, and it would be counted twice.</summary>
    Repeated,

    /// <summary>The first instruction: a call, and this kernel forgets the shadow stack when it emulates one.</summary>
    ShadowStack,
}

/// <summary>
/// Where in a function a uprobe costs least. The kernel emulates a few instructions and needs one trap for them; any other is
/// stepped over, with a second trap that costs several times as much. So the first one that is emulated is taken, if every call
/// passes it exactly once and the arguments are still in their registers; else, or in doubt, the function's first instruction.
/// </summary>
/// <param name="Offset">Bytes from the function's first instruction.</param>
/// <param name="KeyLoaded">The first argument was a pointer to the key; here its register holds the key itself.</param>
/// <param name="Kind">What stands there, or why it is the entry.</param>
/// <remarks>What is emulated: arch/x86/kernel/uprobes.c, <c>branch_setup_xol_ops</c> and <c>push_setup_xol_ops</c>, the same from 5.8 on.</remarks>
public readonly record struct ProbeSite(uint Offset, bool KeyLoaded, SiteKind Kind)
{
    /// <summary>The System V ABI's first registers of arguments.</summary>
    private static readonly Register[] Arguments = [Register.RDI, Register.RSI, Register.RDX];

    /// <summary>One trap a hit.</summary>
    public bool IsEmulated => Kind <= SiteKind.Call;

    /// <summary>Longer than any of libcrypto's thread-local functions by far.</summary>
    private const int MaxCode = 4096;

    /// <summary>Chooses in a function of a file, whatever the machine. Where it cannot be read it is the first instruction.</summary>
    /// <param name="elf">The file, still open.</param>
    /// <param name="function">One of its functions.</param>
    /// <param name="arguments">As for <see cref="Choose"/>.</param>
    /// <param name="keyByPointer">As for <see cref="Choose"/>.</param>
    /// <param name="callsAreSafe">As for <see cref="Choose"/>.</param>
    public static ProbeSite In(ElfFile elf, in ElfFunction function, int arguments, bool keyByPointer, bool callsAreSafe)
    {
        ArgumentNullException.ThrowIfNull(elf);
        if (elf.Machine != ElfFormat.MachineX64)
        {
            return Entry(SiteKind.OtherMachine);
        }
        if (function.Size is 0 or > MaxCode)
        {
            return Entry(SiteKind.Unclear);
        }
        byte[] code = new byte[function.Size];
        return elf.ReadAddress(function.Address, code, function.Name) is null ? Choose(code, arguments, keyByPointer, callsAreSafe) : Entry(SiteKind.Unclear);
    }

    /// <summary>Chooses.</summary>
    /// <param name="code">The whole function, as the file has it.</param>
    /// <param name="arguments">How many of its arguments are wanted, at most three.</param>
    /// <param name="keyByPointer">The first argument points to a key of 32 bits, and the key itself would do.</param>
    /// <param name="callsAreSafe">The kernel may emulate a call: see <see cref="EmulatedCalls"/>.</param>
    public static ProbeSite Choose(ReadOnlySpan<byte> code, int arguments, bool keyByPointer, bool callsAreSafe)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(arguments, Arguments.Length);
        Span<bool> lost = stackalloc bool[Arguments.Length];
        bool loaded = false;
        var effects = new InstructionInfoFactory();
        var decoder = Decoder.Create(64, new ByteArrayCodeReader(code.ToArray()));
        while (decoder.IP < (ulong)code.Length)
        {
            decoder.Decode(out Instruction instruction);
            if (instruction.IsInvalid)
            {
                return Entry(SiteKind.Unclear);
            }
            if (Emulated(in instruction) is { } kind)
            {
                return lost[..arguments].Contains(true) || (loaded && !keyByPointer) ? Entry(SiteKind.ArgumentMoved)
                    : kind == SiteKind.Call && !callsAreSafe ? Entry(SiteKind.ShadowStack)
                    : Targets(code, (uint)instruction.IP) is { } problem ? Entry(problem)
                    : new ProbeSite((uint)instruction.IP, loaded, kind);
            }
            if (instruction.FlowControl != FlowControl.Next)
            {
                return Entry(SiteKind.NoneEmulated);
            }
            if (!loaded && !lost[0] && LoadsKey(in instruction))
            {
                loaded = true;
                continue;
            }
            InstructionInfo effect = effects.GetInfo(in instruction);
            if (keyByPointer && !loaded && effect.GetUsedMemory().Any(static m => Writes(m.Access) && m.Base != Register.RSP))
            {
                // The key may be there, and is no longer what it was.
                lost[0] = true;
            }
            foreach (UsedRegister used in effect.GetUsedRegisters())
            {
                int written = Writes(used.Access) ? Array.IndexOf(Arguments, used.Register.GetFullRegister()) : -1;
                if (written >= 0)
                {
                    lost[written] = true;
                }
            }
        }
        return Entry(SiteKind.Unclear);
    }

    private static ProbeSite Entry(SiteKind why) => new(0, KeyLoaded: false, why);

    /// <summary>Prefixes make some of them something else to the kernel: only the plain forms count.</summary>
    private static SiteKind? Emulated(in Instruction instruction) => (instruction.Code, instruction.Length) switch
    {
        (Code.Push_r64, 1) => SiteKind.Push,
        (Code.Push_r64, 2) when instruction.Op0Register >= Register.R8 => SiteKind.Push,
        (Code.Nopd, 1) => SiteKind.Nop,
        (Code.Jmp_rel8_64, 2) or (Code.Jmp_rel32_64, 5) => SiteKind.Jump,
        (Code.Call_rel32_64, 5) => SiteKind.Call,
        (_, 2) when instruction.IsJccShort => SiteKind.Jump,
        (_, 6) when instruction.IsJccNear => SiteKind.Jump,
        _ => null,
    };

    private static bool Writes(OpAccess access) => access is not (OpAccess.Read or OpAccess.CondRead or OpAccess.None or OpAccess.NoMemAccess);

    /// <summary><c>mov (%rdi),%edi</c>.</summary>
    private static bool LoadsKey(in Instruction instruction) =>
        instruction is { Code: Code.Mov_r32_rm32, Op0Register: Register.EDI, MemoryBase: Register.RDI, MemoryIndex: Register.None, MemoryDisplacement64: 0, SegmentPrefix: Register.None };

    /// <summary>Does the function come back to the site without beginning anew?</summary>
    private static SiteKind? Targets(ReadOnlySpan<byte> code, uint site)
    {
        if (site == 0)
        {
            return null;
        }
        var decoder = Decoder.Create(64, new ByteArrayCodeReader(code.ToArray()));
        while (decoder.IP < (ulong)code.Length)
        {
            decoder.Decode(out Instruction instruction);
            if (instruction.IsInvalid || instruction.FlowControl == FlowControl.IndirectBranch)
            {
                return SiteKind.Unclear;
            }
            bool branches = instruction.FlowControl is FlowControl.UnconditionalBranch or FlowControl.ConditionalBranch or FlowControl.Call;
            if (branches && instruction.NearBranchTarget is > 0 and var target && target <= site)
            {
                return SiteKind.Repeated;
            }
        }
        return null;
    }
}
