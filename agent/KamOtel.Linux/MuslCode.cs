using System.Buffers.Binary;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>
/// musl tells nobody where a thread's values are, but its <c>pthread_getspecific</c> has to know: a few instructions that load the
/// thread pointer, from beside it the address of a flat array, and from that the value. They are followed register by register, and
/// anything else than these few ends the attempt: no guess is made.
/// </summary>
internal static class MuslCode
{
    /// <summary>Bytes of the function that are looked at; it has 23 on x86-64.</summary>
    public const int MaxLength = 64;

    private const int MaxInstructions = 16;

    /// <summary>The farthest from the thread pointer that the array's address may be: beyond it is no <c>struct pthread</c> of musl.</summary>
    private const long MaxOffset = 4096;

    private const int Rdi = 7;
    private const int Rbp = 5;

    private enum Kind
    {
        Unknown,
        ThreadPointer,
        Table,
        Slot,

        /// <summary>The key, with anything in the upper half of the register.</summary>
        HalfKey,

        /// <summary>The key alone.</summary>
        Key,
    }

    /// <summary>What is added to the thread pointer to find the pointer to the array, in bytes.</summary>
    /// <param name="machine">Whose code it is.</param>
    /// <param name="code">The function's first bytes.</param>
    /// <param name="offset">What was looked for.</param>
    /// <param name="met">What was met instead, in words.</param>
    public static bool TryFindTable(ushort machine, ReadOnlySpan<byte> code, out long offset, out string met)
    {
        var state = new Registers();
        bool found = machine == MachineX64 ? FollowX64(code, ref state) : machine == MachineArm64 && FollowArm64(code, ref state);
        offset = state.Found;
        met = found ? string.Empty : $"{Convert.ToHexStringLower(code[state.At..Math.Min(code.Length, state.At + 8)])} at its byte {state.At}";
        return found;
    }

    private static bool IsSane(long offset) => offset != 0 && offset % sizeof(ulong) == 0 && Math.Abs(offset) <= MaxOffset;

    private static bool FollowX64(ReadOnlySpan<byte> code, ref Registers state)
    {
        state[Rdi] = new(Kind.HalfKey, 0);
        for (int i = 0; i < MaxInstructions; i++)
        {
            ReadOnlySpan<byte> rest = code[state.At..];
            int length = rest switch
            {
                [0xf3, 0x0f, 0x1e, 0xfa, ..] => 4, // endbr64
                [0x90 or 0x55, ..] => 1, // nop, push %rbp
                [0x5d, ..] => Set(ref state, Rbp, default, 1), // pop %rbp
                [0xc3, ..] => 0,
                _ => MoveX64(rest, ref state),
            };
            if (length == 0)
            {
                return rest is [0xc3, ..] && state.Return(0);
            }

            state.At += length;
        }

        return false;
    }

    /// <summary>Follows one <c>mov</c> and returns its length; 0 when it is another instruction.</summary>
    private static int MoveX64(ReadOnlySpan<byte> rest, ref Registers state)
    {
        int at = 0;
        bool threadSegment = rest is [0x64, ..];
        at += threadSegment ? 1 : 0;
        byte rex = at < rest.Length && (rest[at] & 0xf0) == 0x40 ? rest[at++] : (byte)0;
        if (rest.Length < at + 2 || rest[at] is not (0x89 or 0x8b))
        {
            return 0;
        }

        bool load = rest[at] == 0x8b;
        bool wide = (rex & 8) != 0;
        byte form = rest[at + 1];
        int register = ((form >> 3) & 7) | ((rex & 4) << 1);
        int other = (form & 7) | ((rex & 1) << 3);
        at += 2;
        if (form >> 6 == 3)
        {
            Value value = state[load ? other : register];
            return threadSegment ? 0 : Set(ref state, load ? register : other, wide ? value : value.LowerHalf(), at);
        }

        if (!load || !wide)
        {
            return 0;
        }

        // A memory operand: base, perhaps an index times eight, and a displacement.
        int index = -1;
        bool absolute = false;
        if ((form & 7) == 4)
        {
            if (at >= rest.Length)
            {
                return 0;
            }

            byte sib = rest[at++];
            int scaled = ((sib >> 3) & 7) | ((rex & 2) << 2);
            other = (sib & 7) | ((rex & 1) << 3);
            absolute = form >> 6 == 0 && (sib & 7) == 5;
            if (scaled != 4)
            {
                if (sib >> 6 != 3)
                {
                    return 0;
                }

                index = scaled;
            }
        }
        else if (form >> 6 == 0 && (form & 7) == 5)
        {
            return 0; // relative to the instruction
        }

        int size = absolute ? 4 : (form >> 6) switch { 0 => 0, 1 => 1, _ => 4 };
        if (rest.Length < at + size)
        {
            return 0;
        }

        int displacement = size switch
        {
            0 => 0,
            1 => (sbyte)rest[at],
            _ => BinaryPrimitives.ReadInt32LittleEndian(rest[at..]),
        };
        at += size;
        if (threadSegment || absolute)
        {
            // %fs:0 holds the thread pointer itself.
            return threadSegment && absolute && index < 0 && displacement == 0 ? Set(ref state, register, new(Kind.ThreadPointer, 0), at) : 0;
        }

        Value result = index < 0
            ? state[other].Load(displacement)
            : displacement == 0 && state[index].Kind == Kind.Key ? state[other].Element() : default;
        return result.Kind == Kind.Unknown ? 0 : Set(ref state, register, result, at);
    }

    private static int Set(ref Registers state, int register, Value value, int length)
    {
        state[register] = value;
        return length;
    }

    private static bool FollowArm64(ReadOnlySpan<byte> code, ref Registers state)
    {
        state[0] = new(Kind.HalfKey, 0);
        for (int i = 0; i < MaxInstructions && state.At + 4 <= code.Length; i++, state.At += 4)
        {
            uint word = BinaryPrimitives.ReadUInt32LittleEndian(code[state.At..]);
            int target = (int)(word & 31);
            Value source = state[(int)(word >> 5) & 31];
            Value index = state[(int)(word >> 16) & 31];
            long immediate = (word >> 10) & 0xfff;
            switch (word)
            {
                case 0xd503201f or 0xd503245f: // nop, bti c
                    continue;
                case 0xd65f03c0: // ret
                    return state.Return(0);
                case var _ when target == 31: // the stack pointer or nothing
                    return false;
                case var _ when (word & ~31u) == 0xd53bd040: // mrs x, tpidr_el0
                    state[target] = new(Kind.ThreadPointer, 0);
                    break;
                case var _ when (word & 0xffc00000) == 0xd1000000 && source.Kind == Kind.ThreadPointer: // sub x, x, #n
                    state[target] = source with { Offset = source.Offset - immediate };
                    break;
                case var _ when (word & 0xffe00c00) == 0xf8400000: // ldur x, [x, #n]
                    state[target] = source.Load((int)(word << 11) >> 23);
                    break;
                case var _ when (word & 0xffc00000) == 0xf9400000: // ldr x, [x, #8n]
                    state[target] = source.Load(immediate * 8);
                    break;
                case var _ when (word & 0xffe0fc00) == 0xf8605800 && index.Kind is Kind.Key or Kind.HalfKey: // ldr x, [x, w, uxtw #3]
                case var _ when (word & 0xffe0fc00) == 0xf8607800 && index.Kind == Kind.Key: // ldr x, [x, x, lsl #3]
                    state[target] = source.Element();
                    break;
                case var _ when (word & 0xffe0ffe0) == 0x2a0003e0: // mov w, w
                    state[target] = index.LowerHalf();
                    break;
                default:
                    return false;
            }

            if (state[target].Kind == Kind.Unknown)
            {
                return false;
            }
        }

        return false;
    }

    private readonly record struct Value(Kind Kind, long Offset)
    {
        public Value LowerHalf() => Kind is Kind.Key or Kind.HalfKey ? new(Kind.Key, 0) : default;

        /// <summary>What eight bytes beside it hold.</summary>
        public Value Load(long displacement) =>
            Kind == Kind.ThreadPointer && IsSane(Offset + displacement) ? new(Kind.Table, Offset + displacement) : default;

        /// <summary>What the array holds for the key.</summary>
        public Value Element() => Kind == Kind.Table ? new(Kind.Slot, Offset) : default;
    }

    private struct Registers
    {
        private Values _values;

        /// <summary>The byte of the code that is looked at.</summary>
        public int At { get; set; }

        /// <summary>The result, once there is one.</summary>
        public long Found { get; private set; }

        public Value this[int register]
        {
            readonly get => _values[register];
            set => _values[register] = value;
        }

        /// <summary>The function returns: with the value from the array, or it is another function.</summary>
        public bool Return(int register)
        {
            bool good = _values[register].Kind == Kind.Slot;
            Found = good ? _values[register].Offset : 0;
            return good;
        }

        [System.Runtime.CompilerServices.InlineArray(32)]
        private struct Values
        {
            private Value _first;
        }
    }
}
