using System.Globalization;

namespace KamOtel.Bpf;

/// <summary>Which privileges this process has, and what to say when the kernel refused for want of one.</summary>
/// <param name="Effective">The mask that <c>/proc/self/status</c> shows as CapEff.</param>
/// <param name="IsRoot">The effective user is root: "run as root" is no advice then.</param>
public readonly record struct Capabilities(ulong Effective, bool IsRoot)
{
    internal const int DacOverride = 1;
    internal const int DacReadSearch = 2;
    internal const int Kill = 5;
    internal const int NetBindService = 10;
    internal const int SysPtrace = 19;
    internal const int SysAdmin = 21;
    internal const int SysResource = 24;
    internal const int Perfmon = 38;
    internal const int Bpf = 39;
    internal const int CheckpointRestore = 40;

    /// <summary>The names of the capabilities that anything here takes.</summary>
    private static readonly Dictionary<int, string> Names = new()
    {
        [DacOverride] = "CAP_DAC_OVERRIDE",
        [DacReadSearch] = "CAP_DAC_READ_SEARCH",
        [Kill] = "CAP_KILL",
        [NetBindService] = "CAP_NET_BIND_SERVICE",
        [SysPtrace] = "CAP_SYS_PTRACE",
        [SysAdmin] = "CAP_SYS_ADMIN",
        [SysResource] = "CAP_SYS_RESOURCE",
        [Perfmon] = "CAP_PERFMON",
        [Bpf] = "CAP_BPF",
        [CheckpointRestore] = "CAP_CHECKPOINT_RESTORE",
    };

    /// <summary>To load programs and to attach tracepoints and iterators.</summary>
    internal static readonly int[] ForLoad = [Bpf, Perfmon];

    /// <summary>To attach a uprobe: the kernel took that away from CAP_PERFMON again (6.16, and the stable ones of July 2025).</summary>
    internal static readonly int[] ForUprobe = [SysAdmin];

    /// <summary>All names that <see cref="Holds"/> knows.</summary>
    public static IEnumerable<string> Known => Names.Values;

    /// <summary>Those of this process; all, where the kernel does not tell.</summary>
    public static Capabilities Own
    {
        get
        {
            const string Field = "CapEff:";
            string? line = File.ReadLines("/proc/self/status").FirstOrDefault(static l => l.StartsWith(Field, StringComparison.Ordinal));
            ulong effective = line is null ? ulong.MaxValue : ulong.Parse(line.AsSpan(Field.Length).Trim(), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            return new Capabilities(effective, Environment.IsPrivilegedProcess);
        }
    }

    /// <summary>These names as the kernel's mask.</summary>
    internal static ulong MaskOf(IEnumerable<string> names) => names.Aggregate(0UL, static (mask, name) => mask | 1UL << Names.First(pair => pair.Value == name).Key);

    /// <summary>Those of <paramref name="wanted"/> that are missing, as a list for people; empty when none is.</summary>
    internal string Missing(ReadOnlySpan<int> wanted)
    {
        var names = new List<string>();
        foreach (int capability in wanted)
        {
            if (!Has(capability) && !Has(SysAdmin)) // Which includes the younger ones.
            {
                names.Add(Names[capability]);
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

    /// <summary>Whether it has the capability of this name, <c>CAP_BPF</c> for one, or CAP_SYS_ADMIN where that includes it.</summary>
    public bool Holds(string name)
    {
        int number = Names.First(pair => pair.Value == name).Key;
        return Has(number) || (number is Perfmon or Bpf or CheckpointRestore && Has(SysAdmin));
    }

    private bool Has(int capability) => (Effective >> capability & 1) != 0;
}
