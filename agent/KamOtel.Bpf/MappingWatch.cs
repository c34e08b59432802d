using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>Takes what a <see cref="MappingWatch"/> sees.</summary>
public interface IMappingHandler
{
    /// <summary>A process mapped a file executable.</summary>
    void OnMapping(in ExecutableMapping mapping);

    /// <summary>The kernel dropped this many mappings because a buffer was full.</summary>
    void OnMappingsLost(ulong count);
}

/// <summary>A new executable mapping of a file, anywhere on the host.</summary>
public readonly ref struct ExecutableMapping
{
    /// <summary>The process (thread group).</summary>
    public int Tgid { get; init; }

    /// <summary>First address.</summary>
    public ulong Start { get; init; }

    /// <summary>Length in bytes.</summary>
    public ulong Length { get; init; }

    /// <summary>Where in the file the mapping begins, in bytes.</summary>
    public ulong FileOffset { get; init; }

    /// <summary>Boot time in nanoseconds.</summary>
    public ulong TimeNs { get; init; }

    /// <summary>The path as the mapping process sees it (UTF-8, not terminated); <c>[vdso]</c> and the like for no file.</summary>
    public ReadOnlySpan<byte> Path { get; init; }
}

/// <summary>
/// Tells of every new executable mapping, by the side band of a perf event that counts nothing: there is no
/// tracepoint for it, and function hooks are refused by some kernels. Costs nothing but for a process that maps
/// code. One thread at a time.
/// </summary>
public sealed unsafe class MappingWatch : IDisposable
{
    private const int DataPages = 16;
    private const uint RecordLost = 2;
    private const uint RecordMmap2 = 10;
    private const int PathOffset = 72;

    private readonly List<(int Fd, nint Pages)> _buffers = [];
    private readonly byte[] _record = new byte[ushort.MaxValue + 1];
    private readonly int _pageSize = Environment.SystemPageSize;

    /// <summary>Opens one buffer for each CPU that is online.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public MappingWatch()
    {
        try
        {
            foreach (int cpu in OnlineCpus())
            {
                Open(cpu);
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Descriptors that poll readable when mappings wait.</summary>
    public IEnumerable<int> Fds => _buffers.Select(static buffer => buffer.Fd);

    /// <summary>Hands every mapping that waits to <paramref name="handler"/>.</summary>
    public void Consume(IMappingHandler handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        foreach ((_, nint pages) in _buffers)
        {
            Consume(pages, handler);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach ((int fd, nint pages) in _buffers)
        {
            _ = Libc.munmap(pages, (nuint)((DataPages + 1) * _pageSize));
            _ = Libc.close(fd);
        }
        _buffers.Clear();
    }

    internal static IEnumerable<int> OnlineCpus(string path = "/sys/devices/system/cpu/online")
    {
        foreach (string range in File.ReadAllText(path).Trim().Split(','))
        {
            string[] ends = range.Split('-');
            int first = int.Parse(ends[0], CultureInfo.InvariantCulture);
            int last = int.Parse(ends[^1], CultureInfo.InvariantCulture);
            for (int cpu = first; cpu <= last; cpu++)
            {
                yield return cpu;
            }
        }
    }

    private void Open(int cpu)
    {
        var attributes = new PerfEventAttributes
        {
            Type = 1, // PERF_TYPE_SOFTWARE
            Size = (uint)sizeof(PerfEventAttributes),
            Config = 9, // PERF_COUNT_SW_DUMMY
            SampleType = (1 << 1) | (1 << 2), // TID | TIME: the trailer of each record
            Flags = (1UL << 8) // mmap
                | (1UL << 14) // watermark
                | (1UL << 18) // sample_id_all
                | (1UL << 23) // mmap2
                | (1UL << 25), // use_clockid
            WakeupWatermark = 1,
            ClockId = 7, // CLOCK_BOOTTIME, as in the ring's records
        };
        nint number = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 241 : 298;
        const nint CloseOnExec = 8;
        nint fd = Libc.syscall(number, &attributes, -1, cpu, -1, CloseOnExec);
        if (fd < 0)
        {
            throw new BpfException($"new mappings cannot be watched on CPU {cpu} (perf_event_open)", Marshal.GetLastPInvokeError());
        }
        nint pages = Libc.mmap(0, (nuint)((DataPages + 1) * _pageSize), Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, (int)fd, 0);
        if (pages == Libc.MapFailed)
        {
            int errno = Marshal.GetLastPInvokeError();
            _ = Libc.close((int)fd);
            throw new BpfException($"the buffer for new mappings on CPU {cpu} cannot be mapped", errno);
        }
        _buffers.Add(((int)fd, pages));
    }

    private void Consume(nint pages, IMappingHandler handler)
    {
        // struct perf_event_mmap_page: data_head at 1024, data_tail at 1032.
        ref ulong head = ref *(ulong*)(pages + 1024);
        ref ulong tail = ref *(ulong*)(pages + 1032);
        var data = new ReadOnlySpan<byte>((void*)(pages + _pageSize), DataPages * _pageSize);

        ulong end = Volatile.Read(ref head);
        ulong position = tail;
        while (position < end)
        {
            Span<byte> header = _record.AsSpan(0, 8);
            Copy(data, position, header);
            int size = BinaryPrimitives.ReadUInt16LittleEndian(header[6..]);
            if (size < 8)
            {
                break; // Never by a sound kernel; do not turn on the spot.
            }
            Span<byte> record = _record.AsSpan(0, size);
            Copy(data, position, record);
            position += (ulong)size;
            Handle(record, handler);
        }
        Volatile.Write(ref tail, end);
    }

    private static void Handle(ReadOnlySpan<byte> record, IMappingHandler handler)
    {
        const int TrailerSize = 16;
        switch (BinaryPrimitives.ReadUInt32LittleEndian(record))
        {
            case RecordMmap2 when record.Length > PathOffset + TrailerSize:
                ReadOnlySpan<byte> path = record[PathOffset..^TrailerSize];
                int nul = path.IndexOf((byte)0);
                var mapping = new ExecutableMapping
                {
                    Tgid = BinaryPrimitives.ReadInt32LittleEndian(record[8..]),
                    Start = BinaryPrimitives.ReadUInt64LittleEndian(record[16..]),
                    Length = BinaryPrimitives.ReadUInt64LittleEndian(record[24..]),
                    FileOffset = BinaryPrimitives.ReadUInt64LittleEndian(record[32..]),
                    TimeNs = BinaryPrimitives.ReadUInt64LittleEndian(record[^8..]),
                    Path = nul < 0 ? path : path[..nul],
                };
                handler.OnMapping(in mapping);
                break;
            case RecordLost when record.Length >= 24:
                handler.OnMappingsLost(BinaryPrimitives.ReadUInt64LittleEndian(record[16..]));
                break;
            default:
                break;
        }
    }

    private static void Copy(ReadOnlySpan<byte> ring, ulong position, Span<byte> to)
    {
        int from = (int)(position % (ulong)ring.Length);
        int first = Math.Min(to.Length, ring.Length - from);
        ring.Slice(from, first).CopyTo(to);
        ring[..(to.Length - first)].CopyTo(to[first..]);
    }

    /// <summary><c>struct perf_event_attr</c>, up to PERF_ATTR_SIZE_VER5.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct PerfEventAttributes
    {
        public uint Type;
        public uint Size;
        public ulong Config;
        public ulong SamplePeriod;
        public ulong SampleType;
        public ulong ReadFormat;
        public ulong Flags;
        public uint WakeupWatermark;
        public uint BreakpointType;
        public ulong Config1;
        public ulong Config2;
        public ulong BranchSampleType;
        public ulong SampleRegsUser;
        public uint SampleStackUser;
        public int ClockId;
        public ulong SampleRegsIntr;
        public uint AuxWatermark;
        public ushort SampleMaxStack;
        public ushort Reserved;
    }
}
