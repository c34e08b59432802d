using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>
/// Keeps what happened to each server, for who comes later: at its start, and lately; and the servers that ended last, as they
/// were. Bounded in all, whatever the servers do. On the watch loop's thread only; what <see cref="Snapshot"/> gives is for any.
/// </summary>
internal sealed class ServerHistories(int maxEnded = ServerHistories.MaxEnded) : IFleetSink
{
    /// <summary>Servers that ended, and are still shown.</summary>
    public const int MaxEnded = 32;

    /// <summary>Servers with a history. Whatever starts beyond them has none.</summary>
    public const int MaxServers = 256;

    /// <summary>Characters of a sentence: names in it are the server's own.</summary>
    private const int MaxText = 600;

    private readonly Dictionary<InstanceId, Growing> _servers = [];
    private readonly Queue<InstanceId> _ended = new();
    private readonly ToldServers _told = new();
    private HistorySnapshot _snapshot = HistorySnapshot.Empty;
    private bool _changed;

    /// <summary>What there is now. The same object as before when nothing happened.</summary>
    public HistorySnapshot Snapshot()
    {
        if (_changed)
        {
            _changed = false;
            _snapshot = new HistorySnapshot(
                [.. _ended.Select(_told.Find).OfType<InstanceSnapshot>()],
                _servers.ToImmutableDictionary(static s => s.Key, static s => s.Value.Freeze()));
        }
        return _snapshot;
    }

    public void InstanceFound(InstanceContext instance, in Observation observation)
    {
        _told.InstanceFound(instance, in observation);
        if (_servers.Count < MaxServers)
        {
            _servers[instance.Id] = new Growing(instance.SinceExec ? instance.StartedNs : observation.TimeNs);
            Add(instance, new Moment(observation.TimeNs, instance.SinceExec ? "exec" : "found", Severity.Info, observation.Process.Tgid, Sentences.OfFound(instance)));
        }
    }

    /// <summary>A loaded server calls thousands of times a second: what is only counted costs next to nothing.</summary>
    public void Call(InstanceContext instance, in Observation observation, in CallContext call)
    {
        bool telling = Sentences.IsTelling(in observation, in call);
        if (!_servers.TryGetValue(instance.Id, out Growing? server))
        {
            return;
        }
        _changed = true;
        if (!server.HasRoomForCall(telling))
        {
            return;
        }
        Add(instance, new Moment(observation.TimeNs, "call", telling ? Severity.Notice : Severity.Info, observation.Process.Tgid, $"{Words.Of(observation.Kind)}: {Plain(Sentences.Of(in observation, in call))}"));
    }

    public void Attributed(InstanceContext instance, in Observation call, CallChain chain)
    {
        if (call.Key is not null && _servers.TryGetValue(instance.Id, out Growing? server))
        {
            server.Attribute(call.TimeNs, call.Process.Tgid, Sentences.OfAuthor(in call, chain), chain.Author);
            _changed = true;
        }
    }

    public void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module)
    {
        if (!_servers.TryGetValue(instance.Id, out Growing? server))
        {
            return;
        }
        server.EndStep("module", observation.TimeNs);
        if (step == StartStep.ModulesDone)
        {
            server.EndStep("modules", observation.TimeNs);
            _changed = true;
        }
        else if (Sentences.Of(step, module) is { } text)
        {
            Add(instance, new Moment(observation.TimeNs, step == StartStep.Module ? "module" : "modules", Severity.Info, observation.Process.Tgid, text, module));
        }
    }

    public void Forked(InstanceContext instance, in Observation observation, ProcessRole? role)
    {
        _told.Forked(instance, in observation, role);
        Add(instance, new Moment(observation.TimeNs, "fork", Severity.Info, observation.Process.Tgid, Sentences.OfFork(in observation, role)));
    }

    public void Exited(InstanceContext instance, in Observation observation, ProcessRole role) =>
        Add(instance, new Moment(observation.TimeNs, "exit", (observation.Status & 0x7f) is 0 or 15 && observation.Status is 0 or 15 ? Severity.Info : Severity.Warning, observation.Process.Tgid, Sentences.OfExit(in observation, role)));

    public void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults)
    {
        _told.Crashed(instance, crash, faults);
        Add(instance, new Moment(crash.TimeNs, "crash", Severity.Error, crash.Process.Tgid, Sentences.Of(crash), crash.Module));
    }

    public void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults)
    {
        _told.Complained(instance, in observation, complaint, in context, faults);
        Add(instance, new Moment(observation.TimeNs, "complaint", complaint.IsDamage ? Severity.Error : Severity.Warning, observation.Process.Tgid, Words.Of(complaint, in context), complaint.Module));
    }

    public void Ready(InstanceContext instance, InstanceSnapshot snapshot)
    {
        _told.Ready(instance, snapshot);
        Add(instance, new Moment(snapshot.ReadyNs ?? instance.StartedNs, "ready", Severity.Info, snapshot.Root.Tgid, Sentences.OfReady(snapshot)));
    }

    public void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs)
    {
        _told.VerdictChanged(instance, snapshot, before, timeNs);
        Add(instance, new Moment(timeNs, "verdict", snapshot.Verdict switch
        {
            Verdict.Safe => Severity.Info,
            Verdict.Exposed => Severity.Notice,
            Verdict.Unknown => Severity.Warning,
            _ => Severity.Error,
        }, Pid: null, Sentences.OfVerdict(snapshot)));
    }

    public void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs)
    {
        _told.Confirmed(instance, snapshot, windowNs, timeNs);
        Add(instance, new Moment(timeNs, "confirmed", Severity.Error, Pid: null, Sentences.OfConfirmed(snapshot, windowNs)));
    }

    public void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs)
    {
        if (_servers.TryGetValue(instance.Id, out Growing? server))
        {
            server.Gap(gap, Cut(detail));
            Add(instance, new Moment(timeNs, "gap", Severity.Warning, Pid: null, Sentences.Of(gap, detail)));
        }
    }

    public void InstanceEnded(InstanceContext instance, in Observation observation)
    {
        _told.InstanceEnded(instance, in observation);
        if (!_servers.TryGetValue(instance.Id, out Growing? server) || _told.Find(instance.Id) is null)
        {
            // It was no server, or one too many.
            Forget(instance.Id);
            return;
        }
        server.EndedNs = observation.TimeNs;
        Add(instance, new Moment(observation.TimeNs, "ended", Severity.Info, observation.Process.Tgid, $"the server ended: {Words.OfStatus(observation.Status)}"));
        _ended.Enqueue(instance.Id);
        while (_ended.Count > maxEnded)
        {
            Forget(_ended.Dequeue());
        }
    }

    private void Forget(InstanceId id)
    {
        _ = _servers.Remove(id);
        _told.Forget(id);
        _changed = true;
    }

    /// <summary>One that is not known any more is past: a crash may be told long after.</summary>
    private void Add(InstanceContext instance, Moment moment)
    {
        if (_servers.TryGetValue(instance.Id, out Growing? server))
        {
            server.Add(moment with { Text = Cut(moment.Text) });
            _changed = true;
        }
    }

    /// <summary>Without the blanks that make columns.</summary>
    private static string Plain(string text) => string.Join(' ', text.Split(' ', StringSplitOptions.RemoveEmptyEntries));

    private static string Cut(string text) => text.Length <= MaxText ? text : string.Concat(text.AsSpan(0, MaxText), "…");

    /// <summary>What happened to one server, while it grows.</summary>
    private sealed class Growing(ulong originNs)
    {
        private readonly List<Moment> _moments = [];
        private readonly Dictionary<string, int> _kept = new(StringComparer.Ordinal);
        private ImmutableDictionary<CoverageGaps, string> _gaps = ImmutableDictionary<CoverageGaps, string>.Empty;
        private ServerHistory? _frozen;
        private long _leftOut;

        public ulong? EndedNs { get; set; }

        public ServerHistory Freeze()
        {
            _frozen ??= new ServerHistory(originNs, EndedNs, [.. _moments.OrderBy(static m => m.TimeNs)], _leftOut, _gaps);
            // What is only counted puts nothing in another order.
            return _frozen.LeftOut == _leftOut ? _frozen : _frozen = _frozen with { LeftOut = _leftOut };
        }

        /// <summary>Half of the room is for the calls that lead to a hazard. Counts those that there is none for.</summary>
        public bool HasRoomForCall(bool telling)
        {
            if (_kept.GetValueOrDefault("call") < (telling ? RoomFor("call") : RoomFor("call") / 2))
            {
                return true;
            }
            _leftOut++;
            return false;
        }

        public void Add(Moment moment)
        {
            _frozen = null;
            int kept = _kept.GetValueOrDefault(moment.Kind);
            if (kept < RoomFor(moment.Kind))
            {
                _kept[moment.Kind] = kept + 1;
            }
            else
            {
                _leftOut++;
                if (moment.Kind is not ("verdict" or "confirmed" or "exit" or "crash" or "complaint" or "gap"))
                {
                    return;
                }
                // How it came to be, and how it is now: what was between them goes.
                _moments.RemoveAt(_moments.FindIndex(_moments.FindIndex(m => m.Kind == moment.Kind) + 1, m => m.Kind == moment.Kind));
            }
            _moments.Add(moment);
        }

        public void Gap(CoverageGaps gap, string detail)
        {
            _frozen = null;
            _gaps = _gaps.ContainsKey(gap) ? _gaps : _gaps.Add(gap, detail);
        }

        /// <summary>The call is there already, unless it was left out.</summary>
        public void Attribute(ulong timeNs, int pid, string by, string? author)
        {
            int at = _moments.FindLastIndex(m => m.Kind == "call" && m.TimeNs == timeNs && m.Pid == pid);
            if (at >= 0)
            {
                _frozen = null;
                _moments[at] = _moments[at] with { Text = Cut($"{_moments[at].Text}: {by}"), Module = author };
            }
        }

        public void EndStep(string kind, ulong timeNs)
        {
            int at = _moments.FindLastIndex(m => m.Kind == kind);
            if (at >= 0 && _moments[at].DurationNs is null && timeNs >= _moments[at].TimeNs)
            {
                _frozen = null;
                _moments[at] = _moments[at] with { DurationNs = timeNs - _moments[at].TimeNs };
            }
        }

        /// <summary>200 in all. A start has the most to tell; of what floods, the beginning tells enough.</summary>
        private static int RoomFor(string kind) => kind switch
        {
            "module" => 56,
            "call" => 40,
            "fork" => 32,
            "exit" => 16,
            "complaint" or "crash" or "verdict" => 12,
            "gap" => 8,
            "confirmed" => 6,
            _ => 1,
        };
    }
}
