using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Bpf;

/// <summary>A program of a <see cref="BpfObject"/>; lives as long as its object.</summary>
public readonly struct BpfProgram
{
    private readonly BpfObject _owner;
    private readonly nint _program;
    private readonly string _name;

    internal BpfProgram(BpfObject owner, nint program, string name) => (_owner, _program, _name) = (owner, program, name);

    /// <summary>Leaves the program out of the load. Before the load only.</summary>
    public void DoNotLoad() => _ = Libbpf.bpf_program__set_autoload(_program, autoload: false);

    /// <summary>Attaches it to what its section names (a tracepoint).</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public BpfLink Attach() =>
        Link(Libbpf.bpf_program__attach(_program), $"program {_name} cannot be attached");

    /// <summary>One attachment may carry many instructions.</summary>
    internal bool IsUprobeMulti => Libbpf.bpf_program__expected_attach_type(_program) == UprobeMulti.AttachType;

    /// <summary>
    /// Attaches it as a uprobe to instructions of a file, in every process that maps the file now or later. Disposing the
    /// handle detaches; so does the end of the process, however it ends.
    /// </summary>
    /// <param name="path">The file. <c>/proc/self/fd/N</c> pins the file that was looked at.</param>
    /// <param name="offsets">
    /// Offsets of the instructions in the file, in bytes; one, unless <see cref="IsUprobeMulti"/>. When one is refused, none
    /// is attached.
    /// </param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public SafeHandle AttachUprobe(string path, params ReadOnlySpan<ulong> offsets)
    {
        string what = $"program {_name} cannot be attached to {path} at offset {string.Join(", ", offsets.ToArray().Select(static o => $"0x{o:x}"))}";
        if (IsUprobeMulti)
        {
            SafeFileHandle link = UprobeMulti.Attach(Libbpf.bpf_program__fd(_program), path, offsets);
            int errno = Marshal.GetLastPInvokeError();
            GC.KeepAlive(_owner);
            return link.IsInvalid ? throw new BpfException(what, errno) : link;
        }
        return Link(Libbpf.bpf_program__attach_uprobe(_program, onReturn: false, pid: -1, path, checked((nuint)offsets[0])), what, Capabilities.ForUprobe);
    }

    /// <summary>
    /// Attaches it as an iterator over all processes, or over one; where the kernel (before 6.1) cannot choose, over
    /// all in any case. <see cref="BpfLink.RunIterator()"/> runs it.
    /// </summary>
    /// <param name="tgid">The process; null: all.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public unsafe BpfLink AttachIterator(int? tgid)
    {
        nint link = 0;
        if (tgid is { } only)
        {
            var one = new Libbpf.IteratorTask { Tgid = (uint)only };
            var options = new Libbpf.IteratorOptions
            {
                Size = (nuint)sizeof(Libbpf.IteratorOptions),
                Task = &one,
                TaskSize = (uint)sizeof(Libbpf.IteratorTask),
            };
            link = Libbpf.bpf_program__attach_iter(_program, &options);
        }
        if (link == 0)
        {
            _ = LibbpfLog.TakeWarnings();
            link = Libbpf.bpf_program__attach_iter(_program, null);
        }
        return Link(link, $"iterator {_name} cannot be attached");
    }

    private BpfLink Link(nint link, string what, int[]? takes = null)
    {
        int errno = Marshal.GetLastPInvokeError();
        GC.KeepAlive(_owner);
        return link != 0 ? new BpfLink(link, _name) : throw new BpfException(what, errno, LibbpfLog.TakeWarnings(), takes);
    }
}

/// <summary>An attachment. Disposing it detaches; so does the end of the process, however it ends.</summary>
public sealed unsafe class BpfLink : SafeHandle
{
    private readonly string _program;

    internal BpfLink(nint link, string program)
        : base(0, ownsHandle: true)
    {
        SetHandle(link);
        _program = program;
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Runs an attached iterator that writes nothing, from its first element to its last.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void RunIterator() => RunIterator<byte>(stackalloc byte[64], null);

    /// <summary>Runs an attached iterator from its first element to its last, and hands out what its program writes.</summary>
    /// <param name="buffer">
    /// Takes the records, part by part: the kernel gives at most 8 pages at a time, and a larger buffer saves no call.
    /// </param>
    /// <param name="take">Takes each part; the buffer is used again after it.</param>
    /// <typeparam name="TRecord">What the program writes at once.</typeparam>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void RunIterator<TRecord>(Span<TRecord> buffer, Action<ReadOnlySpan<TRecord>>? take)
        where TRecord : unmanaged
    {
        int fd = Libbpf.bpf_iter_create(Libbpf.bpf_link__fd(handle));
        if (fd < 0)
        {
            throw new BpfException($"iterator {_program} cannot be run", -fd);
        }
        try
        {
            fixed (TRecord* records = buffer)
            {
                for (int got; (got = Read(fd, records, buffer.Length * sizeof(TRecord))) > 0;)
                {
                    take?.Invoke(buffer[..(got / sizeof(TRecord))]);
                }
            }
        }
        finally
        {
            _ = Libc.close(fd);
        }
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Libbpf.bpf_link__destroy(handle) == 0;

    private int Read(int fd, void* buffer, int size)
    {
        nint got;
        int errno;
        do
        {
            got = Libc.read(fd, buffer, (nuint)size);
            errno = Marshal.GetLastPInvokeError();
        }
        while (got < 0 && (errno is Libc.EINTR or Libc.EAGAIN)); // EAGAIN: a million elements, and nothing written yet.
        return got >= 0 ? (int)got : throw new BpfException($"iterator {_program} cannot be read", errno);
    }
}
