using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

/// <summary>What is found in live processes decides.</summary>
public sealed class InspectionTests
{
    private const int Root = 10;
    private const int SigKill = 9;
    private const int SigSegv = 11;

    [Fact]
    public void One_pointer_into_shared_memory_in_two_processes_is_a_hazard()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared(3)));
        InstanceSnapshot server = h.Server;
        server.Verdict.ShouldBe(Verdict.Hazard);
        SharedSlot slot = server.SharedSlots.ShouldHaveSingleItem();
        (slot.Key, slot.Value, slot.Memory.Name).ShouldBe((3U, Pointer, "/dev/zero (deleted)"));
        slot.Holders.ShouldBe([Id(Root), Id(11), Id(12)]);
        server.Reason.ShouldBe("3 processes hold the same pointers in 1 OpenSSL slot (key 3) into shared memory (/dev/zero (deleted)); who set them was not seen");
        server.Processes.ShouldAllBe(static p => p.Holding == Holding.Shared);
    }

    [Fact]
    public void The_root_need_not_be_among_the_holders()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => pid == Root ? h.Found(pid) : h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
        h.Server.SharedSlots[0].Holders.ShouldBe([Id(11), Id(12)]);
        h.Process(Root).Holding.ShouldBe(Holding.Nothing);
    }

    [Fact]
    public void Equal_pointers_into_private_memory_are_no_hazard_but_exposed()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Private()));
        h.Server.Verdict.ShouldBe(Verdict.Exposed);
        h.Server.SharedSlots.ShouldBeEmpty();
        h.Process(11).Holding.ShouldBe(Holding.Own);
    }

    [Fact]
    public void Different_pointers_into_shared_memory_are_no_hazard()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared(value: Pointer + (ulong)pid)));
        h.Server.Verdict.ShouldBe(Verdict.Exposed);
    }

    [Fact]
    public void The_same_pointer_under_different_keys_or_into_different_memory_is_no_hazard()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => pid switch
        {
            Root => h.Found(pid),
            11 => h.Found(pid, Shared(1), new HeldSlot(2, Pointer, SlotOwner.Unnamed, Segment with { Inode = 1 })),
            _ => h.Found(pid, Shared(2)),
        });
        h.Server.Verdict.ShouldBe(Verdict.Safe);
    }

    [Fact]
    public void Workers_that_each_made_their_own_leave_a_server_safe()
    {
        History h = Started(3);
        h.SettleAndInspect(pid => pid == Root ? h.Found(pid) : h.Found(pid, Shared(value: Pointer + (ulong)pid)));
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        h.Server.Reason.ShouldContain("no OpenSSL slot is live in Thread#1 of root");
    }

    [Theory]
    [InlineData(SlotValue.Sentinel, SlotOwner.Unnamed)]
    [InlineData(Pointer, SlotOwner.Other)]
    public void A_sentinel_and_another_librarys_slot_are_no_pointers_of_OpenSSL(ulong value, SlotOwner owner)
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, new HeldSlot(1, value, owner, Segment)));
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        h.Process(11).Holding.ShouldBe(Holding.Nothing);
    }

    [Fact]
    public void Without_a_libcrypto_a_slot_is_not_OpenSSLs()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Private()) with { MapsLibcrypto = false });
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        h.Server.Reason.ShouldContain("no process has a libcrypto");
    }

    [Fact]
    public void Without_a_libcrypto_a_shared_pointer_is_a_riddle_and_not_safe()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared(5)) with { MapsLibcrypto = false });
        h.Server.Verdict.ShouldBe(Verdict.Unknown);
        h.Server.Reason.ShouldContain("key 5");
    }

    [Fact]
    public void What_a_young_worker_inherited_proves_nothing_until_it_had_time_to_give_it_up()
    {
        History h = Started(2);
        h.Inspect(pid => h.Found(pid, Shared()));
        h.Sink.Verdicts.ShouldAllBe(static v => v.Now.Verdict < Verdict.Hazard);
        h.Fleet.NextInspectionNs.ShouldNotBeNull("to look again");

        h.SettleAndInspect(pid => pid == Root ? h.Found(pid, Shared()) : h.Found(pid));
        h.Server.Verdict.ShouldBe(Verdict.Exposed);
        h.Sink.Verdicts.ShouldAllBe(static v => v.Now.Verdict < Verdict.Hazard);
    }

    [Fact]
    public void A_new_worker_does_not_take_back_what_is_proven_and_is_looked_at_when_it_settled()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Fork(Root, (int)(h.Now / ProcessId.NanosecondsPerTick) - 100_000);
        h.Advance().Server.Verdict.ShouldBe(Verdict.Hazard);
        ulong due = h.Fleet.NextInspectionNs.ShouldNotBeNull();
        (due - h.Now).ShouldBeInRange(900 * Millisecond, 1100 * Millisecond);
    }

    [Fact]
    public void Workers_that_were_forked_in_a_row_are_inspected_together()
    {
        History h = Started(5);
        h.Inspect(pid => h.Found(pid));
        ulong last = Id(15).StartTicks * ProcessId.NanosecondsPerTick;
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBeInRange(last + Second, last + Second + (20 * Millisecond));
    }

    [Fact]
    public void A_server_that_forks_on_and_on_is_inspected_all_the_same()
    {
        History h = Started(1);
        h.Inspect(pid => h.Found(pid));
        ulong first = Id(11).StartTicks * ProcessId.NanosecondsPerTick;
        for (int i = 0; i < 200; i++)
        {
            h.Wait(20 * Millisecond).Fork(Root, (int)(h.Now / ProcessId.NanosecondsPerTick) - 100_000 + 50_000 + i);
        }
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBeLessThanOrEqualTo(first + (2 * Second));
    }

    [Fact]
    public void A_hazard_that_is_gone_is_no_hazard_any_more()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        ulong since = h.Server.SharedSlots[0].SinceNs;
        h.Wait(100 * Second).Inspect(pid => h.Found(pid, Shared()));
        h.Server.SharedSlots[0].SinceNs.ShouldBe(since);
        h.Wait(100 * Second).Inspect(pid => h.Found(pid));
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        h.Sink.Verdicts.Select(static v => v.Now.Verdict).TakeLast(2).ShouldBe([Verdict.Hazard, Verdict.Safe]);
    }

    [Theory]
    [InlineData(InspectionStatus.Denied)]
    [InlineData(InspectionStatus.Unsupported)]
    [InlineData(InspectionStatus.Unstable)]
    [InlineData(InspectionStatus.Unreadable)]
    public void A_process_that_could_not_be_inspected_makes_it_unknown_but_not_a_proven_hazard(InspectionStatus status)
    {
        History h = Started(3);
        ProcessInspection Failed(int pid) => h.Found(pid) with { Status = status, Detail = "for a reason" };
        h.SettleAndInspect(pid => pid == 13 ? Failed(pid) : h.Found(pid));
        h.Server.Verdict.ShouldBe(Verdict.Unknown);
        h.Server.Reason.ShouldBe("1 of 4 processes could not be inspected: for a reason");
        h.Process(13).Inspection.ShouldBe(status);

        h.Wait(100 * Second).Inspect(pid => pid == 13 ? Failed(pid) : h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
    }

    [Fact]
    public void Inspection_makes_a_server_safe_whose_past_nobody_saw()
    {
        var h = new History();
        h.Seed(Root).Seed(11, Root).SettleAndInspect(pid => h.Found(pid));
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        h.Server.Gaps.HasFlag(CoverageGaps.StartedBefore).ShouldBeTrue();
        h.Server.SinceExec.ShouldBeFalse();
    }

    [Fact]
    public void A_server_found_running_is_inspected_at_once()
    {
        var h = new History();
        h.Seed(Root).Seed(11, Root);
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBeLessThanOrEqualTo(h.Now);
    }

    [Fact]
    public void A_lone_process_is_not_judged_until_it_has_a_worker()
    {
        var h = new History();
        h.Seed(Root).SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Unknown);
        h.Server.Reason.ShouldContain("no worker");
        h.Seed(11, Root).SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
    }

    [Fact]
    public void A_root_that_was_gone_leaves_no_verdict_but_a_proven_one()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid) with { Status = pid == Root ? InspectionStatus.Gone : InspectionStatus.Inspected });
        h.Server.Verdict.ShouldBe(Verdict.Unknown);
    }

    [Fact]
    public void Lost_events_call_for_an_inspection_and_it_heals_what_they_broke()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid));
        h.Wait(Second).Fleet.EventsLost(5, h.Now);
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBeLessThanOrEqualTo(h.Now);
        h.Inspect(pid => h.Found(pid));
        h.Server.Verdict.ShouldBe(Verdict.Safe);
    }

    [Fact]
    public void Inspection_mends_the_ledger()
    {
        History h = Started(1).Set(Root, 7).Set(11, 8);
        h.SettleAndInspect(pid => h.Found(pid, Private(3), new HeldSlot(4, SlotValue.Sentinel, SlotOwner.Unnamed, Memory: null)));
        foreach (int pid in new[] { Root, 11 })
        {
            h.Process(pid).MainThreadSlots.Select(static s => (s.Key.Key, s.Value)).ShouldBe([(3U, Pointer), (4U, SlotValue.Sentinel)]);
        }
        h.Process(11).MainThreadSlots.ShouldAllBe(static s => s.Inherited);
        h.Process(Root).MainThreadSlots.ShouldAllBe(static s => !s.Inherited);
    }

    [Fact]
    public void What_the_ledger_knew_rightly_keeps_its_time()
    {
        History h = Started(1);
        h.Set(Root, 3);
        ulong set = h.Process(Root).MainThreadSlots[0].SetNs;
        h.SettleAndInspect(pid => h.Found(pid, Private(3)));
        h.Process(Root).MainThreadSlots[0].SetNs.ShouldBe(set);
        h.Process(11).MainThreadSlots[0].SetNs.ShouldBeGreaterThan(set);
    }

    [Fact]
    public void A_process_that_vanished_twice_is_gone_though_its_exit_was_never_told()
    {
        History h = Started(2);
        ProcessInspection Look(int pid) => pid == 12 ? h.Found(pid) with { Status = InspectionStatus.Gone } : h.Found(pid);
        h.SettleAndInspect(Look);
        h.Server.Processes.Length.ShouldBe(3);
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        h.Wait(2 * Second).Inspect(Look);
        h.Server.Processes.Length.ShouldBe(2);
    }

    [Fact]
    public void A_server_that_vanished_whole_ends()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid) with { Status = InspectionStatus.Gone });
        h.Wait(2 * Second).Inspect(pid => h.Found(pid) with { Status = InspectionStatus.Gone });
        h.Fleet.Snapshot(h.Now).Instances.ShouldBeEmpty();
        h.Sink.Ended.Count.ShouldBe(1);
    }

    [Fact]
    public void A_crash_in_a_server_with_a_shared_slot_is_corruption_and_stays_so()
    {
        History h = Started(3);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Exit(12, SigSegv).Advance();
        h.Server.Verdict.ShouldBe(Verdict.Corrupted);
        h.Server.Reason.ShouldStartWith("worker 12 died of signal 11 (SIGSEGV), and 4 processes hold the same pointers");
        h.Server.Damage.ShouldNotBeNull().Process.ShouldBe(Id(12));
        h.Wait(100 * Second).Inspect(pid => h.Found(pid));
        h.Exit(11).Exit(13).Exit(Root);
        h.Sink.Verdicts[^1].Now.Verdict.ShouldBe(Verdict.Corrupted);
        h.Fleet.Snapshot(h.Now).Targets.Single().Verdicts[(int)Verdict.Corrupted].ShouldBe(1);
        h.Fleet.Snapshot(h.Now).Targets.Single().Verdicts[(int)Verdict.Hazard].ShouldBe(1);
    }

    [Theory]
    [InlineData(SigKill)]
    [InlineData(15)]
    [InlineData(0x100)]
    public void Another_end_is_no_damage(int status)
    {
        History h = Started(3);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Exit(12, status).Advance();
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
    }

    [Fact]
    public void A_crash_without_a_shared_slot_is_blamed_on_nothing()
    {
        History h = Started(3);
        h.SettleAndInspect(pid => h.Found(pid));
        h.Dying(12, SigSegv, h.Found(12)).Exit(12, SigSegv).Advance();
        h.Server.Verdict.ShouldBe(Verdict.Safe);
        // A hazard that comes up long after has not that crash for its damage.
        h.Wait(100 * Second).Inspect(pid => h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
    }

    [Fact]
    public void A_worker_that_dies_young_proves_the_hazard_by_what_it_held()
    {
        History h = Started(1);
        h.Inspect(pid => h.Found(pid, Shared()));
        ((int)h.Server.Verdict).ShouldBeLessThan((int)Verdict.Hazard);
        h.Wait(300 * Millisecond).Dying(11, SigSegv, h.Found(11, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Corrupted);
        h.Server.SharedSlots.Single().Holders.ShouldBe([Id(Root), Id(11)]);
        h.Exit(11, SigSegv).Exit(Root);
        h.Sink.Verdicts[^1].Now.Verdict.ShouldBe(Verdict.Corrupted);
    }

    [Fact]
    public void A_worker_that_died_before_anybody_looked_proves_it_when_the_others_are_looked_at()
    {
        History h = Started(1);
        h.Dying(11, SigSegv, h.Found(11, Shared())).Exit(11, SigSegv);
        ((int)h.Server.Verdict).ShouldBeLessThan((int)Verdict.Hazard);
        h.Inspect(pid => h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Corrupted);
    }

    [Fact]
    public void A_worker_that_dies_with_pointers_of_its_own_proves_nothing()
    {
        History h = Started(2);
        h.Inspect(pid => h.Found(pid, Shared()));
        h.Dying(11, SigSegv, h.Found(11, Shared(value: Pointer + 0x500))).Exit(11, SigSegv).Advance();
        ((int)h.Server.Verdict).ShouldBeLessThan((int)Verdict.Hazard);
    }

    [Fact]
    public void A_slot_set_by_root_after_its_workers_calls_for_an_inspection()
    {
        History h = Started(1);
        h.SettleAndInspect(pid => h.Found(pid));
        h.Wait(10 * Second).Set(Root);
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBe(h.Now);
    }

    [Fact]
    public void However_busily_a_server_forks_inspections_keep_their_distance()
    {
        History h = Started(1);
        h.SettleAndInspect(pid => h.Found(pid));
        ulong last = h.Now;
        h.Wait(Millisecond).Fleet.EventsLost(1, h.Now);
        h.Fleet.NextInspectionNs.ShouldBe(last + (100 * Millisecond));
    }

    [Fact]
    public void Uses_of_shared_slots_are_told_with_the_hazard()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Fleet.Confirmed(h.InstanceOf(Root), [new SharedUse(Id(11), 0, 40), new SharedUse(Id(12), 0, 2)], 2 * Second, h.Now);
        h.Server.Reason.ShouldEndWith("; 2 processes used them 42 times while that was watched");
        h.Sink.Told.ShouldContain("confirmed");
        h.Fleet.Snapshot(h.Now).Targets.Single().SharedUses.ShouldBe(42);
    }

    [Fact]
    public void What_the_server_is_made_of_stays_known()
    {
        History h = Started(1);
        var facts = new ServerFacts { Kamailio = "5.6.3", Modules = ["tls"] };
        h.Wait(3 * Second).Inspect(pid => h.Found(pid), facts);
        h.Wait(100 * Second).Inspect(pid => h.Found(pid));
        h.Server.Facts.ShouldBe(facts);
    }

    [Fact]
    public void Inspections_of_what_ended_meanwhile_are_ignored()
    {
        History h = Started(1);
        InstanceId id = h.InstanceOf(Root);
        h.Fleet.Inspected(id, [h.Found(999, Shared())]);
        h.Exit(11).Exit(Root);
        h.Fleet.Inspected(id, [h.Found(Root, Shared())]);
        h.Fleet.Confirmed(id, [], Second, h.Now);
        h.Fleet.Snapshot(h.Now).Instances.ShouldBeEmpty();
    }

    private static History Started(int workers)
    {
        var history = new History();
        history.Exec(Root).Library(Root);
        for (int i = 1; i <= workers; i++)
        {
            history.Fork(Root, Root + i);
        }
        return history;
    }
}
