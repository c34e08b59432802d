using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>What became of a message to or from the unwinder.</summary>
internal enum TalkOutcome
{
    Done,

    /// <summary>The process is gone, or closed its end.</summary>
    Gone,

    /// <summary>The time is over.</summary>
    Late,

    /// <summary>The kernel takes no message of this size.</summary>
    TooLong,
}

/// <summary>One running unwinder. One thread at a time.</summary>
internal sealed class UnwinderProcess : IDisposable
{
    private const int SchedulerClock = 2;
    private const int MessageTooLong = 90;

    /// <summary>For one that cannot be ended to end by itself.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(1);

    private readonly SafeFileHandle _socket;
    private readonly SafeFileHandle _progress;
    private bool _reaped;

    private UnwinderProcess(int pid, SafeFileHandle socket, SafeFileHandle progress) => (Pid, _socket, _progress) = (pid, socket, progress);

    public int Pid { get; }

    /// <summary>False once the kernel did not let us end it: CAP_KILL is missing.</summary>
    public bool MayBeEnded { get; private set; } = true;

    /// <summary>The file that it works on; 0 for none. What it says, not what is true.</summary>
    public ulong CurrentFile
    {
        get
        {
            Span<byte> value = stackalloc byte[8];
            return RandomAccess.Read(_progress, value, 0) == 8 ? BinaryPrimitives.ReadUInt64LittleEndian(value) : 0;
        }
    }

    /// <summary>Its processor time so far, in nanoseconds.</summary>
    public long ProcessorTime => Native.Clock((~Pid << 3) | SchedulerClock);

    /// <summary>Null leaves the reason.</summary>
    public static UnwinderProcess? Start(SafeFileHandle program, out string reason)
    {
        reason = string.Empty;
        bool paired = UnwinderNative.TrySocketPair(out SafeFileHandle ours, out SafeFileHandle theirs);
        int error = paired ? 0 : Native.LastError;
        SafeFileHandle progress = UnwinderNative.CreatePage();
        error = error == 0 && progress.IsInvalid ? Native.LastError : error;
        int pid = 0;
        using (theirs)
        {
            error = error == 0 ? UnwinderNative.Spawn(program, theirs, progress, out pid) : error;
        }

        if (error == 0)
        {
            return new(pid, ours, progress);
        }

        ours.Dispose();
        progress.Dispose();
        reason = $"the unwinder cannot be started: errno {error}";
        return null;
    }

    /// <summary>Whether it ended since it was last talked to.</summary>
    public bool HasEnded()
    {
        _reaped = _reaped || UnwinderNative.HasEnded(Pid, out _);
        return _reaped;
    }

    public TalkOutcome Send(ReadOnlySpan<byte> message, ImmutableArray<StackWindow> windows, SafeFileHandle? file, long deadline)
    {
        Span<MemoryRange> parts = stackalloc MemoryRange[1 + UnwinderProtocol.MaxWindows];
        Span<MemoryHandle> pins = new MemoryHandle[UnwinderProtocol.MaxWindows];
        int count = 1;
        bool added = false;
        try
        {
            unsafe
            {
                fixed (byte* start = message)
                {
                    parts[0] = new((ulong)start, (ulong)message.Length);
                    foreach (StackWindow window in windows)
                    {
                        pins[count - 1] = window.Bytes.Pin();
                        parts[count] = new((ulong)pins[count - 1].Pointer, (ulong)window.Bytes.Length);
                        count++;
                    }

                    file?.DangerousAddRef(ref added);
                    return Send(parts[..count], added ? (int)file!.DangerousGetHandle() : -1, deadline);
                }
            }
        }
        finally
        {
            if (added)
            {
                file!.DangerousRelease();
            }

            foreach (MemoryHandle pin in pins)
            {
                pin.Dispose();
            }
        }
    }

    public TalkOutcome Receive(Span<byte> buffer, long deadline, out int length)
    {
        length = 0;
        while (true)
        {
            nint received = UnwinderNative.Receive(_socket, buffer, out int errno);
            if (received > 0)
            {
                // A message that was longer than the buffer makes no sense to whoever reads it.
                length = (int)Math.Min(received, buffer.Length);
                return TalkOutcome.Done;
            }

            if (received == 0 || errno != UnwinderNative.Again)
            {
                return TalkOutcome.Gone;
            }

            if (!WaitUntil(UnwinderNative.PollIn, deadline))
            {
                return TalkOutcome.Late;
            }
        }
    }

    /// <summary>Ends it if it lives, and tells what it ended of, in waitpid(2)'s words.</summary>
    public int End()
    {
        if (_reaped)
        {
            return -1;
        }

        // It may be on its way to its end already; that keeps its reason.
        if (UnwinderNative.Kill(Pid))
        {
            _reaped = true;
            return UnwinderNative.Reap(Pid);
        }

        // It gave up root, and root without CAP_KILL may not end it: but it ends when nobody is there to talk to.
        MayBeEnded = false;
        _socket.Dispose();
        long start = Stopwatch.GetTimestamp();
        while (!UnwinderNative.HasEnded(Pid, out _))
        {
            if (Stopwatch.GetElapsedTime(start) > Patience)
            {
                return -1;
            }

            Thread.Sleep(1);
        }

        _reaped = true;
        return -1;
    }

    public void Dispose()
    {
        _ = End();
        _socket.Dispose();
        _progress.Dispose();
    }

    private TalkOutcome Send(ReadOnlySpan<MemoryRange> parts, int descriptor, long deadline)
    {
        while (!UnwinderNative.TrySend(_socket, parts, descriptor, out int errno))
        {
            if (errno == MessageTooLong)
            {
                return TalkOutcome.TooLong;
            }

            if (errno != UnwinderNative.Again)
            {
                return TalkOutcome.Gone;
            }

            if (!WaitUntil(UnwinderNative.PollOut, deadline))
            {
                return TalkOutcome.Late;
            }
        }

        return TalkOutcome.Done;
    }

    private bool WaitUntil(short events, long deadline)
    {
        double left = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), deadline).TotalMilliseconds;
        return left > 0 && UnwinderNative.Wait(_socket, events, (int)Math.Ceiling(left));
    }
}
