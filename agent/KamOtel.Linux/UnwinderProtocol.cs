using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text;

namespace KamOtel.Linux;

/// <summary>
/// What agent and unwinder say to each other: the agent's side of <c>agent/unwinder/protocol.h</c>. Change both, and the version.
/// Nothing that comes from the unwinder is believed before it was checked: a hostile file may have taken it over.
/// </summary>
internal static class UnwinderProtocol
{
    public const int RegisterCount = 17;
    public const int MaxFrames = 256;
    public const int MaxMappings = 4096;
    public const int MaxWindows = 2;
    public const int ChunkSize = 1024;
    public const int MaxStack = 128 * 1024;
    public const int MaxMessage = UnwindSize + MaxStack + 1024;
    public const int HeaderSize = 16;

    /// <summary>Size of a request without the bytes of its windows.</summary>
    public const int UnwindSize = HeaderSize + 8 + (8 * RegisterCount) + (MaxWindows * WindowSize);

    public const ushort Unwind = 1;
    public const ushort Space = 2;
    public const ushort File = 3;
    public const ushort NoFile = 4;
    public const ushort ForgetFile = 5;
    public const ushort ForgetSpace = 6;
    public const ushort Frames = 16;
    public const ushort NeedSpace = 17;
    public const ushort NeedFile = 18;

    private const ushort Version = 1;
    private const int MaxName = 255;
    private const int WindowSize = 16 + HolesSize;
    private const int HolesSize = MaxStack / ChunkSize / 8;
    private const int MappingSize = 32;
    private const int FrameSize = 32;
    private const int FramesHeadSize = HeaderSize + 16;
    private const uint NoMapping = uint.MaxValue;

    public static void WriteHeader(Span<byte> buffer, ushort kind, int length, ulong id)
    {
        BinaryPrimitives.WriteUInt16LittleEndian(buffer, Version);
        BinaryPrimitives.WriteUInt16LittleEndian(buffer[2..], kind);
        BinaryPrimitives.WriteInt32LittleEndian(buffer[4..], length);
        BinaryPrimitives.WriteUInt64LittleEndian(buffer[8..], id);
    }

    /// <summary>The header of a message that was received whole.</summary>
    public static bool TryReadHeader(ReadOnlySpan<byte> message, out ushort kind, out ulong id)
    {
        kind = 0;
        id = 0;
        if (message.Length < HeaderSize
            || BinaryPrimitives.ReadUInt16LittleEndian(message) != Version
            || BinaryPrimitives.ReadUInt32LittleEndian(message[4..]) != (uint)message.Length)
        {
            return false;
        }

        kind = BinaryPrimitives.ReadUInt16LittleEndian(message[2..]);
        id = BinaryPrimitives.ReadUInt64LittleEndian(message[8..]);
        return true;
    }

    /// <summary>The request up to the bytes of the windows, which follow as they are.</summary>
    public static void WriteUnwind(Span<byte> buffer, ulong id, AddressSpace space, StackCopy stack)
    {
        int length = UnwindSize;
        buffer[..UnwindSize].Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(buffer[HeaderSize..], space.Id);
        int at = HeaderSize + 8;
        foreach (ulong register in stack.Registers)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[at..], register);
            at += 8;
        }

        foreach (StackWindow window in stack.Windows)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[at..], window.Address);
            BinaryPrimitives.WriteInt32LittleEndian(buffer[(at + 8)..], window.Bytes.Length);
            ReadOnlySpan<byte> holes = window.Holes.Span;
            holes[..Math.Min(holes.Length, HolesSize)].CopyTo(buffer[(at + 16)..]);
            at += WindowSize;
            length += window.Bytes.Length;
        }

        WriteHeader(buffer, Unwind, length, id);
    }

    /// <summary>Returns the length.</summary>
    public static int WriteSpace(Span<byte> buffer, AddressSpace space)
    {
        int length = HeaderSize + 8 + (space.Mappings.Length * MappingSize);
        WriteHeader(buffer, Space, length, space.Id);
        BinaryPrimitives.WriteUInt64LittleEndian(buffer[HeaderSize..], (ulong)space.Mappings.Length);
        int at = HeaderSize + 8;
        foreach (CodeMapping mapping in space.Mappings)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[at..], mapping.Start);
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[(at + 8)..], mapping.End);
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[(at + 16)..], mapping.Offset);
            BinaryPrimitives.WriteUInt64LittleEndian(buffer[(at + 24)..], mapping.File.Id);
            at += MappingSize;
        }

        return length;
    }

    /// <summary>An answer to <see cref="WriteUnwind"/>. Null when it makes no sense.</summary>
    public static UnwoundStack? ReadFrames(ReadOnlySpan<byte> message, AddressSpace space, StackCopy stack)
    {
        if (message.Length < FramesHeadSize)
        {
            return null;
        }

        uint end = BinaryPrimitives.ReadUInt32LittleEndian(message[HeaderSize..]);
        uint detail = BinaryPrimitives.ReadUInt32LittleEndian(message[(HeaderSize + 4)..]);
        uint count = BinaryPrimitives.ReadUInt32LittleEndian(message[(HeaderSize + 8)..]);
        uint namesLength = BinaryPrimitives.ReadUInt32LittleEndian(message[(HeaderSize + 12)..]);
        if (count is 0 or > MaxFrames
            || namesLength > MaxFrames * MaxName
            || message.Length != FramesHeadSize + (count * FrameSize) + namesLength
            || Describe(end, detail) is not var (reason, text))
        {
            return null;
        }

        ReadOnlySpan<byte> names = message[(int)(FramesHeadSize + (count * FrameSize))..];
        ImmutableArray<UnwoundFrame>.Builder frames = ImmutableArray.CreateBuilder<UnwoundFrame>((int)count);
        for (int i = 0; i < count; i++)
        {
            ReadOnlySpan<byte> frame = message.Slice(FramesHeadSize + (i * FrameSize), FrameSize);
            bool mayBeUnknown = i == count - 1 && reason == UnwindEnd.UnknownCode;
            if (!TryReadFrame(frame, ref names, space, mayBeUnknown, out UnwoundFrame? read))
            {
                return null;
            }

            frames.Add(read);
        }

        bool unknown = frames[^1].Mapping is null;
        return names.IsEmpty && frames[0].Address == stack.Registers[^1] && unknown == (reason == UnwindEnd.UnknownCode)
            ? new(frames.MoveToImmutable(), reason, text)
            : null;
    }

    private static bool TryReadFrame(
        ReadOnlySpan<byte> frame, ref ReadOnlySpan<byte> names, AddressSpace space, bool mayBeUnknown, [NotNullWhen(true)] out UnwoundFrame? read)
    {
        read = null;
        ulong address = BinaryPrimitives.ReadUInt64LittleEndian(frame);
        ulong fileAddress = BinaryPrimitives.ReadUInt64LittleEndian(frame[8..]);
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(frame[16..]);
        uint index = BinaryPrimitives.ReadUInt32LittleEndian(frame[24..]);
        uint nameLength = BinaryPrimitives.ReadUInt32LittleEndian(frame[28..]);
        if (nameLength > MaxName || nameLength > names.Length || (nameLength == 0 && offset != 0))
        {
            return false;
        }

        if (index == NoMapping)
        {
            read = new(null, address, 0, null, 0);
            return mayBeUnknown && fileAddress == 0 && nameLength == 0;
        }

        // A call may be the last instruction of its mapping, and return behind it.
        if (index >= space.Mappings.Length || address < space.Mappings[(int)index].Start || address > space.Mappings[(int)index].End)
        {
            return false;
        }

        string? name = nameLength == 0 ? null : TargetName.Sanitise(Encoding.UTF8.GetString(names[..(int)nameLength]));
        names = names[(int)nameLength..];
        read = new(space.Mappings[(int)index], address, fileAddress, name, offset);
        return true;
    }

    private static (UnwindEnd End, string Text)? Describe(uint end, uint detail) => (end, detail) switch
    {
        (1, 0) => (UnwindEnd.Complete, string.Empty),
        (2, 0) => (UnwindEnd.Truncated, "the next frame needs memory that was not copied"),
        (3, 10) => (UnwindEnd.NoUnwindInfo, "the file has no unwind information"),
        (3, 11) => (UnwindEnd.NoUnwindInfo, "no unwind information covers this code"),
        (3, 12) => (UnwindEnd.NoUnwindInfo, "the next frame needs a register that nobody kept"),
        (3, 13) => (UnwindEnd.NoUnwindInfo, "the unwind information does not tell the return address"),
        (4, 0) => (UnwindEnd.UnknownCode, "the code is in no mapping of a file"),
        (5, 1) => (UnwindEnd.BadFile, "the file is kept from the unwinder"),
        (5, 2) => (UnwindEnd.BadFile, "the file cannot be mapped"),
        (5, 3) => (UnwindEnd.BadFile, "the file is too large"),
        (5, 4) => (UnwindEnd.BadFile, "the file is no x86-64 ELF program or library"),
        (5, 5) => (UnwindEnd.BadFile, "the file's segments make no sense"),
        (5, 6) => (UnwindEnd.BadFile, "the file has not exactly one segment of code that would be mapped so"),
        (5, 7) => (UnwindEnd.BadFile, "the unwind information cannot be evaluated"),
        (5, 8) => (UnwindEnd.BadFile, "the unwind information is for another machine"),
        (5, 9) => (UnwindEnd.BadFile, "the unwind information leads back down the stack"),
        (6, 0) => (UnwindEnd.TooDeep, "there are more frames than are told"),
        _ => null,
    };
}
