using System.Collections.Immutable;
using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>
/// Can this machine do it, and what to change? Whatever can be tried is tried, at the agent itself; tables of privileges only say
/// what would help. Changes nothing, and every check stands alone: one that fails says so, and the others go on.
/// </summary>
internal static class Doctor
{
    /// <summary>Examines the machine.</summary>
    /// <param name="options">The settings of <c>run</c>.</param>
    /// <param name="environment">Looks an environment variable up.</param>
    /// <param name="variables">The names of all variables.</param>
    public static async Task<DoctorReport> ExamineAsync(RunOptions options, Func<string, string?> environment, IEnumerable<string> variables)
    {
        Capabilities own = Try(static () => Capabilities.Own, new Capabilities(0, IsRoot: false));
        var machine = new DoctorMachine(own);
        var kernel = new DoctorKernel(options, own);
        var libraries = new DoctorLibraries(options, own);
        var servers = new DoctorServers(options, own);
        var network = new DoctorNetwork(options, environment, own);

        Task<List<Finding>> addresses = Task.Run(async () => (List<Finding>)[.. await CheckAsync("listen", network.Listen), .. await CheckAsync("otlp", network.Otlp)]);
        Task<List<Finding>> unwinder = Task.Run(() => Check("unwinder", servers.StackUnwinder));

        List<Finding> findings =
        [
            .. Check("kernel", DoctorMachine.Kernel),
            .. Check("btf", DoctorMachine.Btf),
            .. Check("libbpf", DoctorMachine.LibbpfVersion),
            .. Check("pid_namespace", DoctorMachine.PidNamespace),
            .. Check("lockdown", DoctorMachine.Lockdown),
            .. Check("seccomp", DoctorMachine.Seccomp),
            .. Check("perf_event_paranoid", machine.Paranoid),
            .. Check("uprobe_links", DoctorMachine.UprobeLinks),
            .. Check("unprivileged_bpf_disabled", DoctorMachine.UnprivilegedBpf),
            .. Check("ptrace_scope", machine.Yama),
            .. Check("hidepid", DoctorMachine.HidePid),
            .. Check("memlock", machine.Memlock),
            .. Check("memfd_noexec", DoctorMachine.Memfd),
            .. Check("mounts", DoctorMachine.Mounts),
            .. Check("cgroup", DoctorMachine.Cgroup),
            .. Check("settings", () => Settings.Warnings(options, variables).Select(static warning => Finding.Warning("settings", warning, "the agent may not do what was meant", "mend or remove it"))),
            .. Check("access", network.Access),
            .. Check("libraries", libraries.Examine),
            .. Check("program", () => kernel.Examine(libraries.Libraries.Select(static l => l.Priced))),
            .. Check("processes", servers.Processes),
            .. Check("replaced_files", servers.ReplacedFiles),
            .. Check("closed_files", servers.ClosedFiles),
            .. Check("servers", () => servers.Examine(kernel.CanInspect)),
            .. await unwinder,
            .. await addresses,
        ];
        findings.Insert(0, OwnCapabilities(own, findings));
        findings.Add(Cost(kernel, libraries));
        kernel.WaitUntilDetached();
        return DoctorReport.Of(findings, kernel, libraries.Libraries, servers.Servers);
    }

    /// <summary>One look at what the agent may, beside what the others found.</summary>
    private static Finding OwnCapabilities(Capabilities own, IEnumerable<Finding> findings)
    {
        string[] held = [.. DoctorPrivileges.All.Where(own.Holds)];
        string[] missing = [.. DoctorPrivileges.All.Where(name => !own.Holds(name))];
        string[] named = [.. missing.Where(name => findings.Any(f => f.Status == FindingStatus.Failed && f.Remedy?.Contains(name, StringComparison.Ordinal) == true))];
        string[] spare = [.. missing.Except(named, StringComparer.Ordinal)];
        string seen = $"held: {(held.Length == 0 ? "none" : string.Join(", ", held))}{(named.Length == 0 ? "" : $"; missing: {string.Join(", ", named)}")}{(spare.Length == 0 ? "" : $"; not held, and not needed here: {string.Join(", ", spare)}")}";
        return named.Length == 0
            ? Finding.Ok("capabilities", seen, missing.Length == 0 ? "all that anything here could take" : "nothing that was tried here takes those that are missing")
            : Finding.Warning("capabilities", seen, $"{string.Join(", ", named)} missing, and something does not work for it", "see the failed findings");
    }

    private static Finding Cost(DoctorKernel kernel, DoctorLibraries libraries)
    {
        const string Means = "what a thread-local call of OpenSSL costs more while it is probed; a server makes a handful at its start and a few for each connection";
        if (kernel.Costs.IsEmpty)
        {
            return Finding.Warning("probe_cost", "it could not be measured: no probe could be attached to the agent itself", Means);
        }
        string seen = string.Join("; ", kernel.Costs.Select(static c => $"on `{DoctorReport.NameOf(c.Entry)}` {c.Server / 1000:0.0} µs in a server, {c.Others / 1000:0.0} µs elsewhere"));
        string set = string.Join(", ", libraries.Libraries.Where(static l => l.Problem is null)
            .Select(l => kernel.Costs.FirstOrDefault(c => c.Entry == l.Priced) is { } cost
                ? $"{l.Path}: about {cost.Server / 1000:0.0} µs a set call{l.Set switch { null => "", { Reason: "" } on => $" (probe on its {on.Site})", var on => $" (probe on its first instruction: {on.Reason})" }}"
                : $"{l.Path}: its first instruction is none of those measured"));
        return Finding.Ok("probe_cost", set.Length == 0 ? seen : $"{seen}; {set}", Means);
    }

    private static List<Finding> Check(string id, Func<Finding> check) => Check(id, () => [check()]);

    private static List<Finding> Check(string id, Func<IEnumerable<Finding>> check)
    {
        var found = new List<Finding>();
        try
        {
            // One by one: what was found before something went wrong is kept.
            foreach (Finding finding in check())
            {
                found.Add(finding);
            }
        }
#pragma warning disable CA1031 // Whatever it is: the other checks go on, and this one says that it could not be made.
        catch (Exception e)
#pragma warning restore CA1031
        {
            found.Add(NotDone(id, e));
        }
        return found;
    }

    private static async Task<List<Finding>> CheckAsync(string id, Func<Task<Finding>> check)
    {
        try
        {
            return [await check()];
        }
#pragma warning disable CA1031 // As above.
        catch (Exception e)
#pragma warning restore CA1031
        {
            return [NotDone(id, e)];
        }
    }

    private static Finding NotDone(string id, Exception e) =>
        Finding.Warning(id, $"could not be checked: {(e is BpfException bpf ? DoctorKernel.Reason(bpf) : e.Message)}", "whether it works is not known");

    private static T Try<T>(Func<T> get, T otherwise)
    {
        try
        {
            return get();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return otherwise;
        }
    }
}
