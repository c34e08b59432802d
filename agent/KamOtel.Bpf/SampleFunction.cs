using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Bpf;

/// <summary>What the first instruction of a function is to the kernel, which decides what a uprobe on it costs.</summary>
public enum EntryInstruction
{
    /// <summary>None of the others.</summary>
    Unknown,

    /// <summary><c>push</c>: the kernel emulates it, and there is one trap.</summary>
    Push,

    /// <summary><c>sub $n,%rsp</c>: the kernel steps over a copy of it, and there are two.</summary>
    Subtract,

    /// <summary><c>endbr64</c>, where control-flow protection is built in.</summary>
    EndBranch,
}

/// <summary>
/// Functions that do nothing, in nameless memory that this process alone maps: a probe on them slows nobody else. x86-64 only.
/// </summary>
public sealed unsafe class SampleFunction : IDisposable
{
    private const uint CloseOnExec = 1;
    private const uint Executable = 0x10;
    private const int ProtExec = 4;
    private const int Spacing = 64;

    private static readonly byte[][] Bodies =
    [
        [0x0f, 0x1f, 0x00, 0xc3], // nop; ret
        [0x53, 0x5b, 0xc3], // push %rbx; pop %rbx; ret
        [0x48, 0x83, 0xec, 0x08, 0x48, 0x83, 0xc4, 0x08, 0xc3], // sub $8,%rsp; add $8,%rsp; ret
        [0xf3, 0x0f, 0x1e, 0xfa, 0xc3], // endbr64; ret
    ];

    private readonly SafeFileHandle _file;
    private readonly nint _code;

    /// <summary>Maps them.</summary>
    /// <exception cref="BpfException">The kernel refused, or this is another machine.</exception>
    public SampleFunction()
    {
        if (!IsPossible)
        {
            throw new BpfException("there is no sample function for this machine: on x86-64 only");
        }
        nuint page = (nuint)Environment.SystemPageSize;
        fixed (byte* name = "kamotel-sample\0"u8)
        {
            int fd = Libc.memfd_create(name, CloseOnExec | Executable);
            fd = fd < 0 && Marshal.GetLastPInvokeError() == Libc.EINVAL ? Libc.memfd_create(name, CloseOnExec) : fd;
            _file = fd >= 0 ? new SafeFileHandle(fd, ownsHandle: true) : throw new BpfException("memory for a sample function cannot be had (memfd_create; see the sysctl vm.memfd_noexec)", Marshal.GetLastPInvokeError(), takes: []);
        }
        byte[] code = new byte[page];
        for (int i = 0; i < Bodies.Length; i++)
        {
            Bodies[i].CopyTo(code, i * Spacing);
        }
        RandomAccess.Write(_file, code, 0);
        _code = Libc.mmap(0, page, Libc.ProtRead | ProtExec, Libc.MapPrivate, (int)_file.DangerousGetHandle(), 0);
        if (_code == Libc.MapFailed)
        {
            int errno = Marshal.GetLastPInvokeError();
            _file.Dispose();
            throw new BpfException("a sample function cannot be mapped as code", errno, takes: []);
        }
    }

    /// <summary>This machine has them.</summary>
    public static bool IsPossible => RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>The file, for <see cref="KernelTrial"/>.</summary>
    public string Path => $"/proc/self/fd/{_file.DangerousGetHandle()}";

    /// <summary>Where in the file the function is that begins so.</summary>
    public static ulong OffsetOf(EntryInstruction entry) => (ulong)((int)entry * Spacing);

    /// <summary>What the first instruction of a function is; its first bytes will do.</summary>
    public static EntryInstruction Recognise(ReadOnlySpan<byte> code) => code switch
    {
        [0x50 or 0x51 or 0x52 or 0x53 or 0x54 or 0x55 or 0x56 or 0x57, ..] => EntryInstruction.Push,
        [0x41, >= 0x50 and <= 0x57, ..] => EntryInstruction.Push,
        [0x48, 0x83, 0xec, ..] or [0x48, 0x81, 0xec, ..] => EntryInstruction.Subtract,
        [0xf3, 0x0f, 0x1e, 0xfa, ..] => EntryInstruction.EndBranch,
        _ => EntryInstruction.Unknown,
    };

    /// <summary>Calls the function that begins so.</summary>
    public void Call(EntryInstruction entry, int times)
    {
        var function = (delegate* unmanaged[Cdecl]<void>)(_code + (nint)OffsetOf(entry));
        for (int i = 0; i < times; i++)
        {
            function();
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _ = Libc.munmap(_code, (nuint)Environment.SystemPageSize);
        _file.Dispose();
    }
}
