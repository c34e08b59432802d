using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>Something that the kernel or libbpf refused. The message names the thing, the kernel's reason and the remedy.</summary>
public sealed class BpfException : Exception
{
    /// <param name="what">What failed, as a sentence without its end.</param>
    /// <param name="errno">The kernel's error number.</param>
    /// <param name="detail">More of it.</param>
    /// <param name="takes">The capabilities that it takes; null: those of loading a program.</param>
    internal BpfException(string what, int errno, string? detail = null, int[]? takes = null)
        : base(Compose(what, errno, detail, takes ?? Capabilities.ForLoad)) => Errno = errno;

    internal BpfException(string message, Exception? inner = null)
        : base(message, inner)
    {
    }

    private BpfException(int errno, string message)
        : base(message) => Errno = errno;

    /// <summary>The kernel's error number, or 0.</summary>
    public int Errno { get; }

    /// <summary>The kernel (or a container's limits) refused for want of privilege.</summary>
    public bool Denied => Errno is Libc.EPERM or Libc.EACCES;

    /// <summary>It need not be tried: a capability is missing.</summary>
    internal static BpfException Missing(string what, Capabilities own, int[] takes) => new(Libc.EPERM, $"{what}: {own.Remedy(takes)}");

    private static string Compose(string what, int errno, string? detail, int[] takes)
    {
        string reason = Marshal.GetPInvokeErrorMessage(errno);
        string remedy = errno switch
        {
            Libc.EPERM or Libc.EACCES => $"; {Capabilities.Own.Remedy(takes)}",
            Libc.ENOMEM => "; memory is short, or the memlock limit of a kernel before 5.11 is too small: raise LimitMEMLOCK or lower --ring-bytes",
            Libc.EINVAL or Libc.EOPNOTSUPP => "; the kernel may be too old: 5.8 with BTF is the oldest that can do it",
            Libc.E2BIG => "; the kernel's verifier gave up: please report it with the kernel's version",
            _ => "",
        };
        detail = string.IsNullOrWhiteSpace(detail) ? "" : $" [{detail.Trim()}]";
        return $"{what}: {reason} (errno {errno}){remedy}{detail}";
    }
}
