using System.Globalization;

namespace KamOtel.Bpf;

/// <summary>Which privileges this process has, and what to say when the kernel refused for want of one.</summary>
/// <param name="Effective">The mask that <c>/proc/self/status</c> shows as CapEff.</param>
/// <param name="IsRoot">The effective user is root: "run as root" is no advice then.</param>
internal readonly record struct Capabilities(ulong Effective, bool IsRoot)
{
    internal const int SysAdmin = 21;
    internal const int Perfmon = 38;
    internal const int Bpf = 39;

    /// <summary>To load programs and to attach tracepoints and iterators.</summary>
    internal static readonly int[] ForLoad = [Bpf, Perfmon];

    /// <summary>To attach a uprobe: the kernel took that away from CAP_PERFMON again (6.16, and the stable ones of July 2025).</summary>
    internal static readonly int[] ForUprobe = [SysAdmin];

    /// <summary>Those of this process; all, where the kernel does not tell.</summary>
    internal static Capabilities Own
    {
        get
        {
            const string Field = "CapEff:";
            string? line = File.ReadLines("/proc/self/status").FirstOrDefault(static l => l.StartsWith(Field, StringComparison.Ordinal));
            ulong effective = line is null ? ulong.MaxValue : ulong.Parse(line.AsSpan(Field.Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            return new Capabilities(effective, Environment.IsPrivilegedProcess);
        }
    }

    /// <summary>Those of <paramref name="wanted"/> that are missing, as a list for people; empty when none is.</summary>
    internal string Missing(ReadOnlySpan<int> wanted)
    {
        var names = new List<string>();
        foreach (int capability in wanted)
        {
            if (!Has(capability) && !Has(SysAdmin)) // Which includes the younger ones.
            {
                names.Add(capability switch { SysAdmin => "CAP_SYS_ADMIN", Perfmon => "CAP_PERFMON", _ => "CAP_BPF" });
            }
        }
        return string.Join(" and ", names);
    }

    /// <summary>What would help, after the kernel refused something that takes <paramref name="wanted"/>.</summary>
    internal string Remedy(ReadOnlySpan<int> wanted)
    {
        string missing = Missing(wanted);
        return missing.Length == 0 ? "no capability is missing: a security module, a kernel in lockdown mode or a container's filter refuses"
            : $"{missing} missing{(wanted.SequenceEqual(ForUprobe) ? ", which newer kernels ask for a uprobe" : "")}: "
                + (IsRoot ? "this is root, but a container or a service manager took it away; give it back (docs/operations.md)"
                    : "run as root, or give the capability (docs/operations.md)");
    }

    private bool Has(int capability) => (Effective >> capability & 1) != 0;
}
