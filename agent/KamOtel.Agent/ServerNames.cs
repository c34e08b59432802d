using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>What servers are called outside: from what /proc tells, and their host names, which only the kernel does.</summary>
internal sealed partial class ServerNames(KernelSide kernel, ProcFs proc, ILogger logger)
{
    /// <summary>kthreadd, the kernel's own process: what it has for a host name is the node's.</summary>
    private const int Kernel = 2;

    private bool _refusalTold;

    /// <summary>The name of the server that a process belongs to; null when it is gone already.</summary>
    public ServerName? Of(ProcessId process) => TargetName.Of(proc, process, HostNameOf(process)).TryGet(out ServerName? name) ? name : null;

    /// <summary>
    /// A container's own host name. A namespace alone is none: Docker gives one with the node's name to a container in the
    /// node's network, and systemd to a service with <c>ProtectHostname=</c>.
    /// </summary>
    internal static string? OwnOf(HostName own, HostName node) =>
        own.Namespace == node.Namespace || own.Name == node.Name || own.Name is "" or "(none)" ? null : own.Name;

    private string? HostNameOf(ProcessId process)
    {
        try
        {
            return kernel.ReadHostName(process.Tgid) is { } own && own.Process == process && kernel.ReadHostName(Kernel) is { } node ? OwnOf(own, node) : null;
        }
        catch (BpfException e)
        {
            if (!_refusalTold)
            {
                _refusalTold = true;
                HostNamesRefused(logger, e.Message);
            }
            return null;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "containers are called by their ids, as their host names cannot be read: {Reason}")]
    private static partial void HostNamesRefused(ILogger logger, string reason);
}
