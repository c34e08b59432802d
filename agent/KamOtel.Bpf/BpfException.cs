using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>Something that the kernel or libbpf refused. The message names the thing, the kernel's reason and the remedy.</summary>
public sealed class BpfException : Exception
{
    internal BpfException(string what, int errno, string? detail = null)
        : base(Compose(what, errno, detail)) => Errno = errno;

    internal BpfException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }

    /// <summary>The kernel's error number, or 0.</summary>
    public int Errno { get; }

    /// <summary>The kernel (or a container's limits) refused for want of privilege.</summary>
    public bool Denied => Errno is Libc.EPERM or Libc.EACCES;

    private static string Compose(string what, int errno, string? detail)
    {
        string reason = Marshal.GetPInvokeErrorMessage(errno);
        string remedy = errno switch
        {
            Libc.EPERM or Libc.EACCES => "; run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE (a kernel in lockdown mode refuses even root)",
            Libc.ENOMEM => "; memory is short, or the memlock limit of a kernel before 5.11 is too small: raise LimitMEMLOCK or lower --ring-bytes",
            Libc.EINVAL or Libc.EOPNOTSUPP => "; the kernel may be too old: 5.8 with BTF is the oldest that can do it",
            Libc.E2BIG => "; the kernel's verifier gave up: please report it with the kernel's version",
            _ => "",
        };
        detail = string.IsNullOrWhiteSpace(detail) ? "" : $" [{detail.Trim()}]";
        return $"{what}: {reason} (errno {errno}){remedy}{detail}";
    }
}
