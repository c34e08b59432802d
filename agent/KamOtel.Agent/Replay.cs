using System.Collections.Immutable;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>Lets a recording enter a fleet of its own. Bounded, as the file may come from anywhere.</summary>
internal sealed class Replay
{
    /// <summary>More than any real fleet takes; a file that makes more is made to do harm.</summary>
    private const long MaxHeapBytes = 128L << 20;

    private const int LookEvery = 256;

    private readonly RecordingReader _reader;
    private readonly ReplayedServers _servers = new();
    private readonly Fleet _fleet;
    private AgentLine? _agent;

    /// <param name="reader">The recording.</param>
    /// <param name="sink">Hears what the fleet concludes, as the recorded one did; null for nobody.</param>
    public Replay(RecordingReader reader, IFleetSink? sink)
    {
        _reader = reader;
        _fleet = new Fleet(reader.Header.Fleet.ToOptions()!, sink is null ? _servers : new CompositeSink(_servers, sink));
    }

    /// <summary>Inputs that were replayed.</summary>
    public long Inputs { get; private set; }

    /// <summary>Boot time in nanoseconds when the recording ended, as far as it was replayed.</summary>
    public ulong EndNs { get; private set; }

    /// <summary>The state that the recording ends with.</summary>
    public AgentSnapshot State { get; private set; } = AgentSnapshot.Empty;

    /// <summary>Every server of the recording, oldest first: as it was at the end, or at its own.</summary>
    public IReadOnlyList<InstanceSnapshot> Servers { get; private set; } = [];

    /// <summary>Replays all that there is.</summary>
    /// <param name="pace">Called after each input: holds the replay up until others have followed.</param>
    public void Run(Action? pace = null)
    {
        while (_reader.Read() is { } line)
        {
            try
            {
                if (line is InputLine input)
                {
                    _fleet.Take(input.ToInput());
                    Inputs++;
                }
                else if (line is AgentLine agent)
                {
                    _ = agent.ToSnapshot(default, FleetSnapshot.Empty);
                    _agent = agent;
                }
            }
            catch (Exception e) when (e is FormatException or OverflowException or ArgumentException)
            {
                _reader.Reject(e.Message);
                break;
            }
            pace?.Invoke();
            if (Inputs % LookEvery == 0 && GC.GetTotalMemory(forceFullCollection: false) > MaxHeapBytes && GC.GetTotalMemory(forceFullCollection: true) > MaxHeapBytes)
            {
                _reader.Reject($"replaying it takes more than {MaxHeapBytes >> 20} MiB of memory");
                break;
            }
        }
        _fleet.Finish();
        ulong end = Math.Max(_fleet.NowNs, _reader.End?.At ?? 0);
        EndNs = end;
        FleetSnapshot fleet = _fleet.Snapshot(end);
        DateTimeOffset time = WallClock.ToTime(end);
        State = _agent?.ToSnapshot(time, fleet) ?? AgentSnapshot.Empty with { Time = time, Fleet = fleet };
        Servers = _servers.All(fleet);
    }
}

/// <summary>Keeps the last that was told of each server.</summary>
internal sealed class ReplayedServers : IFleetSink
{
    private readonly Dictionary<InstanceId, InstanceSnapshot> _told = [];
    private readonly HashSet<InstanceId> _forked = [];
    private readonly HashSet<InstanceId> _ended = [];

    /// <summary>
    /// Every server: as it is in <paramref name="end"/>, or as it was told of last. One that was a hazard, and is none any more,
    /// is shown as it was then: it was one, and it may be again.
    /// </summary>
    public IReadOnlyList<InstanceSnapshot> All(FleetSnapshot end)
    {
        foreach (InstanceSnapshot now in end.Instances)
        {
            Keep(now);
        }
        return [.. _told.Values.Select(i => i with { Ended = _ended.Contains(i.Id) }).OrderBy(static i => i.StartedNs).ThenBy(static i => i.Id.Tgid)];
    }

    public void InstanceFound(InstanceContext instance, in Observation observation)
    {
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

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role) => _forked.Add(instance.Id);

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role)
    {
    }

    /// <summary>A server tells of its end before its crash is known.</summary>
    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults) => Keep(instance, faults);

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults) => Keep(instance, faults);

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot) => Keep(snapshot);

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs) => Keep(snapshot);

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs) => Keep(snapshot);

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
    }

    /// <summary>What ended before it was ready and is content was no server, but a look at the configuration.</summary>
    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        _ = _ended.Add(instance.Id);
        if (!_told.TryGetValue(instance.Id, out InstanceSnapshot? last) || last.ReadyNs is not null || last.Verdict >= Verdict.Hazard || !instance.SinceExec)
        {
            return;
        }
        if (observation.Status == 0 && !_forked.Contains(instance.Id))
        {
            _ = _told.Remove(instance.Id);
        }
        else if (last.Verdict == Verdict.Unknown)
        {
            _told[instance.Id] = last with { Reason = $"it ended before it was ready: {Words.OfStatus(observation.Status)}" };
        }
    }

    private void Keep(InstanceContext instance, ImmutableArray<Fault> faults)
    {
        if (_told.TryGetValue(instance.Id, out InstanceSnapshot? known))
        {
            _told[instance.Id] = known with { Faults = faults };
        }
    }

    private void Keep(InstanceSnapshot snapshot)
    {
        if (!_told.TryGetValue(snapshot.Id, out InstanceSnapshot? before) || before.Verdict < Verdict.Hazard || snapshot.Verdict >= before.Verdict)
        {
            _told[snapshot.Id] = snapshot;
        }
        else
        {
            _told[snapshot.Id] = before with { Faults = snapshot.Faults };
        }
    }
}
