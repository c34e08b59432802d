using System.Globalization;
using KamOtel.Bpf;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>The doctor at the machine's settings: what the kernel is, and what it was told to forbid.</summary>
internal sealed class DoctorMachine(Capabilities own)
{
    private const string BtfPath = "/sys/kernel/btf/vmlinux";

    public static Finding Kernel()
    {
        string release = Read("/proc/sys/kernel/osrelease") ?? Environment.OSVersion.Version.ToString();
        return OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 5, 8)
            ? Finding.Ok("kernel", $"Linux {release}", "5.8 or later is needed")
            : Finding.Failed("kernel", $"Linux {release}", "kamotel needs the ring buffer and CAP_BPF of Linux 5.8", "take a kernel from 5.8 on", DoctorFeature.Watching, DoctorFeature.Verdicts);
    }

    public static Finding Btf() => File.Exists(BtfPath)
        ? Finding.Ok("btf", $"{BtfPath} is there", "the programs are fitted to this kernel's types")
        : Finding.Failed(
            "btf", $"there is no {BtfPath}", "the programs cannot be fitted to this kernel's types",
            "take a kernel with CONFIG_DEBUG_INFO_BTF=y, which distributions have from 5.8 on; in a container, mount the host's /sys", DoctorFeature.Watching, DoctorFeature.Verdicts);

    public static Finding LibbpfVersion()
    {
        try
        {
            return Finding.Ok("libbpf", $"libbpf {BpfObject.LibbpfVersion}", "1.0 or later is needed");
        }
        catch (BpfException e)
        {
            return Finding.Failed("libbpf", e.Message.Split("; ", 2)[0], "nothing can be given to the kernel", "apt-get install libbpf1", DoctorFeature.Watching, DoctorFeature.Verdicts);
        }
    }

    public static Finding PidNamespace()
    {
        const string Host = "pid:[4026531836]";
        string? mine = new FileInfo("/proc/self/ns/pid").LinkTarget;
        return mine switch
        {
            null => Finding.Warning("pid_namespace", "/proc/self/ns/pid cannot be read", "kamotel must run in the host's PID namespace; whether it does is not known"),
            Host => Finding.Ok("pid_namespace", "the host's", "processes have the numbers that the kernel tells"),
            _ => Finding.Failed(
                "pid_namespace", $"one of its own ({mine})", "kamotel cannot tell which process the kernel speaks of, and does not start",
                "run it in the host's: `hostPID: true` (Kubernetes), `--pid=host` (Docker, Podman)", DoctorFeature.Watching, DoctorFeature.Verdicts),
        };
    }

    public static Finding Lockdown()
    {
        string? text = Read("/sys/kernel/security/lockdown");
        string mode = text is null ? "" : text.Split('[', ']') is [_, var chosen, ..] ? chosen : text;
        return mode switch
        {
            "" => Finding.Ok("lockdown", "not told (/sys/kernel/security/lockdown is not there)", "no lockdown, or securityfs is not mounted; what it would forbid is tried below"),
            "none" => Finding.Ok("lockdown", "none", "nothing is forbidden by it"),
            "integrity" => Finding.Ok("lockdown", "integrity", "it forbids to change the kernel, which kamotel never does"),
            _ => Finding.Warning(
                "lockdown", mode, "it forbids programs to read the kernel's memory, by which kamotel finds a task's process and its thread-local storage, and perf events",
                "boot with `lockdown=integrity`, which still forbids to change the kernel; what really fails is told by the findings on programs"),
        };
    }

    public static Finding Seccomp()
    {
        string mode = Status("Seccomp:") ?? "";
        string filters = Status("Seccomp_filters:") ?? "some";
        return mode switch
        {
            "0" => Finding.Ok("seccomp", "no filter", "no system call is filtered"),
            "" => Finding.Ok("seccomp", "not told: this kernel has none", "no system call is filtered"),
            _ => Finding.Note("seccomp", $"{filters} filters", "a filter may forbid bpf() or perf_event_open(): whether it does is tried by the findings on programs and mappings", "should one of those be refused although no capability is missing: `seccompProfile: {type: Unconfined}` (Kubernetes), `--security-opt seccomp=unconfined` (Docker), or a profile that allows both"),
        };
    }

    public Finding Paranoid()
    {
        string? value = Read("/proc/sys/kernel/perf_event_paranoid");
        return value is null
            ? Finding.Warning("perf_event_paranoid", "kernel.perf_event_paranoid cannot be read", "the kernel may have no perf events; whether it has is tried by the finding on mappings")
            : Finding.Ok("perf_event_paranoid", $"kernel.perf_event_paranoid = {value}", own.Holds("CAP_PERFMON") ? "does not concern whoever has CAP_PERFMON" : "concerns the agent, as it has no CAP_PERFMON; kamotel needs that in any case");
    }

    public static Finding UprobeLinks() => KernelSide.HasUprobeMulti
        ? Finding.Ok("uprobe_links", "probes are attached by links of their own (uprobe_multi)", "CAP_BPF and CAP_PERFMON are enough for them")
        : Finding.Note("uprobe_links", "this kernel has no links to uprobes (uprobe_multi, Linux 6.6)", "probes are attached by perf events: stable kernels of July 2025 and later ask for CAP_SYS_ADMIN then; messages about shared memory that is used up are not watched for", "take a kernel from 6.6 on, or give CAP_SYS_ADMIN");

    public static Finding UnprivilegedBpf() =>
        Finding.Ok("unprivileged_bpf_disabled", $"kernel.unprivileged_bpf_disabled = {Read("/proc/sys/kernel/unprivileged_bpf_disabled") ?? "not told"}", "does not concern whoever has CAP_BPF, and without it kamotel cannot work whatever the value");

    public Finding Yama()
    {
        string? value = Read("/proc/sys/kernel/yama/ptrace_scope");
        return value switch
        {
            null => Finding.Ok("ptrace_scope", "Yama is not there", "nothing but CAP_SYS_PTRACE is asked for"),
            "3" => Finding.Failed("ptrace_scope", "kernel.yama.ptrace_scope = 3", "nobody may read another process's memory, whatever the capability: no server can be inspected", "boot with kernel.yama.ptrace_scope = 2 or less (3 cannot be taken back while the machine runs)", DoctorFeature.Verdicts),
            _ => Finding.Ok("ptrace_scope", $"kernel.yama.ptrace_scope = {value}", own.Holds("CAP_SYS_PTRACE") ? "does not concern whoever has CAP_SYS_PTRACE" : "concerns the agent, as it has no CAP_SYS_PTRACE"),
        };
    }

    public static Finding HidePid()
    {
        // 36 35 98:0 / /proc rw,... - proc proc rw,hidepid=2
        string? options = File.ReadLines("/proc/self/mountinfo").Select(static l => l.Split(" - ", 2)).Where(static p => p.Length == 2 && p[0].Split(' ') is [_, _, _, _, "/proc", ..]).Select(static p => p[1]).LastOrDefault();
        string? hide = options?.Split(' ')[^1].Split(',').FirstOrDefault(static o => o.StartsWith("hidepid=", StringComparison.Ordinal));
        bool seesInit = new ProcFs().ReadStat(1).Status == ProcStatus.Ok;
        return (hide, seesInit) switch
        {
            (null or "hidepid=0" or "hidepid=off", true) => Finding.Ok("hidepid", "/proc shows every process", "servers of other users are found"),
            (null, false) => Finding.Failed("hidepid", "/proc does not show process 1", "servers that run already may be hidden, too", "give CAP_SYS_PTRACE, and mount /proc of the host's PID namespace", DoctorFeature.Verdicts),
            (_, true) => Finding.Ok("hidepid", $"/proc is mounted with {hide}, and the agent sees process 1 all the same", "servers of other users are found"),
            _ => Finding.Failed("hidepid", $"/proc is mounted with {hide}, and hides process 1", "servers of other users are hidden", "give CAP_SYS_PTRACE, or mount /proc with gid= of the agent's group", DoctorFeature.Verdicts),
        };
    }

    public Finding Memlock()
    {
        string limit = File.ReadLines("/proc/self/limits").FirstOrDefault(static l => l.StartsWith("Max locked memory", StringComparison.Ordinal))?[17..].Trim().Split(' ')[0] ?? "not told";
        return OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 5, 11) ? Finding.Ok("memlock", $"limit on locked memory: {limit}", "does not concern BPF from Linux 5.11 on")
            : limit == "unlimited" || own.Holds("CAP_SYS_RESOURCE") ? Finding.Ok("memlock", $"limit on locked memory: {limit}", "enough, or the agent may raise it")
            : Finding.Warning("memlock", $"limit on locked memory: {limit} bytes", "before Linux 5.11 the ring and the maps count against it", "LimitMEMLOCK=infinity (systemd), or CAP_SYS_RESOURCE");
    }

    public static Finding Mounts() => Finding.Ok(
        "mounts",
        $"tracefs {(Directory.Exists("/sys/kernel/tracing/events") || Directory.Exists("/sys/kernel/debug/tracing/events") ? "is mounted" : "is not mounted")}, bpffs {(IsMounted("bpf") ? "is mounted" : "is not mounted")}",
        "kamotel needs neither of them");

    public static Finding Cgroup()
    {
        string path = File.ReadLines("/proc/self/cgroup").LastOrDefault() ?? "";
        return path.Length > 0
            ? Finding.Ok("cgroup", $"the agent is in {path.Split(':', 3)[^1]}", "servers are named after their container or systemd unit")
            : Finding.Note("cgroup", "/proc/self/cgroup is empty", "servers are named after their configuration file, not after a container or unit");
    }

    public static Finding Memfd() => Read("/proc/sys/vm/memfd_noexec") is { } value && value != "0"
        ? Finding.Note("memfd_noexec", $"vm.memfd_noexec = {value}", "1 does no harm; 2 keeps the unwinder from starting (the finding unwinder tells)", value == "2" ? "sysctl vm.memfd_noexec=1" : null)
        : Finding.Ok("memfd_noexec", "vm.memfd_noexec does not forbid", "the unwinder is started from memory");

    private static bool IsMounted(string type) =>
        File.ReadLines("/proc/self/mountinfo").Any(line => line.Split(" - ", 2) is [_, var end] && end.StartsWith(type + " ", StringComparison.Ordinal));

    private static string? Status(string field) =>
        File.ReadLines("/proc/self/status").FirstOrDefault(l => l.StartsWith(field, StringComparison.Ordinal))?[field.Length..].Trim();

    private static string? Read(string path)
    {
        try
        {
            return File.ReadAllText(path).Trim();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
