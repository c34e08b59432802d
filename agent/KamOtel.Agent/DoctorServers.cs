using System.Collections.Immutable;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>A server that runs, as the doctor sees it.</summary>
/// <param name="Target">What it is called.</param>
/// <param name="RootPid">Its root, or the first process that was found.</param>
/// <param name="Problem">Why it cannot be inspected; null when it can.</param>
/// <param name="Refused">The kernel refused; otherwise the server is one that kamotel does not understand.</param>
internal sealed record ExaminedServer(string Target, int RootPid, string? Problem, bool Refused);

/// <summary>The doctor at processes: those of servers, and, so that it is known before there is one, those of other users.</summary>
internal sealed class DoctorServers(RunOptions options, Capabilities own)
{
    /// <summary>More tell no more.</summary>
    private const int MaxUsers = 8;

    private const int MaxOfUser = 3;

    private readonly ProcFs _proc = new();

    /// <summary>The servers, oldest first.</summary>
    public ImmutableArray<ExaminedServer> Servers { get; private set; } = [];

    /// <summary>May the agent look into processes that are not its own? Tried at a few of each user.</summary>
    public Finding Processes()
    {
        const string Means = "reading another process (/proc/PID/root, exe and maps, process_vm_readv) is how a server is inspected, and how its libraries are found";
        (uint User, ImmutableArray<string?> Refusals)[] tried = [.. Strangers().GroupBy(static s => s.User).Select(user => (user.Key, (ImmutableArray<string?>)[.. user.Select(s => Refusal(s.Pid))]))];
        if (tried.Length == 0)
        {
            return DoctorPrivileges.Missing("processes", own) is { Length: > 0 }
                ? Finding.Warning("processes", "no other process runs here, so it could not be tried", $"{Means}; CAP_SYS_PTRACE is missing, so it will be refused for servers of other users", DoctorPrivileges.Remedy("processes", own))
                : Finding.Ok("processes", "no other process runs here; nothing is missing", Means);
        }
        foreach ((uint user, ImmutableArray<string?> refusals) in tried)
        {
            // A single one may be special, as process 1 of some containers is.
            if (refusals.All(static r => r is not null))
            {
                return Finding.Failed("processes", $"processes of user {user} are refused: {refusals[0]}", Means, DoctorPrivileges.Remedy("processes", own), DoctorFeature.Verdicts, DoctorFeature.Starts, DoctorFeature.OwnLibraries, DoctorFeature.ReplacedFiles);
            }
        }
        return Finding.Ok("processes", $"processes of {(tried.Length == 1 ? "one user" : $"{tried.Length} users")} can be read", Means);
    }

    /// <summary>May the agent open what a process maps, whatever has become of the path?</summary>
    public Finding ReplacedFiles()
    {
        const string Means = "/proc/PID/map_files leads to the very file that a server has mapped, also after an upgrade replaced it";
        string?[] refusals = [.. Strangers().Select(static s => s.Pid).Append(Environment.ProcessId).Select(MappingRefusal)];
        return refusals[^1] is { } atSelf ? Refused(atSelf)
            : refusals.Length > 1 && refusals[..^1].All(static r => r is not null) ? Refused(refusals[0]!)
            : Finding.Ok("replaced_files", "/proc/PID/map_files can be opened", Means);

        Finding Refused(string detail) => Finding.Failed("replaced_files", Cut(detail), Means, DoctorPrivileges.Remedy("replaced_files", own), DoctorFeature.ReplacedFiles);
    }

    /// <summary>May the agent read what is closed to everybody?</summary>
    public Finding ClosedFiles()
    {
        const string Means = "libraries in folders and files that other users have closed can be read all the same";
        ProcOutcome<bool> read = AccessTrial.ReadClosedFile();
        return read.Status switch
        {
            ProcStatus.Ok => Finding.Ok("closed_files", "a file without any permission can be read", Means),
            ProcStatus.Denied => Finding.Failed("closed_files", "a file without any permission cannot be read", Means, DoctorPrivileges.Remedy("closed_files", own), DoctorFeature.ClosedFiles),
            _ => Finding.Warning("closed_files", $"it could not be tried: {read.Detail}", Means),
        };
    }

    /// <summary>The isolated process that unwinds stacks: does it start, answer and end?</summary>
    public Finding StackUnwinder()
    {
        const string Means = "stacks are unwound in an isolated process, to find the module that made a call";
        using var unwinder = new Unwinder();
        // Nothing is mapped: it answers that the code is unknown.
        UnwoundStack answer = unwinder.Unwind(AddressSpace.Create([]), new StackCopy([.. new ulong[StackCopy.RegisterCount]], []));
        if (answer.End == UnwindEnd.Failed)
        {
            return Finding.Failed("unwinder", answer.Detail, Means, "lift what forbids it: vm.memfd_noexec=2, a seccomp profile without memfd_create, execve or seccomp, a kernel without CONFIG_SECCOMP_FILTER", DoctorFeature.Authors);
        }
        unwinder.Dispose();
        return unwinder.MayEndProcess
            ? Finding.Ok("unwinder", "it starts, answers and ends", Means)
            : Finding.Warning("unwinder", "it starts and answers, but the agent may not end it by force", "should it hang over a damaged file it stays, and another one is started beside it", DoctorPrivileges.Remedy("unwinder", own));
    }

    /// <summary>Looks for the servers that run, and into them if the kernel side lets.</summary>
    public Finding Examine(bool canInspect)
    {
        Servers = canInspect ? Inspect() : ListByName();
        string names = string.Join(" or ", options.Watch);
        ExaminedServer[] blind = [.. Servers.Where(static s => s.Problem is not null)];
        if (Servers.IsEmpty)
        {
            return Finding.Note("servers", $"no process is called {names}", "there is nothing to be judged now; one that starts later is found", "should there be one: --watch NAME takes the kernel's name of it (/proc/PID/comm)");
        }
        string seen = blind.Length == 0 ? "" : $"{blind.Length} of {Servers.Length} running servers cannot be inspected: {blind[0].Problem}";
        string means = $"their verdict is unknown: {string.Join(", ", blind.Select(static s => s.Target))}";
        return blind.Length == 0 ? Finding.Ok("servers", $"{Servers.Length} running, all can be inspected", "each gets a verdict")
            : blind.Any(static s => s.Refused) ? Finding.Failed("servers", seen, means, "see the findings processes and program.task", DoctorFeature.Verdicts)
            : Finding.Warning("servers", seen, means, "take a server that is linked with glibc or musl and has its symbols; report it with the library's name");
    }

    private ImmutableArray<ExaminedServer> Inspect()
    {
        using KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance);
        var fleet = new Fleet(options.ForFleet(), SilentSink.Instance);
        new RunningServers(kernel, _proc, options.Watch, NullLogger.Instance).Find((observation, name) => fleet.Observe(in observation, name?.Target, name?.Container));
        var processes = new ProcessInspector(_proc);
        var threads = new List<ThreadPointer>();
        kernel.ReadThreads(tgid: null, threads);
        ILookup<ProcessId, ThreadPointer> byProcess = threads.ToLookup(static t => t.Process);
        var servers = ImmutableArray.CreateBuilder<ExaminedServer>();
        foreach (InstanceSnapshot instance in fleet.Snapshot(BootClock.NowNs).Instances)
        {
            // What has ended meanwhile is as good as gone: it is not confirmed.
            ProcessInspection? bad = processes.Inspect([.. instance.Processes.Select(static p => p.Id)], byProcess)
                .FirstOrDefault(static i => i.Status is InspectionStatus.Denied or InspectionStatus.Unsupported or InspectionStatus.Unreadable);
            servers.Add(new ExaminedServer(instance.Target, instance.Root.Tgid, bad is null ? null : Cut(bad.Detail), bad?.Status == InspectionStatus.Denied));
        }
        return servers.ToImmutable();
    }

    private ImmutableArray<ExaminedServer> ListByName()
    {
        HashSet<TaskName> names = [.. options.Watch.Select(TaskName.From)];
        Dictionary<int, ProcessStat> found = [];
        foreach (int pid in _proc.Processes())
        {
            if (_proc.ReadStat(pid).TryGet(out ProcessStat? stat) && stat.State != 'Z' && names.Contains(stat.Name))
            {
                found[pid] = stat;
            }
        }
        return
        [
            .. found.Values.Where(stat => !found.ContainsKey(stat.ParentPid)).OrderBy(static stat => stat.Id.StartTicks)
                .Select(stat => new ExaminedServer(
                    TargetName.Of(_proc, stat.Id).TryGet(out ServerName? name) ? name.Target : $"{stat.Name} ({stat.Id.Tgid})", stat.Id.Tgid, "its threads cannot be found (program.task)", Refused: true)),
        ];
    }

    /// <summary>
    /// A few live processes of each user, but for process 1 and the agent's own. Nothing of them is read here. Those of the
    /// agent's user count too: who has more capabilities than the agent is as closed to it as another user is.
    /// </summary>
    private IEnumerable<(int Pid, uint User)> Strangers()
    {
        var seen = new Dictionary<uint, int>();
        foreach (int pid in _proc.Processes())
        {
            if (pid != 1 && pid != Environment.ProcessId
                && AccessTrial.UserOf(_proc, pid).TryGet(out uint user) && seen.GetValueOrDefault(user) < MaxOfUser && (seen.Count < MaxUsers || seen.ContainsKey(user))
                && _proc.ReadStat(pid).TryGet(out ProcessStat? stat) && stat.State != 'Z' && stat.ParentPid != Environment.ProcessId && HasMemory(pid))
            {
                seen[user] = seen.GetValueOrDefault(user) + 1;
                yield return (pid, user);
            }
        }
    }

    private string? MappingRefusal(int pid)
    {
        if (_proc.ReadMaps(pid, onlyCode: true).TryGet(out ImmutableArray<Mapping> maps, out ProcFailure failure) && !maps.IsEmpty)
        {
            _ = _proc.OpenMapping(pid, maps[0].Start, maps[0].End).TryGet(out SafeFileHandle? file, out failure);
            file?.Dispose();
        }
        return failure.Status == ProcStatus.Denied ? Cut(failure.Detail) : null;
    }

    /// <summary>A kernel thread has none. One whose mappings may not be read is taken for a process.</summary>
    private bool HasMemory(int pid) =>
        !_proc.ReadMaps(pid).TryGet(out ImmutableArray<Mapping> maps, out ProcFailure failure) ? failure.Status == ProcStatus.Denied : !maps.IsEmpty;

    private string? Refusal(int pid)
    {
        _ = _proc.ReadMaps(pid, onlyCode: true).TryGet(out _, out ProcFailure failure);
        if (failure.Status != ProcStatus.Denied)
        {
            _ = AccessTrial.ReadMemory(pid).TryGet(out _, out failure);
        }
        if (failure.Status != ProcStatus.Denied)
        {
            // It is a folder, and no file is opened: but the way there is open, or not.
            _proc.OpenRooted(pid, "/").TryGet(out SafeFileHandle? file, out failure);
            file?.Dispose();
        }
        return failure.Status == ProcStatus.Denied ? Cut(failure.Detail) : null;
    }

    /// <summary>The remedy is told beside it.</summary>
    private static string Cut(string detail) => detail.Split("; ", 2)[0];
}
