using System.Collections.Immutable;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>How a server's root ended.</summary>
/// <param name="Status">Its wait status.</param>
/// <param name="Asked">It had been told to.</param>
internal sealed record ServerEnd(int Status, bool Asked);

/// <summary>
/// The servers that a command started, among all of this host: those whose process descends from the command's guard. Keeps
/// the last that was told of each while it was left alone; what is seen while it ends counts when it is worse.
/// </summary>
internal sealed class CheckedServers(ProcFs proc) : IFleetSink
{
    private readonly HashSet<InstanceId> _ours = [];
    private readonly Dictionary<InstanceId, InstanceSnapshot> _whole = [];
    private readonly Dictionary<InstanceId, InstanceSnapshot> _atStop = [];
    private readonly Dictionary<InstanceId, ServerEnd> _ends = [];
    private readonly Dictionary<InstanceId, string> _files = [];
    private readonly List<string> _others = [];
    private readonly List<string> _vanished = [];
    private ToldServers _told = new();
    private int _guard;
    private int _command;
    private bool _stopping;

    /// <summary>Servers that somebody else started meanwhile.</summary>
    public IReadOnlyList<string> Others => _others;

    /// <summary>Servers that started meanwhile, and were gone before anybody could see who had started them.</summary>
    public IReadOnlyList<string> Vanished => _vanished;

    /// <summary>Ours that have not ended.</summary>
    public int Living => _ours.Count - _ends.Keys.Count(_ours.Contains);

    /// <summary>A command is going to start.</summary>
    /// <param name="guard">The process that all of it will descend from.</param>
    public void Begin(int guard)
    {
        _ours.Clear();
        _whole.Clear();
        _atStop.Clear();
        _ends.Clear();
        _files.Clear();
        _others.Clear();
        _vanished.Clear();
        _told = new ToldServers();
        _guard = guard;
        _command = 0;
        _stopping = false;
    }

    /// <summary>The command's own process: it is known also when it is gone before anybody looks.</summary>
    public void Started(int pid) => _command = pid;

    /// <summary>The command is the server itself, in the foreground or to become a daemon.</summary>
    public bool IsCommand(InstanceSnapshot server) => server.Id.Tgid == _command;

    /// <summary>Its root is the command's process: how that ended tells how the server did.</summary>
    public bool IsCommandItself(InstanceSnapshot server) => server.Root.Tgid == _command;

    /// <summary>Its configuration file; null when its command line names none, or nobody could read that.</summary>
    public string? FileOf(InstanceSnapshot server) => _files.GetValueOrDefault(server.Id);

    /// <summary>How the server ended; null while it lives.</summary>
    public ServerEnd? EndOf(InstanceSnapshot server) => _ends.GetValueOrDefault(server.Id);

    /// <summary>Ours of those that live.</summary>
    public ImmutableArray<InstanceSnapshot> Look(FleetSnapshot fleet)
    {
        ImmutableArray<InstanceSnapshot> ours = [.. fleet.Instances.Where(i => _ours.Contains(i.Id))];
        if (!_stopping)
        {
            foreach (InstanceSnapshot now in ours)
            {
                // Of one that ends by itself, what it was when it was whole.
                if (!_whole.TryGetValue(now.Id, out InstanceSnapshot? whole) || whole is not { ReadyNs: not null, IsConcluded: true } || now.Verdict != whole.Verdict || now.Processes.Length >= whole.Processes.Length)
                {
                    _whole[now.Id] = now;
                }
            }
            _ = _told.All(fleet with { Instances = [.. ours.Select(i => _whole[i.Id])] });
        }
        return ours;
    }

    /// <summary>From now on they are told to end: what is not worse than it was says nothing of the server as it ran.</summary>
    public void Stopping()
    {
        foreach (InstanceSnapshot server in All())
        {
            _atStop[server.Id] = server;
        }
        _stopping = true;
    }

    /// <summary>All of ours, oldest first.</summary>
    public ImmutableArray<InstanceSnapshot> All() =>
        [.. _told.All(FleetSnapshot.Empty).Select(last => _atStop.GetValueOrDefault(last.Id) is { } before && !IsWorse(last, before) ? before with { Faults = last.Faults } : last)];

    public void InstanceFound(InstanceContext instance, in Observation observation)
    {
        // One that ran before is not ours, and one that something starts while all is to end is not asked for.
        if (_guard == 0 || _stopping || observation.Kind == ObservationKind.Seeded)
        {
            return;
        }
        switch (IsOurs(observation.Process.Tgid))
        {
            case true:
                _ = _ours.Add(instance.Id);
                if (TargetName.ConfigurationOf(proc, observation.Process) is { } file)
                {
                    _files[instance.Id] = file;
                }
                break;
            case false:
                _others.Add($"{instance.Program} (process {observation.Process.Tgid})");
                break;
            default:
                _vanished.Add($"{instance.Program} (process {observation.Process.Tgid})");
                break;
        }
    }

    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
    }

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
    }

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module)
    {
    }

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role) =>
        _told.Forked(instance, in observation, role);

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
        if (role == ProcessRole.Root && _ours.Contains(instance.Id))
        {
            _ends[instance.Id] = new ServerEnd(observation.Status, _stopping);
        }
    }

    /// <summary>It crashed, whether it was to end or not.</summary>
    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults)
    {
        if (_ours.Contains(instance.Id))
        {
            _told.Crashed(instance, crash, faults);
        }
    }

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults)
    {
        if (_ours.Contains(instance.Id))
        {
            _told.Complained(instance, in observation, complaint, in context, faults);
        }
    }

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot) => Tell(snapshot, told => told.Ready(instance, snapshot));

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs) =>
        Tell(snapshot, told => told.VerdictChanged(instance, snapshot, before, timeNs));

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs) =>
        Tell(snapshot, told => told.Confirmed(instance, snapshot, windowNs, timeNs));

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
    }

    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        if (_ours.Contains(instance.Id))
        {
            if (!_stopping)
            {
                _told.InstanceEnded(instance, in observation);
            }
            // Its root's end was not seen.
            _ = _ends.TryAdd(instance.Id, new ServerEnd(observation.Status, _stopping));
        }
    }

    private static bool IsWorse(InstanceSnapshot now, InstanceSnapshot before) => now.Verdict >= Verdict.Hazard && now.Verdict > before.Verdict;

    private void Tell(InstanceSnapshot snapshot, Action<ToldServers> tell)
    {
        if (_ours.Contains(snapshot.Id) && (!_stopping || !_atStop.TryGetValue(snapshot.Id, out InstanceSnapshot? before) || IsWorse(snapshot, before)))
        {
            tell(_told);
        }
    }

    /// <summary>Null when nobody can tell any more.</summary>
    private bool? IsOurs(int pid)
    {
        if (pid == _command)
        {
            return true;
        }
        // No deeper than any real tree; what is read while processes end need not be one.
        for (int depth = 0; depth < 1000 && pid > 1; depth++)
        {
            if (pid == _guard)
            {
                return true;
            }
            if (!proc.ReadStat(pid).TryGet(out ProcessStat? stat))
            {
                return null;
            }
            pid = stat.ParentPid;
        }
        return false;
    }
}
