using System.Runtime.InteropServices;

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

    /// <summary>
    /// Attaches it as a uprobe to an instruction of a file, in every process that maps the file now or later.
    /// </summary>
    /// <param name="path">The file. <c>/proc/self/fd/N</c> pins the file that was looked at.</param>
    /// <param name="offset">Offset of the instruction in the file, in bytes.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public BpfLink AttachUprobe(string path, ulong offset) =>
        Link(
            Libbpf.bpf_program__attach_uprobe(_program, onReturn: false, pid: -1, path, (nuint)offset),
            $"program {_name} cannot be attached to {path} at offset 0x{offset:x}");

    /// <summary>
    /// Attaches it as an iterator over one process, or over all where the kernel (before 6.1) cannot choose;
    /// <see cref="BpfLink.RunIterator"/> runs it.
    /// </summary>
    /// <param name="tgid">The process.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public unsafe BpfLink AttachIterator(int tgid)
    {
        var one = new Libbpf.IteratorTask { Tgid = (uint)tgid };
        var options = new Libbpf.IteratorOptions
        {
            Size = (nuint)sizeof(Libbpf.IteratorOptions),
            Task = &one,
            TaskSize = (uint)sizeof(Libbpf.IteratorTask),
        };
        nint link = Libbpf.bpf_program__attach_iter(_program, &options);
        if (link == 0)
        {
            _ = LibbpfLog.TakeWarnings();
            link = Libbpf.bpf_program__attach_iter(_program, null);
        }
        return Link(link, $"iterator {_name} cannot be attached");
    }

    private BpfLink Link(nint link, string what)
    {
        int errno = Marshal.GetLastPInvokeError();
        GC.KeepAlive(_owner);
        return link != 0 ? new BpfLink(link) : throw new BpfException(what, errno, LibbpfLog.TakeWarnings());
    }
}

/// <summary>An attachment. Disposing it detaches; so does the end of the process, however it ends.</summary>
public sealed unsafe class BpfLink : SafeHandle
{
    internal BpfLink(nint link)
        : base(0, ownsHandle: true) => SetHandle(link);

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>Runs an attached iterator from its first element to its last.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void RunIterator()
    {
        int fd = Libbpf.bpf_iter_create(Libbpf.bpf_link__fd(handle));
        if (fd < 0)
        {
            throw new BpfException("an iterator cannot be run", -fd);
        }
        try
        {
            byte* unused = stackalloc byte[64];
            while (Libc.read(fd, unused, 64) > 0)
            {
                // The program writes nothing; reading drives it.
            }
        }
        finally
        {
            _ = Libc.close(fd);
        }
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Libbpf.bpf_link__destroy(handle) == 0;
}
