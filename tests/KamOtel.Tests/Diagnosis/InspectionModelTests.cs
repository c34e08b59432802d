using CsCheck;
using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

/// <summary>
/// Any state of a server's processes against the words of the definition: the verdict of an inspection of processes that
/// have settled is a matter of what they hold, not of what was heard of them before.
/// </summary>
public sealed class InspectionModelTests
{
    private static readonly Gen<HeldSlot> Slots =
        Gen.Select(Gen.Int[0, 2], Gen.Int[0, 3], Gen.Int[0, 9], Gen.Int[0, 2], static (key, value, owner, memory) => new HeldSlot(
            (uint)key,
            value == 0 ? SlotValue.Sentinel : Pointer + (ulong)value,
            owner switch { < 7 => SlotOwner.Unnamed, < 9 => SlotOwner.OpenSsl, _ => SlotOwner.Other },
            memory switch { 0 => null, 1 => Segment, _ => Segment with { Inode = 7 } }));

    private static readonly Gen<State> Processes =
        Gen.Select(Slots.Array[0, 3], Gen.Int[0, 19], Gen.Int[0, 9], static (slots, status, library) => new State(
            [.. slots.DistinctBy(static s => s.Key)],
            status switch { < 18 => InspectionStatus.Inspected, 18 => InspectionStatus.Denied, _ => InspectionStatus.Gone },
            library < 9));

    [Fact]
    public void The_verdict_is_that_of_the_definition_whatever_was_heard_before() =>
        Gen.Select(Processes.Array[2, 5], Gen.Int[0, 5].Array[0, 12], Gen.Bool).Sample(
            static (processes, noise, seeded) =>
            {
                History history = Server(processes.Length, noise, seeded);
                history.SettleAndInspect(pid => processes[pid - 10].Of(history, pid));
                Verdict expected = Expect(processes);
                history.Server.Verdict.ShouldBe(expected, string.Join(" | ", processes.Select(static p => p.ToString())));
                history.Server.Reason.ShouldNotBeEmpty();
                (history.Server.SharedSlots.Length > 0).ShouldBe(expected == Verdict.Hazard);

                // Any crash is damage in a hazard, and in nothing else.
                history.Exit(10 + processes.Length - 1, 11).Advance();
                if (processes.Length > 2)
                {
                    history.Server.Verdict.ShouldBe(expected == Verdict.Hazard ? Verdict.Corrupted : Expect(processes[..^1]));
                }
            },
            iter: 5000);

    private static History Server(int processes, int[] noise, bool seeded)
    {
        var history = new History();
        if (seeded)
        {
            history.Seed(10);
        }
        else
        {
            history.Exec(10).Library(10);
        }
        for (int pid = 11; pid < 10 + processes; pid++)
        {
            history = seeded ? history.Seed(pid, 10) : history.Fork(10, pid);
        }
        foreach (int what in noise)
        {
            int pid = 10 + (what % processes);
            history = what switch
            {
                0 => history.Set(pid),
                1 => history.Set(pid, value: 0),
                2 => history.Cleanup(pid),
                3 => history.Set(pid, key: null),
                4 => history.Inspect(p => history.Found(p, Shared())),
                _ => history.Inspect(p => history.Found(p)),
            };
        }
        history.Fleet.EventsLost((ulong)noise.Length, history.Now);
        return history;
    }

    private static Verdict Expect(State[] processes)
    {
        State[] read = [.. processes.Where(static p => p.Status == InspectionStatus.Inspected)];
        bool AlikeIn(Func<State, bool> which, Func<State, HeldSlot, bool> counts) =>
            read.Where(which).SelectMany(p => p.Slots.Where(s => counts(p, s) && s is { Memory: not null, Value: not SlotValue.Sentinel }))
                .GroupBy(static s => (s.Key, s.Value, s.Memory!.Inode)).Any(static g => g.Count() > 1);

        if (AlikeIn(static _ => true, static (p, s) => IsOpenSsl(p, s)))
        {
            return Verdict.Hazard;
        }
        if (processes.Any(static p => p.Status == InspectionStatus.Denied)
            || processes[0].Status == InspectionStatus.Gone
            || AlikeIn(static p => !p.Library, static (_, s) => s.Owner != SlotOwner.Other))
        {
            return Verdict.Unknown;
        }
        return processes[0].Status == InspectionStatus.Inspected && processes[0].Slots.Any(s => s.Value != SlotValue.Sentinel && IsOpenSsl(processes[0], s))
            ? Verdict.Exposed
            : Verdict.Safe;
    }

    private static bool IsOpenSsl(State process, HeldSlot slot) =>
        slot.Owner == SlotOwner.OpenSsl || (slot.Owner == SlotOwner.Unnamed && process.Library);

    private sealed record State(HeldSlot[] Slots, InspectionStatus Status, bool Library)
    {
        public ProcessInspection Of(History history, int pid) => history.Found(pid, Status == InspectionStatus.Inspected ? Slots : []) with
        {
            Status = Status,
            Detail = Status == InspectionStatus.Inspected ? "" : "told",
            MapsLibcrypto = Library,
        };

        public override string ToString() => $"{Status} {(Library ? "" : "no libcrypto ")}{string.Join(' ', Slots)}";
    }
}
