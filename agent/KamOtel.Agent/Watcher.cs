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

    /// <summary>How often an open confirm window is looked at.</summary>
    internal const int ConfirmMs = 20;

    private readonly RunOptions _options;
    private readonly AgentState _state;
    private readonly Action<double> _attachDelay;
    private readonly ILogger _logger;
    private readonly KernelSide _kernel;
    private readonly Libraries _libraries;
    private readonly Steps _steps;
    private readonly Complaints _complaints;
    private readonly Fleet _fleet;
    private readonly ProcFs _proc = new();
    private readonly ServerNames _names;
    private readonly RunningServers _running;
    private readonly Inspector _inspector;
    private readonly ConfirmWindow _confirm;
    private readonly CodeMaps _maps = new();
    private readonly Attribution _attribution;
    private readonly Dictionary<int, ProcessId> _watched = [];

    /// <summary>Processes that ended, or left: what they mapped before that is told after it.</summary>
    private readonly List<ProcessId> _ended = [];

    /// <summary>What is needed to understand the last copy of a dying process's slots, by instance.</summary>
    private readonly Dictionary<InstanceId, ProcessView> _views = [];
    private readonly UnclaimedMappings _unclaimed = new();
    private bool _filesLeft;
    private bool _shortageLeft;
    private ulong _lost;
    private ulong _allLosses;
    private long _publishedAt;
    private bool _changed = true;

    /// <summary>Loads the kernel side; nothing is attached yet.</summary>
    /// <exception cref="BpfException">The machine cannot do it; the message says why and what helps.</exception>
    public Watcher(RunOptions options, AgentState state, IFleetSink sink, Action<double> attachDelay, Action<double> inspectionDuration, Action<double> unwindDuration, ILogger logger, IFleetJournal? journal = null)
    {
        _options = options;
        _state = state;
        _attachDelay = attachDelay;
        _logger = logger;
        _kernel = KernelSide.Load(options.RingBytes, logger);
        _libraries = new Libraries(_kernel, logger);
        _steps = new Steps(_kernel, _proc, logger);
        _complaints = new Complaints(_kernel, _maps, logger);
        _fleet = new Fleet(options.ForFleet(), sink, journal);
        _names = new ServerNames(_kernel, _proc, logger);
        _running = new RunningServers(_kernel, _proc, options.Watch, logger);
        _inspector = new Inspector(_kernel, _proc, inspectionDuration, logger);
        _confirm = new ConfirmWindow(_kernel, _proc, options.ConfirmSeconds, logger);
        _attribution = new Attribution(_maps, _kernel.Wake, unwindDuration, logger);
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
        ScanResult executables = scan.Executables(_options.Watch);
        foreach (ScanResult found in new[] { scan.Libraries(_options.LibraryPath, _options.SystemLibraries), executables })
        {
            foreach (string warning in found.Warnings)
            {
                ScanWarning(_logger, warning);
            }
            foreach (string path in found.Paths)
            {
                _ = _libraries.OfferPath(path);
                _steps.OfferExecutable(path);
            }
        }
        foreach (string name in _options.Watch)
        {
            _kernel.WatchName(name);
        }
        _kernel.AttachTracepoints();
        if (_kernel.FatalSignalsRefused is { } refused)
        {
            FatalSignalsNotTold(_logger, refused);
        }
        Seed();
        WatchComplaints(_fleet.Snapshot(BootClock.NowNs));
        foreach (string path in executables.Paths)
        {
            _complaints.OfferExecutable(path);
        }
        Inspect();
        Publish();
        Watching(_logger, string.Join(", ", _options.Watch), _libraries.Probed.Length, BpfObject.LibbpfVersion);
    }

    /// <summary>Waits for something to happen, at most until the next thing is due, and deals with it.</summary>
    public void Turn()
    {
        Inspect();
        ulong now = BootClock.NowNs;
        ulong due = Math.Min(_fleet.Advance(now) ?? ulong.MaxValue, _fleet.NextInspectionNs ?? ulong.MaxValue);
        ulong wait = due > now ? ((due - now) / 1_000_000) + 1 : 0;
        _kernel.Poll((int)Math.Min(wait, _confirm.IsOpen ? ConfirmMs : _changed ? PublishMs : (ulong)HeartbeatMs), this);
        while (_steps.AttachNext() || _complaints.AttachNext())
        {
            _kernel.Consume(this);
        }
        _state.Turned();
        Attribute();
        CountLosses();
        // The inspection first: a server that is ready now is judged by it.
        Inspect();
        _confirm.Turn(_fleet, BootClock.NowNs);
        _ = _fleet.Advance(BootClock.NowNs);
        if (Environment.TickCount64 - _publishedAt >= PublishMs)
        {
            Publish();
        }
    }

    /// <summary>After the last <see cref="Turn"/>: what waits for more is told as it is.</summary>
    public void Finish() => _fleet.Finish();

    /// <summary>Ends a <see cref="Turn"/> early. Any thread.</summary>
    public void Wake() => _kernel.Wake();

    /// <inheritdoc/>
    public void OnObservation(in Observation observation)
    {
        _changed = true;
        _steps.Follow(in observation);
        ServerName? name = observation is { Kind: ObservationKind.Exec, Watched: true } ? _names.Of(observation.Process) : null;
        _fleet.Observe(in observation, name?.Target, name?.Container);
        switch (observation.Kind)
        {
            case ObservationKind.Exec when observation.Watched:
                _watched[observation.Process.Tgid] = observation.Process;
                BeginMaps(observation.Process);
                LookAtMappings(observation.Process, observation.TimeNs);
                foreach (UnclaimedMapping mapping in _unclaimed.Claim(observation.Process.Tgid, observation.TimeNs))
                {
                    OfferMapping(observation.Process, mapping.Path, mapping.Start, mapping.Start + mapping.Length, mapping.Offset, mapping.Inode, mapping.TimeNs);
                }
                break;
            case ObservationKind.Exec:
            case ObservationKind.Exit when observation.LastThread:
                _ended.Add(observation.Process);
                break;
            case ObservationKind.Fork:
                _watched[observation.Other.Tgid] = observation.Other;
                _maps.Fork(observation.Process, observation.Other, observation.TimeNs);
                break;
            case ObservationKind.Entered when _steps.Find(in observation) is var (step, module):
                _fleet.Entered(in observation, step, module);
                break;
            default:
                break;
        }
    }

    /// <inheritdoc/>
    public void OnComplaint(in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack)
    {
        _changed = true;
        _complaints.Take(_fleet, in observation, arguments, stack);
    }

    /// <inheritdoc/>
    public void OnStack(in Observation call, in CopiedStack stack) => _attribution.Take(in call, in stack);

    /// <inheritdoc/>
    public void OnFatalSignal(in Observation observation, ReadOnlySpan<byte> blocks, uint blocksRead)
    {
        _changed = true;
        ProcessInspection copy = _views.TryGetValue(observation.Instance, out ProcessView? view)
            ? _inspector.Decode(view, observation.Process, blocks, blocksRead, observation.TimeNs)
            : new ProcessInspection { Process = observation.Process, TimeNs = observation.TimeNs, Status = InspectionStatus.Unsupported, Detail = "the process died before anybody knew where it keeps its slots" };
        _fleet.Dying(in observation, copy);
    }

    /// <inheritdoc/>
    public void OnMapping(in ExecutableMapping mapping)
    {
        if (mapping.Path.IsEmpty || mapping.Path[0] != (byte)'/')
        {
            return;
        }
        if (!_watched.TryGetValue(mapping.Tgid, out ProcessId process))
        {
            _unclaimed.Keep(in mapping);
            return;
        }
        _changed = true;
        OfferMapping(process, Encoding.UTF8.GetString(mapping.Path), mapping.Start, mapping.Start + mapping.Length, mapping.Offset, new MappedInode(mapping.DeviceMajor, mapping.DeviceMinor, mapping.Inode), mapping.TimeNs);
    }

    /// <inheritdoc/>
    public void OnMappingsLost(ulong count)
    {
        _changed = true;
        LossSeen(_logger, (long)count, "mapping");
        _fleet.EventsLost(count, BootClock.NowNs);
        foreach (ProcessId process in _watched.Values.ToArray())
        {
            LookAtMappings(process, mappedNs: 0);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _confirm.Dispose();
        _attribution.Dispose();
        _complaints.Dispose();
        _maps.Dispose();
        _steps.Dispose();
        _libraries.Dispose();
        _kernel.Dispose();
    }

    /// <summary>Brings the servers that run already into the fleet.</summary>
    private void Seed() => _running.Find((observation, name) =>
    {
        _watched[observation.Process.Tgid] = observation.Process;
        BeginMaps(observation.Process);
        _fleet.Observe(in observation, name?.Target, name?.Container);
        LookAtMappings(observation.Process, mappedNs: 0);
    });

    /// <summary>
    /// Looks into the processes of which it is time. What the ring holds comes first, so that the fleet does not take the
    /// older for the newer.
    /// </summary>
    private void Inspect()
    {
        if (_fleet.NextInspectionNs is not { } at || at > BootClock.NowNs)
        {
            return;
        }
        _kernel.Consume(this);
        Attribute();
        foreach (InspectionRequest request in _inspector.Inspect(_fleet, BootClock.NowNs))
        {
            if (_inspector.View(request.Root) is { } view)
            {
                TellLayout(request.Instance, view);
                _views[request.Instance] = view;
            }
        }
        _changed = true;
        foreach (InstanceSnapshot instance in _fleet.Snapshot(BootClock.NowNs).Instances)
        {
            _confirm.Consider(instance);
        }
    }

    /// <summary>From now on the kernel side can copy the slots of a process of this instance that dies.</summary>
    private void TellLayout(InstanceId instance, ProcessView view)
    {
        if (_views.ContainsKey(instance))
        {
            return;
        }
        try
        {
            _kernel.SetSlotLayout(instance, view.Layout.TableOffset, view.Layout.Flat);
        }
        catch (BpfException e)
        {
            LayoutNotTold(_logger, instance, e.Message);
        }
    }

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
                OfferMapping(process, path, mapping.Start, mapping.End, mapping.Offset, new MappedInode(mapping.DeviceMajor, mapping.DeviceMinor, mapping.Inode), mappedNs);
            }
        }
    }

    private void OfferMapping(ProcessId process, string path, ulong start, ulong end, ulong offset, MappedInode inode, ulong mappedNs)
    {
        LibraryState library;
        bool opened = true;
        string shown = PlainText.Of(path);
        // The mapping may have been split since, or map_files be forbidden: then the path will do.
        bool exactly = _proc.OpenMapping(process.Tgid, start, end).TryGet(out SafeFileHandle? file);
        ProcFailure failure = default;
        if (file is not null || _proc.OpenRooted(process.Tgid, path).TryGet(out file, out failure))
        {
            library = _libraries.Offer(file, shown);
            _complaints.Offer(file, path);
            // What runs already is past its start.
            if (mappedNs != 0)
            {
                _steps.Offer(process, file, path, start, end, offset);
            }
            _maps.Map(process, start, end, offset, KeepForStacks(file, path, inode, exactly), mappedNs);
        }
        else
        {
            CodeFile? known = FindForStacks(path, inode);
            _maps.Map(process, start, end, offset, known, mappedNs);
            if (known is not null && failure.Status == ProcStatus.Gone)
            {
                _complaints.Offer(known.Handle, path);
                library = _libraries.Offer(known.Handle, shown);
            }
            else if (failure.Status == ProcStatus.Gone || !Path.GetFileName(path).StartsWith("libcrypto", StringComparison.Ordinal))
            {
                return; // Of a process that is gone there is nothing to watch any more.
            }
            else
            {
                library = _libraries.NotOpened(shown, failure);
                opened = false;
            }
        }
        if (!library.IsLibcrypto)
        {
            return;
        }
        // Once for a server, not for each of its workers.
        if (_fleet.LibraryMapped(process, shown, mappedNs, library.Error is null ? library.ProbedNs : null) && !opened)
        {
            NotOpened(_logger, shown, process.Tgid, library.Error!);
        }
        if (mappedNs != 0 && library.ProbedNs > mappedNs)
        {
            _attachDelay((library.ProbedNs.Value - mappedNs) / 1e9);
        }
    }

    /// <summary>Takes the file over, for the stacks that lead through it. Null when it is not the one that is mapped.</summary>
    /// <param name="exactly">It was opened by its mapping; by its path it may be another one.</param>
    private CodeFile? KeepForStacks(SafeFileHandle file, string path, MappedInode inode, bool exactly)
    {
        CodeFile? kept = _maps.Find(inode);
        if (kept is null && FileKey.Of(file).TryGet(out FileKey key) && (exactly || key.Inode == inode.Inode))
        {
            kept = new CodeFile(file, path, key, deleted: false);
            _maps.Keep(inode, kept);
            return kept;
        }
        file.Dispose();
        return kept;
    }

    /// <summary>The file that a process mapped which is gone: known from another one, or the same on the agent's own paths.</summary>
    private CodeFile? FindForStacks(string path, MappedInode inode)
    {
        if (_maps.Find(inode) is { } known)
        {
            return known;
        }
        if (!RegularFile.Open(path).TryGet(out SafeFileHandle? file))
        {
            return null;
        }
        if (FileKey.Of(file).TryGet(out FileKey key) && new MappedInode(key.DeviceMajor, key.DeviceMinor, key.Inode) == inode)
        {
            return KeepForStacks(file, path, inode, exactly: true);
        }
        file.Dispose();
        return null;
    }

    /// <summary>From here on what the process maps is kept.</summary>
    private void BeginMaps(ProcessId process) =>
        _maps.Begin(process, _proc.ExecutablePath(process.Tgid).TryGet(out string? program) ? program : null);

    /// <summary>After the ring and the mappings were read: whose the stacks are is known now, and what was found out is told.</summary>
    private void Attribute()
    {
        _complaints.TellEarly(_fleet);
        _attribution.Dispatch();
        foreach (ProcessId ended in _ended)
        {
            _maps.End(ended);
            if (_watched.TryGetValue(ended.Tgid, out ProcessId process) && process == ended)
            {
                _ = _watched.Remove(ended.Tgid);
            }
        }
        _filesLeft |= _ended.Count > 0;
        _ended.Clear();
        _changed |= _attribution.Tell(_fleet);
        if (_filesLeft && _attribution.IsIdle)
        {
            _filesLeft = false;
            _maps.CloseUnused(file =>
            {
                _attribution.Forget(file);
                _libraries.Release(file);
            });
        }
    }

    private void ForgetEnded(FleetSnapshot fleet)
    {
        foreach (InstanceId ended in _views.Keys.Except(fleet.Instances.Select(static i => i.Id)).ToArray())
        {
            _ = _views.Remove(ended);
            _kernel.RemoveSlotLayout(ended);
            _confirm.Forget(ended);
        }
    }

    /// <summary>A server that ran before the agent would pay for the many probes in each of its processes.</summary>
    private void WatchComplaints(FleetSnapshot fleet)
    {
        _complaints.WatchShortage = fleet.Instances.All(static i => i.SinceExec);
        if (!_complaints.WatchShortage && !_shortageLeft)
        {
            ShortageNotWatched(_logger, KernelSide.HasUprobeMulti ? "a server runs that was started before: restart it" : "this kernel has no links to uprobes (Linux 6.6)");
        }
        _shortageLeft = !_complaints.WatchShortage;
    }

    private void CountLosses()
    {
        // Every turn: each kind is a call of the kernel.
        ulong all = _kernel.AllLosses;
        if (all == _allLosses)
        {
            return;
        }
        _allLosses = all;
        ulong lost = 0;
        for (int kind = 1; kind < KernelSide.KindNames.Count; kind++)
        {
            lost += kind == KernelSide.StackKind ? 0 : (ulong)_kernel.Lost(kind);
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
        FleetSnapshot fleet = _fleet.Snapshot(BootClock.NowNs);
        ForgetEnded(fleet);
        WatchComplaints(fleet);
        _steps.Turn(fleet.Instances.Any(static i => i is { SinceExec: true, ReadyNs: null }));
        _state.Publish(new AgentSnapshot(
            DateTimeOffset.UtcNow,
            fleet,
            events.ToImmutable(),
            _libraries.Probed,
            _libraries.Failures,
            _inspector.Count,
            _confirm.Count,
            _attribution.Restarts,
            _kernel.RingBytes,
            _kernel.RingUsedBytes)
        {
            UnreadComplaints = _complaints.Unread,
        });
        // It goes on: what processes hold is read without probes.
        _state.SetNotReady(_libraries.Denied is { } denied ? $"no probe could be attached: {denied}" : null);
        _publishedAt = Environment.TickCount64;
        _changed = false;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "watching {Names}; libraries probed: {Libraries}; libbpf {Libbpf}")]
    private static partial void Watching(ILogger logger, string names, int libraries, string libbpf);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Count} {What}s were lost: the ring was full; raise --ring-bytes")]
    private static partial void LossSeen(ILogger logger, long count, string what);

    [LoggerMessage(Level = LogLevel.Warning, Message = "what a process holds when it dies will not be known: {Reason}")]
    private static partial void FatalSignalsNotTold(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "the slots of a process of {Instance} that dies will not be known: {Reason}")]
    private static partial void LayoutNotTold(ILogger logger, InstanceId instance, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path}, mapped by process {Pid}, cannot be opened: {Reason}")]
    private static partial void NotOpened(ILogger logger, string path, int pid, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "messages about shared memory that is used up are not watched for: {Reason}")]
    private static partial void ShortageNotWatched(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void ScanWarning(ILogger logger, string message);
}
