using System.Collections.Immutable;
using System.Text;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>
/// One turn after the other: observations into the fleet, libraries probed, the snapshot published. Owns the fleet;
/// one thread at a time.
/// </summary>
internal sealed partial class Watcher : IObservationHandler, IDisposable
{
    /// <summary>The loop turns at least this often, so that losses are counted and the agent is known to live.</summary>
    private const int HeartbeatMs = 1000;

    /// <summary>Snapshots are published at most this often while events pour in.</summary>
    private const int PublishMs = 200;

    private readonly RunOptions _options;
    private readonly AgentState _state;
    private readonly Action<double> _attachDelay;
    private readonly ILogger _logger;
    private readonly KernelSide _kernel;
    private readonly Libraries _libraries;
    private readonly Fleet _fleet;
    private readonly ProcFs _proc = new();
    private readonly Dictionary<int, ProcessId> _watched = [];
    private ulong _lost;
    private long _publishedAt;
    private bool _changed = true;

    /// <summary>Loads the kernel side; nothing is attached yet.</summary>
    /// <exception cref="BpfException">The machine cannot do it; the message says why and what helps.</exception>
    public Watcher(RunOptions options, AgentState state, IFleetSink sink, Action<double> attachDelay, ILogger logger)
    {
        _options = options;
        _state = state;
        _attachDelay = attachDelay;
        _logger = logger;
        _kernel = KernelSide.Load(options.RingBytes, logger);
        _libraries = new Libraries(_kernel, logger);
        _fleet = new Fleet(new FleetOptions { SettleNs = (ulong)(options.SettleSeconds * 1e9) }, sink);
    }

    /// <summary>
    /// Attaches everything. The order matters: the libraries before the processes, so that a server started meanwhile
    /// is covered from its first instruction; the tracepoints before the look at /proc, so that no process falls
    /// between the two.
    /// </summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void Start()
    {
        var scan = new LibraryScan();
        foreach (ScanResult found in new[] { scan.Libraries(_options.LibraryPath, _options.SystemLibraries), scan.Executables(_options.Watch) })
        {
            foreach (string warning in found.Warnings)
            {
                ScanWarning(_logger, warning);
            }
            foreach (string path in found.Paths)
            {
                _ = _libraries.OfferPath(path);
            }
        }
        foreach (string name in _options.Watch)
        {
            _kernel.WatchName(name);
        }
        _kernel.AttachTracepoints();
        Seed();
        Publish();
        _state.SetNotReady(null);
        Watching(_logger, string.Join(", ", _options.Watch), _libraries.Probed.Length, BpfObject.LibbpfVersion);
    }

    /// <summary>Waits for something to happen, at most until the next thing is due, and deals with it.</summary>
    public void Turn()
    {
        ulong now = BootClock.NowNs;
        ulong? due = _fleet.Advance(now);
        long wait = due is { } at ? (at > now ? (long)((at - now) / 1_000_000) + 1 : 0) : HeartbeatMs;
        _kernel.Poll((int)Math.Clamp(wait, 0, _changed ? PublishMs : HeartbeatMs), this);
        _state.Turned();
        CountLosses();
        ulong after = BootClock.NowNs;
        _ = _fleet.Advance(after);
        if (Environment.TickCount64 - _publishedAt >= PublishMs)
        {
            Publish();
        }
    }

    /// <summary>Ends a <see cref="Turn"/> early. Any thread.</summary>
    public void Wake() => _kernel.Wake();

    /// <inheritdoc/>
    public void OnObservation(in Observation observation)
    {
        _changed = true;
        _fleet.Observe(in observation, observation is { Kind: ObservationKind.Exec, Watched: true } ? NameOf(observation.Process) : null);
        switch (observation.Kind)
        {
            case ObservationKind.Exec when observation.Watched:
                _watched[observation.Process.Tgid] = observation.Process;
                LookAtMappings(observation.Process, observation.TimeNs);
                break;
            case ObservationKind.Exec:
                _ = _watched.Remove(observation.Process.Tgid);
                break;
            case ObservationKind.Fork:
                _watched[observation.Other.Tgid] = observation.Other;
                break;
            case ObservationKind.Exit when observation.LastThread:
                _ = _watched.Remove(observation.Process.Tgid);
                break;
            default:
                break;
        }
    }

    /// <inheritdoc/>
    public void OnFatalSignal(in Observation observation, ReadOnlySpan<byte> blocks, uint blocksRead) => _changed = true;

    /// <inheritdoc/>
    public void OnMapping(in ExecutableMapping mapping)
    {
        if (mapping.Path.IsEmpty || mapping.Path[0] != (byte)'/' || !_watched.TryGetValue(mapping.Tgid, out ProcessId process))
        {
            return;
        }
        _changed = true;
        OfferMapping(process, Encoding.UTF8.GetString(mapping.Path), mapping.Start, mapping.Start + mapping.Length, mapping.TimeNs);
    }

    /// <inheritdoc/>
    public void OnMappingsLost(ulong count)
    {
        _changed = true;
        LossSeen(_logger, (long)count, "mapping");
        _fleet.EventsLost(count, BootClock.NowNs);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _libraries.Dispose();
        _kernel.Dispose();
    }

    /// <summary>Brings the servers that run already into the fleet.</summary>
    private void Seed()
    {
        var names = _options.Watch.Select(TaskName.From).ToHashSet();
        var instances = new Dictionary<int, InstanceId>();
        // A process may fork while /proc is read: until it is watched its fork is not told. So look until nothing is new.
        for (bool found = true; found;)
        {
            found = false;
            var stats = new Dictionary<int, ProcessStat>();
            foreach (int pid in _proc.Processes())
            {
                if (_proc.ReadStat(pid).TryGet(out ProcessStat? stat) && stat.State != 'Z' && names.Contains(stat.Name))
                {
                    stats[pid] = stat;
                }
            }
            foreach (ProcessStat stat in stats.Values.OrderBy(static s => s.Id.StartTicks).ThenBy(static s => s.Id.Tgid))
            {
                if (!_watched.ContainsKey(stat.Id.Tgid))
                {
                    found |= SeedProcess(stat, stats, instances);
                }
            }
        }
    }

    private bool SeedProcess(ProcessStat stat, Dictionary<int, ProcessStat> stats, Dictionary<int, InstanceId> instances)
    {
        int pid = stat.Id.Tgid;
        bool child = instances.TryGetValue(stat.ParentPid, out InstanceId instance);
        if (!child)
        {
            instance = new InstanceId(pid, stat.Id.StartTicks * ProcessId.NanosecondsPerTick);
        }
        try
        {
            if (!_kernel.WatchProcess(stat.Id, instance))
            {
                return false;
            }
        }
        catch (BpfException e)
        {
            NotWatched(_logger, pid, e.Message);
            return false;
        }
        if (!_proc.ReadStat(pid).TryGet(out ProcessStat? again) || again.Id != stat.Id)
        {
            _kernel.UnwatchProcess(stat.Id);
            return true;
        }
        instances[pid] = instance;
        _watched[pid] = stat.Id;
        var observation = new Observation
        {
            Kind = ObservationKind.Seeded,
            TimeNs = BootClock.NowNs,
            Process = stat.Id,
            Tid = pid,
            Instance = instance,
            Name = stat.Name,
            Other = child && stats.TryGetValue(stat.ParentPid, out ProcessStat? parent) ? parent.Id : default,
        };
        _fleet.Observe(in observation, child ? null : NameOf(stat.Id));
        LookAtMappings(stat.Id, mappedNs: 0);
        return true;
    }

    /// <summary>What a server is called outside; null when it is gone already.</summary>
    private string? NameOf(ProcessId process) => TargetName.Of(_proc, process).TryGet(out string? target) ? target : null;

    /// <summary>What a process has mapped before anybody could tell of it: its executable, or all of a seeded one.</summary>
    private void LookAtMappings(ProcessId process, ulong mappedNs)
    {
        if (!_proc.ReadMaps(process.Tgid, onlyCode: true).TryGet(out ImmutableArray<Mapping> maps))
        {
            return; // It is gone, or its mappings will be told one by one.
        }
        foreach (Mapping mapping in maps)
        {
            if (mapping is { IsCode: true, Path: { } path } && path.StartsWith('/'))
            {
                OfferMapping(process, path, mapping.Start, mapping.End, mappedNs);
            }
        }
    }

    private void OfferMapping(ProcessId process, string path, ulong start, ulong end, ulong mappedNs)
    {
        LibraryState library;
        // The mapping may have been split since, or map_files be forbidden: then the path will do.
        if (_proc.OpenMapping(process.Tgid, start, end).TryGet(out SafeFileHandle? file)
            || _proc.OpenRooted(process.Tgid, path).TryGet(out file, out ProcFailure failure))
        {
            using (file)
            {
                library = _libraries.Offer(file, path);
            }
        }
        else if (Path.GetFileName(path).StartsWith("libcrypto", StringComparison.Ordinal))
        {
            NotOpened(_logger, path, process.Tgid, failure.Detail);
            library = new LibraryState(path, [], ProbedNs: null, failure.Detail);
        }
        else
        {
            return;
        }
        if (!library.IsLibcrypto)
        {
            return;
        }
        _fleet.LibraryMapped(process, path, mappedNs, library.Error is null ? library.ProbedNs : null);
        if (mappedNs != 0 && library.ProbedNs > mappedNs)
        {
            _attachDelay((library.ProbedNs.Value - mappedNs) / 1e9);
        }
    }

    private void CountLosses()
    {
        ulong lost = 0;
        for (int kind = 1; kind < KernelSide.KindNames.Count; kind++)
        {
            lost += (ulong)_kernel.Lost(kind);
        }
        if (lost > _lost)
        {
            _changed = true;
            LossSeen(_logger, (long)(lost - _lost), "event");
            _fleet.EventsLost(lost - _lost, BootClock.NowNs);
            _lost = lost;
        }
    }

    private void Publish()
    {
        var events = ImmutableArray.CreateBuilder<EventCount>(KernelSide.KindNames.Count);
        for (int kind = 1; kind < KernelSide.KindNames.Count; kind++)
        {
            events.Add(new EventCount(KernelSide.KindNames[kind]!, _kernel.Received(kind), _kernel.Lost(kind)));
        }
        events.Add(new EventCount("mapping", _kernel.MappingsReceived, _kernel.MappingsLost));
        _state.Publish(new AgentSnapshot(
            DateTimeOffset.UtcNow,
            _fleet.Snapshot(BootClock.NowNs),
            events.ToImmutable(),
            _libraries.Probed,
            _libraries.Failures,
            _kernel.RingBytes,
            _kernel.RingUsedBytes));
        _publishedAt = Environment.TickCount64;
        _changed = false;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "watching {Names}; libraries probed: {Libraries}; libbpf {Libbpf}")]
    private static partial void Watching(ILogger logger, string names, int libraries, string libbpf);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Count} {What}s were lost: the ring was full; raise --ring-bytes")]
    private static partial void LossSeen(ILogger logger, long count, string what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "process {Pid} cannot be watched: {Reason}")]
    private static partial void NotWatched(ILogger logger, int pid, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path}, mapped by process {Pid}, cannot be opened: {Reason}")]
    private static partial void NotOpened(ILogger logger, string path, int pid, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void ScanWarning(ILogger logger, string message);
}
