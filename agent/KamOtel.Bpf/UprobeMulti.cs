using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Bpf;

/// <summary>
/// Links to uprobes, which came with Linux 6.6. Unlike a uprobe of a perf event a link needs no CAP_SYS_ADMIN where newer
/// kernels ask for it; many are taken away in the time of one, which is some 80 ms; and one link carries many instructions.
/// libbpf 1.1 does not know them.
/// </summary>
internal static unsafe class UprobeMulti
{
    /// <summary>BPF_TRACE_UPROBE_MULTI.</summary>
    public const int AttachType = 48;

    /// <summary>BPF_LINK_CREATE.</summary>
    private const int LinkCreateCommand = 28;

    /// <summary>BPF_PROG_TYPE_KPROBE.</summary>
    private const int Kprobe = 2;

    private static readonly Lazy<bool> Supported = new(Try);

    /// <summary>
    /// This kernel has them. It is tried, for the version tells little: distributions bring such things to old kernels. Who
    /// may not load a program gets what the version says.
    /// </summary>
    public static bool IsSupported => Supported.Value;

    /// <summary>Attaches a loaded program. An invalid handle leaves the reason in <see cref="Marshal.GetLastPInvokeError"/>.</summary>
    public static SafeFileHandle Attach(int program, string path, ReadOnlySpan<ulong> offsets)
    {
        fixed (byte* pinned = Encoding.UTF8.GetBytes(path + '\0'))
        fixed (ulong* first = offsets)
        {
            var attributes = new LinkCreate
            {
                Program = (uint)program,
                Type = AttachType,
                Path = (ulong)pinned,
                Offsets = (ulong)first,
                Count = (uint)offsets.Length,
            };
            nint fd = Libc.syscall(RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 280 : 321, (void*)LinkCreateCommand, (nint)(&attributes), sizeof(LinkCreate), 0, 0);
            return new SafeFileHandle(fd, ownsHandle: true);
        }
    }

    private static bool Try()
    {
        ulong* nothing = stackalloc ulong[] { 0xb7, 0x95 }; // r0 = 0; exit
        var options = new Libbpf.ProgramLoadOptions { Size = (nuint)sizeof(Libbpf.ProgramLoadOptions), ExpectedAttachType = AttachType };
        int program = Libbpf.bpf_prog_load(Kprobe, "kamotel_trial", "GPL", nothing, 2, in options);
        if (program < 0)
        {
            return OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 6, 6);
        }
        // A folder has no instructions: who knows such links says so, and everybody else that it is no use.
        using SafeFileHandle link = Attach(program, "/", [0]);
        bool known = Marshal.GetLastPInvokeError() == Libc.EBADF;
        _ = Libc.close(program);
        return known;
    }

    /// <summary>The part of <c>union bpf_attr</c> that makes a link to uprobes.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct LinkCreate
    {
        public uint Program;
        public uint Target;
        public uint Type;
        public uint Flags;
        public ulong Path;
        public ulong Offsets;
        public ulong ReferenceCounters;
        public ulong Cookies;
        public uint Count;
        public uint ProbeFlags;
        public uint Pid;
        public uint Reserved;
    }
}
