using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>Takes the records of a <see cref="RingBuffer"/>.</summary>
public interface IRecordHandler
{
    /// <summary>One record, in place: the bytes are the kernel's again when the call returns.</summary>
    void OnRecord(ReadOnlySpan<byte> record);
}

/// <summary>The consumer of a BPF ring buffer. Nothing is allocated for a record. One thread at a time.</summary>
public sealed unsafe class RingBuffer : SafeHandle
{
    private readonly IRecordHandler _handler;
    private readonly nint _positions;
    private GCHandle _self;
    private Exception? _failure;

    /// <summary>Opens the consumer side of <paramref name="ring"/>.</summary>
    /// <exception cref="BpfException">The map is no ring buffer, or memory is short.</exception>
    public RingBuffer(BpfMap ring, IRecordHandler handler)
        : base(0, ownsHandle: true)
    {
        _handler = handler;
        Capacity = ring.Capacity;
        _self = GCHandle.Alloc(this, GCHandleType.Weak);
        nint created = Libbpf.ring_buffer__new(ring.Fd, &OnRecord, GCHandle.ToIntPtr(_self), 0);
        if (created == 0)
        {
            int errno = Marshal.GetLastPInvokeError();
            _self.Free();
            throw new BpfException("the ring buffer cannot be opened", errno, LibbpfLog.TakeWarnings());
        }
        SetHandle(created);

        // Consumer and producer positions are the ring's first two pages.
        nint pages = Libc.mmap(0, 2 * (nuint)Environment.SystemPageSize, Libc.ProtRead, Libc.MapShared, ring.Fd, 0);
        _positions = pages == Libc.MapFailed ? 0 : pages;
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Size of the ring in bytes.</summary>
    public long Capacity { get; }

    /// <summary>Readable (for poll and epoll) when records wait.</summary>
    public int Fd => Libbpf.ring_buffer__epoll_fd(handle);

    /// <summary>Bytes that wait to be read, record headers included.</summary>
    public long Used => _positions == 0 || IsClosed
        ? 0
        : Math.Max(0, Volatile.Read(ref *(long*)(_positions + Environment.SystemPageSize)) - Volatile.Read(ref *(long*)_positions));

    /// <summary>Hands every record that waits to the handler. Returns how many.</summary>
    /// <exception cref="BpfException">The ring cannot be read.</exception>
    public int Consume()
    {
        int taken = Libbpf.ring_buffer__consume(handle);
        if (_failure is { } failure)
        {
            _failure = null;
            throw new InvalidOperationException("a record handler failed", failure);
        }
        return taken >= 0 ? taken : throw new BpfException("the ring buffer cannot be read", -taken);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        Libbpf.ring_buffer__free(handle);
        if (_positions != 0)
        {
            _ = Libc.munmap(_positions, 2 * (nuint)Environment.SystemPageSize);
        }
        _self.Free();
        return true;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int OnRecord(nint context, byte* data, nuint size)
    {
        var self = (RingBuffer)GCHandle.FromIntPtr(context).Target!;
        try
        {
            self._handler.OnRecord(new ReadOnlySpan<byte>(data, (int)size));
            return 0;
        }
#pragma warning disable CA1031 // An exception must not cross native frames: Consume throws it again.
        catch (Exception e)
#pragma warning restore CA1031
        {
            self._failure = e;
            return -1;
        }
    }
}
