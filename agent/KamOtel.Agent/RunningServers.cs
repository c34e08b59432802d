using System.Collections.Immutable;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>Finds the servers that run already: processes with a watched name, counted to instances by who forked whom.</summary>
internal sealed partial class RunningServers(KernelSide kernel, ProcFs proc, IEnumerable<string> names, ILogger logger)
{
    private readonly ServerNames _serverNames = new(kernel, proc, logger);
    private readonly HashSet<TaskName> _names = [.. names.Select(TaskName.From)];
    private readonly Dictionary<int, (ProcessId Process, InstanceId Instance)> _known = [];
    private readonly Dictionary<(uint Major, uint Minor, ulong Inode), InstanceId> _segments = [];

    /// <summary>
    /// Tells the kernel side and <paramref name="found"/> of each process that neither knew; of the first one of an
    /// instance with its name. A process may fork while <c>/proc</c> is read, and until it is watched its fork is not
    /// told: so it looks until nothing is new.
    /// </summary>
    public void Find(Action<Observation, ServerName?> found)
    {
        for (bool more = true; more;)
        {
            more = false;
            var stats = new Dictionary<int, ProcessStat>();
            foreach (int pid in proc.Processes())
            {
                if (proc.ReadStat(pid).TryGet(out ProcessStat? stat) && stat.State != 'Z' && _names.Contains(stat.Name))
                {
                    stats[pid] = stat;
                }
            }
            foreach (ProcessStat stat in stats.Values.OrderBy(static s => s.Id.StartTicks).ThenBy(static s => s.Id.Tgid))
            {
                if (!_known.TryGetValue(stat.Id.Tgid, out (ProcessId Process, InstanceId) known) || known.Process != stat.Id)
                {
                    more |= Take(stat, stats, found);
                }
            }
        }
    }

    private bool Take(ProcessStat stat, Dictionary<int, ProcessStat> stats, Action<Observation, ServerName?> found)
    {
        int pid = stat.Id.Tgid;
        ProcessStat? parent = stats.GetValueOrDefault(stat.ParentPid);
        bool child = parent is not null && _known.TryGetValue(stat.ParentPid, out (ProcessId Process, InstanceId) known) && known.Process == parent.Id;
        InstanceId instance = child ? _known[stat.ParentPid].Instance : Foundling(pid, new InstanceId(pid, stat.Id.StartTicks * ProcessId.NanosecondsPerTick));
        try
        {
            if (!kernel.WatchProcess(stat.Id, instance))
            {
                return false;
            }
        }
        catch (BpfException e)
        {
            NotWatched(logger, pid, e.Message);
            return false;
        }
        if (!proc.ReadStat(pid).TryGet(out ProcessStat? again) || again.Id != stat.Id)
        {
            kernel.UnwatchProcess(stat.Id);
            return true;
        }
        _known[pid] = (stat.Id, instance);
        var observation = new Observation
        {
            Kind = ObservationKind.Seeded,
            TimeNs = BootClock.NowNs,
            Process = stat.Id,
            Tid = pid,
            Instance = instance,
            Name = stat.Name,
            Other = child ? parent!.Id : default,
        };
        found(observation, instance.Tgid != pid ? null : _serverNames.Of(stat.Id));
        return true;
    }

    /// <summary>
    /// Whose a process is that no known one forked. Workers outlive a root that crashed, and have but their nameless shared
    /// memory in common: only forking passes that on.
    /// </summary>
    private InstanceId Foundling(int pid, InstanceId own)
    {
        if (!proc.ReadMaps(pid).TryGet(out ImmutableArray<Mapping> maps))
        {
            return own;
        }
        (uint, uint, ulong)[] segments =
        [
            .. maps.Where(static m => m is { Path: "/dev/zero", Deleted: true } && m.Access.HasFlag(MappingAccess.Shared | MappingAccess.Write))
                .Select(static m => (m.DeviceMajor, m.DeviceMinor, m.Inode)).Distinct(),
        ];
        InstanceId instance = segments.Where(_segments.ContainsKey).Select(s => _segments[s]).FirstOrDefault(own);
        foreach ((uint, uint, ulong) segment in segments)
        {
            _segments[segment] = instance;
        }
        return instance;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "process {Pid} cannot be watched: {Reason}")]
    private static partial void NotWatched(ILogger logger, int pid, string reason);
}
