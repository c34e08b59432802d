using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Extensions.Logging;

namespace KamOtel.Bpf;

/// <summary>
/// A compiled BPF object: open it, configure it, load it, attach its programs. Not thread-safe before the load;
/// map look-ups are.
/// </summary>
public sealed unsafe class BpfObject : SafeHandle
{
    private readonly string _name;

    private BpfObject(nint handle, string name)
        : base(0, ownsHandle: true)
    {
        SetHandle(handle);
        _name = name;
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>The version of the libbpf in use, such as <c>v1.1</c>.</summary>
    /// <exception cref="BpfException">libbpf is not installed.</exception>
    public static string LibbpfVersion => Guarded(static () => Marshal.PtrToStringUTF8((nint)Libbpf.libbpf_version_string())!);

    /// <summary>Opens an object from its ELF image; nothing reaches the kernel yet.</summary>
    /// <param name="image">The ELF file's bytes.</param>
    /// <param name="name">What the object is called in errors.</param>
    /// <param name="logger">Where libbpf's own log goes.</param>
    /// <exception cref="BpfException">libbpf is missing, or the image is no BPF object.</exception>
    public static BpfObject Open(ReadOnlySpan<byte> image, string name, ILogger logger)
    {
        byte[] copy = image.ToArray();
        return Guarded(() =>
        {
            LibbpfLog.RouteTo(logger);
            _ = LibbpfLog.TakeWarnings();
            byte[] utf8 = Encoding.UTF8.GetBytes(name + '\0');
            fixed (byte* bytes = copy, text = utf8)
            {
                var options = new Libbpf.OpenOptions { Size = (nuint)sizeof(Libbpf.OpenOptions), Name = text };
                nint opened = Libbpf.bpf_object__open_mem(bytes, (nuint)copy.Length, in options);
                return opened != 0
                    ? new BpfObject(opened, name)
                    : throw new BpfException($"BPF object {name} cannot be opened", Marshal.GetLastPInvokeError(), LibbpfLog.TakeWarnings());
            }
        });
    }

    /// <summary>Gives the object to the kernel: maps are made, programs verified.</summary>
    /// <exception cref="BpfException">The kernel refused; the message has the verifier's last words.</exception>
    public void Load()
    {
        int error = Libbpf.bpf_object__load(handle);
        if (error < 0)
        {
            throw new BpfException($"BPF object {_name} cannot be loaded", -error, LibbpfLog.TakeWarnings());
        }
    }

    /// <summary>
    /// Leaves everything out of the load but these programs and maps; the programs may use no other. Before the load
    /// only.
    /// </summary>
    /// <exception cref="BpfException">The object has no such program or map.</exception>
    public void LoadOnly(IEnumerable<string> programs, IEnumerable<string> maps)
    {
        HashSet<nint> wanted = [.. programs.Select(FindProgram), .. maps.Select(FindMap)];
        for (nint program = 0; (program = Libbpf.bpf_object__next_program(handle, program)) != 0;)
        {
            _ = Libbpf.bpf_program__set_autoload(program, wanted.Contains(program));
        }
        for (nint map = 0; (map = Libbpf.bpf_object__next_map(handle, map)) != 0;)
        {
            _ = Libbpf.bpf_map__set_autocreate(map, wanted.Contains(map));
        }
    }

    /// <summary>Makes all uprobes of the kind that <see cref="UprobeMulti"/> attaches, and nothing else does. Before the load only.</summary>
    internal void MakeUprobesMulti()
    {
        for (nint program = 0; (program = Libbpf.bpf_object__next_program(handle, program)) != 0;)
        {
            if (MemoryMarshal.CreateReadOnlySpanFromNullTerminated(Libbpf.bpf_program__section_name(program)).SequenceEqual("uprobe"u8))
            {
                _ = Libbpf.bpf_program__set_expected_attach_type(program, UprobeMulti.AttachType);
            }
        }
    }

    /// <summary>One of the object's maps.</summary>
    /// <exception cref="BpfException">The object has no such map.</exception>
    public BpfMap Map(string name) => new(this, FindMap(name), name);

    /// <summary>One of the object's programs.</summary>
    /// <exception cref="BpfException">The object has no such program.</exception>
    public BpfProgram Program(string name) => new(this, FindProgram(name), name);

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        Libbpf.bpf_object__close(handle);
        return true;
    }

    private nint FindMap(string name)
    {
        nint map = Libbpf.bpf_object__find_map_by_name(handle, name);
        return map != 0 ? map : throw new BpfException($"BPF object {_name} has no map {name}", Libc.ENOENT);
    }

    private nint FindProgram(string name)
    {
        nint program = Libbpf.bpf_object__find_program_by_name(handle, name);
        return program != 0 ? program : throw new BpfException($"BPF object {_name} has no program {name}", Libc.ENOENT);
    }

    private static T Guarded<T>(Func<T> action)
    {
        try
        {
            return action();
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException)
        {
            throw new BpfException("libbpf 1.0 or later (libbpf.so.1) is missing; on Debian and Ubuntu: apt-get install libbpf1", e);
        }
    }
}
