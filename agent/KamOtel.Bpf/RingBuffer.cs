using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>Takes the records of a <see cref="RingBuffer"/>.</summary>
public interface IRecordHandler
{
    /// <summary>One record, in place: the bytes are the kernel's again when the call returns.</summary>
    void OnRecord(ReadOnlySpan<byte> record);
}

/// <summary>
/// The consumer of a BPF ring buffer (<c>kernel/bpf/ringbuf.c</c>). Nothing is allocated for a record. One thread at a time. libbpf's
/// maps the records twice as a whole, so that one over the end is in one piece, and all of it counts as the agent's memory: here
/// they are mapped once, and their beginning once more.
/// </summary>
public sealed unsafe class RingBuffer : SafeHandle
{
    /// <summary>No record is longer, with its header: the longest has a stack of 64 KiB.</summary>
    private const int MaxRecord = 128 * 1024;

    private const int HeaderSize = 8;
    private const uint Busy = 1u << 31;
    private const uint Discarded = 1u << 30;

    private readonly IRecordHandler _handler;
    private readonly int _pageSize = Environment.SystemPageSize;
    private readonly nint _records;
    private readonly nuint _recordsLength;

    /// <summary>Opens the consumer side of <paramref name="ring"/>.</summary>
    /// <exception cref="BpfException">The map is no ring buffer, or memory is short.</exception>
    public RingBuffer(BpfMap ring, IRecordHandler handler)
        : base(0, ownsHandle: true)
    {
        _handler = handler;
        Capacity = ring.Capacity;
        Fd = ring.Fd;
        SetHandle(Map(length: (nuint)_pageSize, Libc.ProtRead | Libc.ProtWrite, offset: 0));
        // The producer's page, the records, and the first of them again.
        _recordsLength = (nuint)(_pageSize + Capacity + Math.Min(Capacity, MaxRecord));
        try
        {
            _records = Map(_recordsLength, Libc.ProtRead, offset: _pageSize);
        }
        catch
        {
            Dispose();
            throw;
        }

        nint Map(nuint length, int protection, nint offset)
        {
            nint mapped = Libc.mmap(0, length, protection, Libc.MapShared, Fd, offset);
            return mapped != Libc.MapFailed ? mapped : throw new BpfException("the ring buffer cannot be opened", Marshal.GetLastPInvokeError());
        }
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Size of the ring in bytes.</summary>
    public long Capacity { get; }

    /// <summary>Readable (for poll and epoll) when records wait. The map's: valid as long as that.</summary>
    public int Fd { get; }

    /// <summary>Bytes that wait to be read, record headers included.</summary>
    public long Used => IsClosed ? 0 : Math.Max(0, Volatile.Read(ref *(long*)_records) - Volatile.Read(ref *(long*)handle));

    /// <summary>Hands every record that waits to the handler. Returns how many.</summary>
    public int Consume()
    {
        ref long consumed = ref *(long*)handle;
        byte* records = (byte*)_records + _pageSize;
        int taken = 0;
        long at = consumed;
        while (at < Volatile.Read(ref *(long*)_records))
        {
            byte* header = records + (at & (Capacity - 1));
            uint length = Volatile.Read(ref *(uint*)header);
            if ((length & Busy) != 0)
            {
                break; // Being written: the kernel wakes us when it is done.
            }

            uint size = length & ~(Busy | Discarded);
            if (HeaderSize + size > MaxRecord)
            {
                throw new InvalidDataException($"a record of {size} bytes is in the ring, and {MaxRecord} are the most");
            }

            at += (HeaderSize + size + 7) & ~7L;
            try
            {
                if ((length & Discarded) == 0)
                {
                    taken++;
                    _handler.OnRecord(new ReadOnlySpan<byte>(header + HeaderSize, (int)size));
                }
            }
            finally
            {
                // The place is the kernel's again at once. A full barrier: it looks whether all was consumed to decide whether to
                // wake us, and what it wrote before that must be seen by the loop's next turn.
                _ = Interlocked.Exchange(ref consumed, at);
            }
        }

        return taken;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        if (_records != 0)
        {
            _ = Libc.munmap(_records, _recordsLength);
        }

        return Libc.munmap(handle, (nuint)_pageSize) == 0;
    }
}
