using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using KamOtel.Diagnosis;

namespace KamOtel.Bpf;

/// <summary>Mirrors <c>bpf/events.h</c>; a test compares both by the object's BTF.</summary>
internal static class Events
{
    internal const ushort Exec = 1;
    internal const ushort Fork = 2;
    internal const ushort Exit = 3;
    internal const ushort InitLocal = 4;
    internal const ushort SetLocal = 5;
    internal const ushort CleanupLocal = 6;
    internal const ushort SetLocalEx = 7;
    internal const ushort CleanLocal = 8;
    internal const ushort Watch = 9;
    internal const ushort FatalSignal = 10;
    internal const ushort Stack = 11;
    internal const ushort Enter = 12;
    internal const ushort Complaint = 13;
    internal const int Kinds = 14;

    internal const ushort FlagWatched = 1;
    internal const ushort FlagLastThread = 2;
    internal const ushort FlagKeyRead = 4;
    internal const ushort FlagHasStack = 8;

    private const int ChunkSize = 1024;

    /// <summary>Decodes one record; false when it is none of ours (shorter than its kind, or of an unknown kind).</summary>
    internal static bool TryDecode(ReadOnlySpan<byte> record, out Observation observation)
    {
        observation = default;
        if (!MemoryMarshal.TryRead(record, out Header header))
        {
            return false;
        }
        var common = new Observation
        {
            Kind = (ObservationKind)header.Kind,
            TimeNs = header.TimeNs,
            Process = ProcessId.FromNanoseconds((int)header.Tgid, header.StartNs),
            Tid = (int)header.Tid,
            Instance = new InstanceId((int)header.InstanceTgid, header.InstanceNs),
        };
        switch (header.Kind)
        {
            case Exec when MemoryMarshal.TryRead(record, out ExecRecord exec):
                observation = common with { Name = exec.Name, Watched = (header.Flags & FlagWatched) != 0 };
                return true;
            case Fork when MemoryMarshal.TryRead(record, out ForkRecord fork):
                observation = common with { Other = ProcessId.FromNanoseconds((int)fork.ChildTgid, fork.ChildStartNs) };
                return true;
            case Exit when MemoryMarshal.TryRead(record, out ExitRecord exit):
                observation = common with { Status = (int)exit.Status, LastThread = (header.Flags & FlagLastThread) != 0 };
                return true;
            case FatalSignal when record.Length >= Unsafe.SizeOf<FatalSignalRecord>():
                observation = common with
                {
                    Status = (int)FatalSignalOf(record).Signal,
                    HasStack = HasStack(header, record, Unsafe.SizeOf<FatalSignalRecord>()),
                };
                return true;
            case Enter when MemoryMarshal.TryRead(record, out EnterRecord enter):
                observation = common with { Address = enter.Address };
                return true;
            case Complaint when record.Length >= Unsafe.SizeOf<ComplaintRecord>():
                observation = common with { Address = ComplaintOf(record).Address };
                return true;
            case >= InitLocal and <= CleanLocal when MemoryMarshal.TryRead(record, out CallRecord call):
                observation = common with
                {
                    Key = (header.Flags & FlagKeyRead) != 0 ? call.Key : null,
                    KeyAddress = call.KeyAddress,
                    Value = call.Value,
                    HasStack = HasStack(header, record, Unsafe.SizeOf<CallRecord>()),
                };
                return true;
            default:
                return false;
        }
    }

    /// <summary>The stack that follows a record with <see cref="Observation.HasStack"/>, in place.</summary>
    internal static CopiedStack StackOf(ReadOnlySpan<byte> record, ObservationKind kind)
    {
        ReadOnlySpan<byte> after = record[(kind == ObservationKind.FatalSignal ? Unsafe.SizeOf<FatalSignalRecord>() : Unsafe.SizeOf<CallRecord>())..];
        ref readonly StackRecord stack = ref MemoryMarshal.AsRef<StackRecord>(after);
        ReadOnlySpan<byte> bytes = after.Slice(Unsafe.SizeOf<StackRecord>(), (int)stack.Chunks * ChunkSize);
        int inner = (int)(stack.Chunks - stack.InOuter) * ChunkSize;
        return new CopiedStack
        {
            Registers = stack.Registers,
            Start = stack.Start,
            Bytes = bytes[..inner],
            Outer = stack.Outer,
            OuterBytes = bytes[inner..],
            Holes = stack.Holes,
        };
    }

    private static bool HasStack(in Header header, ReadOnlySpan<byte> record, int size)
    {
        int fixedSize = size + Unsafe.SizeOf<StackRecord>();
        if ((header.Flags & FlagHasStack) == 0 || record.Length < fixedSize)
        {
            return false;
        }
        ref readonly StackRecord stack = ref MemoryMarshal.AsRef<StackRecord>(record[size..]);
        return stack.InOuter <= stack.Chunks && stack.Chunks <= (record.Length - fixedSize) / ChunkSize;
    }

    /// <summary>The record of a fatal signal, in place: it is large.</summary>
    internal static ref readonly FatalSignalRecord FatalSignalOf(ReadOnlySpan<byte> record) => ref MemoryMarshal.AsRef<FatalSignalRecord>(record);

    /// <summary>The record of a complaint, in place.</summary>
    internal static ref readonly ComplaintRecord ComplaintOf(ReadOnlySpan<byte> record) => ref MemoryMarshal.AsRef<ComplaintRecord>(record);

    [StructLayout(LayoutKind.Sequential)]
    internal struct Header
    {
        public ulong TimeNs;
        public ulong StartNs;
        public ulong InstanceNs;
        public uint InstanceTgid;
        public uint Tgid;
        public uint Tid;
        public ushort Kind;
        public ushort Flags;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct ExecRecord
    {
        public Header Header;
        public TaskName Name;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct ForkRecord
    {
        public Header Header;
        public ulong ChildStartNs;
        public uint ChildTgid;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct ExitRecord
    {
        public Header Header;
        public uint Status;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct CallRecord
    {
        public Header Header;
        public ulong KeyAddress;
        public ulong Value;
        public uint Key;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct StackRecord
    {
        public RegisterFile Registers;
        public ulong Start;
        public ulong Outer;
        public ulong Holes;
        public uint Chunks;
        public uint InOuter;
    }

    /// <summary>The registers, by DWARF's numbers.</summary>
    [InlineArray(17)]
    internal struct RegisterFile
    {
        private ulong _first;
    }

    /// <summary>A count for each kind of call.</summary>
    [InlineArray(5)]
    internal struct CallCounts
    {
        private byte _first;
    }

    /// <summary>Six bytes that mean nothing.</summary>
    [InlineArray(6)]
    internal struct SixBytes
    {
        private byte _first;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct FatalSignalRecord
    {
        public Header Header;
        public uint Signal;
        public uint BlocksRead;
        public SlotBlocks Blocks;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct EnterRecord
    {
        public Header Header;
        public ulong Address;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct ComplaintRecord
    {
        public Header Header;
        public ulong Address;
        public ArgumentRegisters Arguments;
        public StackWords Stack;
        public uint StackRead;
        public uint Reserved;
    }

    /// <summary>The registers that carry a call's first arguments.</summary>
    [InlineArray(6)]
    internal struct ArgumentRegisters
    {
        private ulong _first;
    }

    /// <summary>The top of the stack, with a call's further arguments.</summary>
    [InlineArray(16)]
    internal struct StackWords
    {
        private ulong _first;
    }

    /// <summary>Four blocks of 512 bytes.</summary>
    [InlineArray(256)]
    internal struct SlotBlocks
    {
        private ulong _first;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct FileRecord
    {
        public ulong Inode;
        public uint Device;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct TaskRecord
    {
        public ulong StartNs;
        public ulong TlsBase;
        public ulong MapsVersion;
        public uint Tgid;
        public uint Tid;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct HostRecord
    {
        public ulong StartNs;
        public uint Tgid;
        public uint Namespace;
        public HostNameBytes Name;
    }

    [InlineArray(72)]
    internal struct HostNameBytes
    {
        private byte _first;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct WatchedEntry
    {
        public ulong StartTicks;
        public ulong InstanceNs;
        public uint InstanceTgid;
        public byte Forked;
        public CallCounts Stacks;
        public SixBytes Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct InstanceKey
    {
        public ulong SinceNs;
        public uint Tgid;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct SlotLayout
    {
        public long TableOffset;
        public uint Flat;
        public uint Reserved;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct SharedKey
    {
        public ulong InstanceNs;
        public uint InstanceTgid;
        public uint Key;
    }

    [StructLayout(LayoutKind.Sequential)]
    internal struct SharedUseKey
    {
        public ulong StartNs;
        public uint Tgid;
        public uint Key;
    }

    /// <summary>The section <c>.bss</c>: the global variables.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct Globals
    {
        public ulong AllLosses;
        public int WantedTask;
        public int WantedTgid;
        public ulong WantedStart;
        public FileRecord WantedFile;
        public ulong ConfirmHits;
    }
}
