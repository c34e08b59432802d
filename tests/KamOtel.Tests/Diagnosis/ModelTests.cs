using CsCheck;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Diagnosis;

/// <summary>
/// The fleet against a naive model: the model keeps nothing but the list of what happened, and answers each question by
/// searching that list backwards.
/// </summary>
public sealed class ModelTests
{
    private static readonly ulong[] Values = [0, SlotValue.Sentinel, History.Pointer, History.Pointer + 0x40];

    private static readonly Gen<Step[]> Histories =
        Gen.Select(Gen.Int[0, 99], Gen.Int[0, 30], Gen.Int[0, 30], Gen.Int[0, 3], static (kind, process, thread, value) => new Step(kind, process, thread, value))
            .Array[0, 60];

    [Fact]
    public void The_fleet_agrees_with_the_model_after_every_step() =>
        Histories.Sample(
            static steps =>
            {
                var model = new Model();
                foreach (Step step in steps)
                {
                    model.Do(step);
                    model.Compare();
                }
                model.CompareCounters();
            },
            iter: 3000);

    /// <summary>One random choice; numbers are taken modulo what there is to choose from.</summary>
    private readonly record struct Step(int Kind, int Process, int Thread, int Value);

    /// <summary>Something that happened to a thread's slots.</summary>
    private readonly record struct Entry(ObservationKind Kind, int Pid, int Tid, SlotKey Slot, ulong Value, int Child);

    private sealed class Model
    {
        private readonly History _history = new();
        private readonly List<Entry> _entries = [];
        private readonly List<(int Pid, int Instance)> _alive = [];
        private readonly HashSet<int> _lossy = [];
        private readonly HashSet<int> _seeded = [];
        private readonly HashSet<int> _covered = [];
        private int _nextPid = 10;
        private (int Execs, int Forks, int Exits, int Calls) _counted;

        public void Do(Step step)
        {
            if (_alive.Count == 0 || step.Kind < 4)
            {
                Begin(seeded: step.Kind == 1);
                return;
            }
            (int pid, int instance) = _alive[step.Process % _alive.Count];
            int tid = (step.Thread % 3) switch { 0 => pid + 100_000, 1 => pid + 200_000, _ => pid };
            var key = (uint)(step.Thread % 4);
            ulong value = Values[step.Value];
            switch (step.Kind)
            {
                case < 20:
                    int child = _nextPid++;
                    _history.Fork(pid, child, tid);
                    _entries.Add(new Entry(ObservationKind.Fork, pid, tid, default, 0, child));
                    _alive.Add((child, instance));
                    _counted.Forks++;
                    break;
                case < 28:
                    _history.Exit(pid);
                    _counted.Exits++;
                    _ = _alive.Remove((pid, instance));
                    break;
                case < 31:
                    _history.Exec(pid, "sh", watched: false);
                    _ = _alive.Remove((pid, instance));
                    break;
                case < 35 when tid != pid:
                    _history.ThreadExit(pid, tid);
                    _entries.Add(new Entry(ObservationKind.Exit, pid, tid, default, 0, 0));
                    break;
                case < 65:
                    _history.Set(pid, key, value, tid);
                    _entries.Add(new Entry(ObservationKind.SetLocal, pid, tid, new SlotKey(key, 0, false), value, 0));
                    _counted.Calls++;
                    break;
                case < 75:
                    _history.SetEx(pid, key, value, tid);
                    _entries.Add(new Entry(ObservationKind.SetLocalEx, pid, tid, new SlotKey(key, 0x10, true), value, 0));
                    _counted.Calls++;
                    break;
                case < 82:
                    _history.Cleanup(pid, key);
                    _entries.Add(new Entry(ObservationKind.CleanupLocal, pid, 0, new SlotKey(key, 0, false), 0, 0));
                    _counted.Calls++;
                    break;
                case < 86:
                    _history.Clean(pid, tid);
                    _entries.Add(new Entry(ObservationKind.CleanLocal, pid, tid, default, 0, 0));
                    _counted.Calls++;
                    break;
                case < 93:
                    _history.Settle();
                    break;
                case < 98:
                    _history.Library(pid);
                    _ = _covered.Add(instance);
                    break;
                default:
                    _history.Fleet.EventsLost(1, _history.Now);
                    _lossy.UnionWith(_alive.Select(static process => process.Instance));
                    break;
            }
        }

        public void Compare()
        {
            FleetSnapshot fleet = _history.Fleet.Snapshot(_history.Now);
            fleet.Instances.SelectMany(static instance => instance.Processes).Select(static process => process.Id.Tgid).Order()
                .ShouldBe(_alive.Select(static process => process.Pid).Order());
            foreach (InstanceSnapshot instance in fleet.Instances)
            {
                instance.Processes.Select(static process => process.Id.Tgid).Order()
                    .ShouldBe(_alive.Where(process => process.Instance == instance.Id.Tgid).Select(static process => process.Pid).Order());
                foreach (ProcessSnapshot process in instance.Processes)
                {
                    process.MainThreadSlots.Select(static slot => (slot.Key, slot.Value, slot.Inherited)).ToHashSet()
                        .ShouldBe(LiveSlots(process.Id.Tgid, process.Id.Tgid).ToHashSet(), ignoreOrder: true);
                    process.OtherThreadSlots.ShouldBe(
                        new[] { 100_000, 200_000 }.Sum(offset => LiveSlots(process.Id.Tgid, process.Id.Tgid + offset).Count()));
                }
                CompareVerdict(instance);
            }
        }

        public void CompareCounters()
        {
            System.Collections.Immutable.ImmutableArray<TargetCounters> targets = _history.Fleet.Snapshot(_history.Now).Targets;
            (targets.Sum(static t => t.Execs), targets.Sum(static t => t.Forks), targets.Sum(static t => t.Exits.Sum()), targets.Sum(static t => t.Calls.Sum(static c => c.Count)))
                .ShouldBe((_counted.Execs, _counted.Forks, _counted.Exits, _counted.Calls));
            _history.Sink.Calls.Count.ShouldBe(_counted.Calls);
        }

        /// <summary>What must hold of a verdict, whatever happened.</summary>
        private void CompareVerdict(InstanceSnapshot instance)
        {
            int id = instance.Id.Tgid;
            bool pointer = instance.Processes.Any(process => process.Id == instance.Root
                ? LiveSlots(process.Id.Tgid, process.Id.Tgid).Any(static slot => SlotValue.KindOf(slot.Value) == SlotValueKind.Pointer)
                : LiveSlots(process.Id.Tgid, process.Id.Tgid).Any(static slot => slot.Inherited && SlotValue.KindOf(slot.Value) == SlotValueKind.Pointer));

            instance.Verdict.ShouldBeOneOf(Verdict.Unknown, Verdict.Safe, Verdict.Exposed);
            instance.Reason.ShouldNotBeEmpty();
            if (instance.Verdict == Verdict.Safe)
            {
                _seeded.ShouldNotContain(id);
                _covered.ShouldContain(id);
                instance.Gaps.ShouldBe(CoverageGaps.None);
                instance.ReadyNs.ShouldNotBeNull();
            }
            bool hadWorkers = instance.ReadyNs is not null || _entries.Any(entry => entry.Kind == ObservationKind.Fork && entry.Pid == instance.Root.Tgid);
            if (instance.Processes.Length == 1 && hadWorkers)
            {
                return; // It is stopping: the verdict of before stays.
            }
            Verdict expected = _lossy.Contains(id) ? Verdict.Unknown
                : pointer ? Verdict.Exposed
                : _seeded.Contains(id) || !_covered.Contains(id) || instance.ReadyNs is null ? Verdict.Unknown
                : Verdict.Safe;
            instance.Verdict.ShouldBe(expected);
        }

        private void Begin(bool seeded)
        {
            int pid = _nextPid++;
            if (seeded)
            {
                _history.Seed(pid);
                _ = _seeded.Add(pid);
            }
            else
            {
                _history.Exec(pid);
                _counted.Execs++;
            }
            _alive.Add((pid, pid));
        }

        private IEnumerable<(SlotKey Key, ulong Value, bool Inherited)> LiveSlots(int pid, int tid) =>
            _entries.Where(static entry => entry.Kind is ObservationKind.SetLocal or ObservationKind.SetLocalEx).Select(static entry => entry.Slot).Distinct()
                .Select(slot => (Slot: slot, Found: Search(pid, tid, slot, _entries.Count, inherited: false)))
                .Where(static found => found.Found.Value != 0)
                .Select(static found => (found.Slot, found.Found.Value, found.Found.Inherited));

        /// <summary>The last thing before <paramref name="end"/> that says what the slot holds.</summary>
        private (ulong Value, bool Inherited) Search(int pid, int tid, SlotKey slot, int end, bool inherited)
        {
            for (int i = end - 1; i >= 0; i--)
            {
                Entry entry = _entries[i];
                switch (entry.Kind)
                {
                    case ObservationKind.SetLocal or ObservationKind.SetLocalEx when entry.Pid == pid && entry.Tid == tid && entry.Slot == slot:
                        return (entry.Value, inherited);
                    case ObservationKind.CleanupLocal when entry.Pid == pid && entry.Slot == slot:
                    case ObservationKind.CleanLocal when entry.Pid == pid && entry.Tid == tid && slot.Extended:
                    case ObservationKind.Exit when entry.Pid == pid && entry.Tid == tid:
                        return (0, false);
                    case ObservationKind.Fork when entry.Child == pid:
                        // Fork copies the calling thread only, and it becomes the child's Thread#1.
                        return tid == pid ? Search(entry.Pid, entry.Tid, slot, i, inherited: true) : (0, false);
                    default:
                        break;
                }
            }
            return (0, false);
        }
    }
}
