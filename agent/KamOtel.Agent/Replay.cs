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
    private readonly ToldServers _servers = new();
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
