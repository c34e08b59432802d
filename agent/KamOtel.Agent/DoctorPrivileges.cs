using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>Which capabilities a thing takes, and how to give them. Read only after the thing was refused: what works is tried.</summary>
internal static class DoctorPrivileges
{
    /// <summary>What the kernel asks for, by what it is asked. Any of those in a group will do; every group must be there.</summary>
    private static readonly Dictionary<string, string[][]> Takes = new(StringComparer.Ordinal)
    {
        ["programs"] = [["CAP_BPF"], ["CAP_PERFMON"]],
        ["mappings"] = [["CAP_PERFMON"]],
        ["uprobes"] = [["CAP_BPF"], ["CAP_PERFMON"]],
        ["older_uprobes"] = [["CAP_SYS_ADMIN"]],
        ["processes"] = [["CAP_SYS_PTRACE"]],
        ["replaced_files"] = [["CAP_CHECKPOINT_RESTORE"], ["CAP_SYS_PTRACE"], ["CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"]],
        ["closed_files"] = [["CAP_DAC_READ_SEARCH", "CAP_DAC_OVERRIDE"]],
        ["unwinder"] = [["CAP_KILL"]],
        ["listen"] = [["CAP_NET_BIND_SERVICE"]],
        ["memlock"] = [["CAP_SYS_RESOURCE"]],
    };

    /// <summary>The capabilities that something here takes, in the order of the table.</summary>
    public static IEnumerable<string> All => Takes.Values.SelectMany(static groups => groups.SelectMany(static g => g)).Distinct(StringComparer.Ordinal);

    /// <summary>Those that are missing for a thing, the first of each group.</summary>
    public static string[] Missing(string thing, Capabilities own) =>
        [.. Takes[thing].Where(group => !group.Any(own.Holds)).Select(static group => group[0])];

    /// <summary>What to do after the kernel refused.</summary>
    /// <param name="thing">What it refused.</param>
    /// <param name="own">The capabilities that the agent has.</param>
    public static string Remedy(string thing, Capabilities own)
    {
        string[] missing = Missing(thing, own);
        return missing.Length == 0
            ? "no capability is missing: look for a security module (AppArmor, SELinux), lockdown, or a container's seccomp profile that refuses"
            : $"give {string.Join(" and ", missing)}: systemd `AmbientCapabilities={string.Join(' ', missing)}` (and `CapabilityBoundingSet=`), "
                + $"Kubernetes `capabilities.add: [{string.Join(", ", missing.Select(static m => m["CAP_".Length..]))}]`, Docker `{string.Join(' ', missing.Select(static m => $"--cap-add {m["CAP_".Length..]}"))}`";
    }
}
