using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>Runs one command under watch, from before its first instruction until nothing of it is left.</summary>
internal sealed class CheckRun(
    Watcher watcher, AgentState state, CheckedServers servers, RunOptions options, CheckOptions check, CheckedCommand command, SignalState signals, Interruption interruption)
{
    /// <summary>What cannot be inspected is not waited for longer than this after it settled.</summary>
    private const ulong PatienceNs = 1_000_000_000;

    /// <summary>A command that ended, left something behind and started no server so far will hardly start one.</summary>
    private static readonly TimeSpan AfterCommand = TimeSpan.FromSeconds(5);

    /// <summary>What of a server outlives its root for longer than this will not end by itself.</summary>
    private static readonly TimeSpan AfterRoot = TimeSpan.FromSeconds(1);

    /// <summary>For the ring to be read to the end of a server that has ended.</summary>
    private static readonly TimeSpan ToLearnOfEnd = TimeSpan.FromSeconds(3);

    /// <summary>Milliseconds of a wait that something else ends.</summary>
    private const long Never = 3_600_000;

    /// <summary>Names of processes that are told to people, who need no more to see what ran.</summary>
    private const int MaxNames = 5;

    private readonly ProcFs _proc = new();
    private readonly ConcurrentQueue<GuardReport> _reports = [];
    private readonly Lock _waking = new();
    private bool _over;
    private GuardProcess? _guard;
    private int? _failed;
    private int? _status;
    private int _killed;
    private bool _gone;
    private bool _lost;
    private bool _wasReady;
    private bool _stopping;
    private bool _killing;
    private bool _stopped;
    private string? _problem;
    private ImmutableArray<string> _ran = [];
    private long _startedAt;
    private long _endedAt;
    private long _readyAt;
    private long _rootlessAt;

    /// <summary>Runs it to its end.</summary>
    /// <exception cref="IOException">The guard cannot be started.</exception>
    public CheckResult Run()
    {
        using var begun = new ManualResetEventSlim();
        using GuardProcess guard = _guard = GuardProcess.Start(
            new GuardedCommand(command.Words, check.StopWithin, check.Json, signals),
            report =>
            {
                _reports.Enqueue(report);
                begun.Set();
                Wake();
            });
        using var alarm = new Timer(_ => Wake());
        interruption.Told = Wake;
        servers.Begin(guard.Pid);
        _startedAt = Environment.TickCount64;
        guard.Begin();
        // The guard tells the command's process before that is anything else, and so it is known before it is observed.
        begun.Wait();
        try
        {
            while (!_gone)
            {
                Hear();
                long wait = Step();
                _ = alarm.Change(wait, Timeout.Infinite);
                if (!_gone)
                {
                    watcher.Turn();
                }
            }
            long end = Environment.TickCount64 + (long)ToLearnOfEnd.TotalMilliseconds;
            do
            {
                _ = alarm.Change(servers.Living > 0 ? Math.Max(end - Environment.TickCount64, 1) : 1, Timeout.Infinite);
                watcher.Turn();
            }
            while (servers.Living > 0 && Environment.TickCount64 < end && interruption.Count < 2);
        }
        finally
        {
            interruption.Told = null;
            lock (_waking)
            {
                _over = true;
            }
        }
        return Conclude();
    }

    private static TimeSpan Since(long at) => TimeSpan.FromMilliseconds(Environment.TickCount64 - at);

    /// <summary>Any thread, and until it is over: the watcher may be gone then.</summary>
    private void Wake()
    {
        lock (_waking)
        {
            if (!_over)
            {
                watcher.Wake();
            }
        }
    }

    private void Hear()
    {
        while (_reports.TryDequeue(out GuardReport report))
        {
            switch (report.Kind)
            {
                case GuardReportKind.Started:
                    servers.Started(report.Pid);
                    break;
                case GuardReportKind.Failed:
                    _failed = report.Value;
                    break;
                case GuardReportKind.Ended:
                    _status = report.Value;
                    _stopped = _stopping;
                    _endedAt = Environment.TickCount64;
                    break;
                case GuardReportKind.Killed:
                    _killed = report.Value;
                    break;
                case GuardReportKind.Lost:
                    _lost = _gone = true;
                    break;
                default:
                    _gone = true;
                    break;
            }
        }
    }

    /// <summary>Decides whether it is time to stop. Returns after how many milliseconds to ask again, if nothing happens before.</summary>
    private long Step()
    {
        ImmutableArray<InstanceSnapshot> living = servers.Look(state.Current.Fleet);
        if (_stopping)
        {
            if (interruption.Count > 1 && !_killing)
            {
                _killing = true;
                _guard!.Kill();
            }
            return Never;
        }
        if (Interrupted() is { } interrupted)
        {
            return Stop(interrupted);
        }
        bool ready = living.Length > 0 && living.All(IsReady);
        if (ready && !_wasReady)
        {
            _wasReady = true;
            _readyAt = Environment.TickCount64;
        }
        TimeSpan left = _wasReady ? check.For - Since(_readyAt) : TimeSpan.MaxValue;
        TimeSpan patience = check.ReadyWithin - Since(_startedAt);
        if (_rootlessAt == 0 && living.Any(i => servers.EndOf(i) is not null))
        {
            _rootlessAt = Environment.TickCount64;
        }
        if (_rootlessAt != 0)
        {
            left = left < AfterRoot - Since(_rootlessAt) ? left : AfterRoot - Since(_rootlessAt);
        }
        if (left <= TimeSpan.Zero && (ready || living.IsEmpty || _rootlessAt != 0))
        {
            return Stop(null);
        }
        if (!_wasReady && _endedAt != 0 && servers.All().IsEmpty)
        {
            patience = patience < AfterCommand - Since(_endedAt) ? patience : AfterCommand - Since(_endedAt);
        }
        if ((!_wasReady || left <= TimeSpan.Zero) && patience <= TimeSpan.Zero)
        {
            return Stop(living.FirstOrDefault(i => !IsReady(i)) is not { } late ? null
                : $"the server was not ready within {Seconds(check.ReadyWithin)}: {(late.ReadyNs is null && late.Processes.Length < 2 ? "it has no worker" : late.Reason)}");
        }
        return new[] { left, patience }.Where(static t => t > TimeSpan.Zero).Select(static t => (long)t.TotalMilliseconds + 1).Append(Never).Min();
    }

    private string? Interrupted() => interruption.Count > 0 ? $"{interruption.Signal} came before the check was over" : null;

    private long Stop(string? problem)
    {
        _problem = problem;
        _ran = Running();
        servers.Stopping();
        _stopping = true;
        _guard!.Stop();
        return Never;
    }

    /// <summary>Its workers are there, nothing forks, and it was looked at; where that cannot be, it was tried.</summary>
    private bool IsReady(InstanceSnapshot server) =>
        server.ReadyNs is { } ready
        && ((server.IsConcluded && server.Processes.All(static p => p.Settled && p.Inspection != InspectionStatus.Gone))
            || BootClock.NowNs > ready + options.ForFleet().SettleNs + PatienceNs);

    /// <summary>The names of what the command has running.</summary>
    private ImmutableArray<string> Running()
    {
        var stats = new Dictionary<int, ProcessStat>();
        foreach (int pid in _proc.Processes())
        {
            if (_proc.ReadStat(pid).TryGet(out ProcessStat? stat) && stat.State != 'Z')
            {
                stats[pid] = stat;
            }
        }
        ILookup<int, ProcessStat> children = stats.Values.ToLookup(static s => s.ParentPid);
        var found = new List<ProcessStat>(children[_guard!.Pid]);
        for (int i = 0; i < found.Count && found.Count <= stats.Count; i++)
        {
            found.AddRange(children[found[i].Id.Tgid]);
        }
        return [.. found.Select(static s => s.Name.ToString()).Distinct(StringComparer.Ordinal)];
    }

    private CheckResult Conclude()
    {
        ImmutableArray<InstanceSnapshot> all = [.. servers.All().Select(static s => s with { Ended = true })];
        return new CheckResult
        {
            Name = command.Configuration ?? (all.Length > 0 ? servers.FileOf(all[0]) ?? all[0].Target : Path.GetFileName(command.Words[0])),
            Configuration = command.Configuration,
            // People know it by its configuration, and not by the container or the service that the whole job runs in.
            Servers = [.. all.Select(s => s with { Target = command.Configuration ?? servers.FileOf(s) ?? s.Target })],
            Status = _status,
            Stopped = _stopped,
            Killed = _killed,
            NotExecuted = _failed is not null,
            Problem = ProblemOf(all),
            Remarks = [.. Remarks(all)],
            Duration = Since(_startedAt),
        };
    }

    private string? ProblemOf(ImmutableArray<InstanceSnapshot> all)
    {
        if (_failed is { } errno)
        {
            return $"{command.Words[0]} cannot be executed: {Marshal.GetPInvokeErrorMessage(errno)}";
        }
        if (_lost)
        {
            return "what the command started could not be ended, or its guard was: something may be left";
        }
        // A terminal tells the server as well, and that may be gone before anybody here heard of it.
        if ((_problem ?? (_stopping ? null : Interrupted())) is { } problem)
        {
            return problem;
        }
        if (all.IsEmpty)
        {
            return NoServer();
        }
        foreach (InstanceSnapshot server in all)
        {
            if (servers.EndOf(server) is not { Asked: false } end)
            {
                continue;
            }
            if (server.ReadyNs is null)
            {
                return $"the server ended before it was ready: {Words.OfStatus(end.Status)}";
            }
            if (end.Status != 0 || servers.IsCommand(server))
            {
                return $"the server ended by itself before the check was over: {Words.OfStatus(end.Status)}; until then it was {Words.Of(server.Verdict)}";
            }
        }
        return _status is { } status and not 0 && !_stopped ? $"the command failed: {Words.OfStatus(status)}" : null;
    }

    private string NoServer()
    {
        string ended = _status is { } status ? Words.OfStatus(status) : "nobody knows how";
        string ran = _ran.IsEmpty ? $"the command ended ({ended})" : $"what runs is called {Some(_ran)}";
        string others = servers.Others.Count == 0 ? "" : $"; {Some(servers.Others)} started meanwhile, but does not descend from the command: a container's server is checked inside of it";
        string vanished = servers.Vanished.Count == 0 ? "" : $"; {Some(servers.Vanished)} ended at once";
        return $"no server called {string.Join(" or ", options.Watch)} was started: {ran}; --watch NAME checks one of another name{others}{vanished}";
    }

    private static string Some(IReadOnlyCollection<string> names) => string.Join(", ", names.Take(MaxNames)) + (names.Count > MaxNames ? ", …" : "");

    private IEnumerable<string> Remarks(ImmutableArray<InstanceSnapshot> all)
    {
        if (_killed > 0)
        {
            string why = _killing ? "were killed, as a second signal asked for" : $"did not end within {Seconds(check.StopWithin)} of SIGTERM and were killed";
            yield return $"{_killed} process{(_killed == 1 ? "" : "es")} {why}";
        }
        foreach (InstanceSnapshot server in all)
        {
            if (servers.EndOf(server) is { } end && !servers.IsCommandItself(server))
            {
                yield return $"the server{(all.Length > 1 ? $" {server.Root.Tgid}" : "")} ended {(end.Asked ? "after SIGTERM" : "by itself")}: {Words.OfStatus(end.Status)}";
            }
        }
    }

    private static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###} s");
}
