using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

public sealed class VerdictTests
{
    private readonly History _history = new();

    [Fact]
    public void A_server_seen_from_its_exec_without_slots_is_safe_once_it_is_ready()
    {
        _history.Exec(10).Library(10).Fork(10, 11).Fork(10, 12);
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Server.Reason.ShouldBe("the server is starting");
        _history.Server.ReadyNs.ShouldBeNull();
        ulong lastFork = _history.Now;

        _history.Settle();

        _history.Server.Verdict.ShouldBe(Verdict.Safe);
        _history.Server.Reason.ShouldBe(
            "seen from its exec without a gap, and no OpenSSL slot is live in Thread#1 of root or inherited by a worker");
        _history.Server.ReadyNs.ShouldBe(lastFork);
        _history.Sink.Readies.ShouldHaveSingleItem().Verdict.ShouldBe(Verdict.Safe);
        _history.Sink.Verdicts.Select(static told => told.Now.Verdict).ShouldBe([Verdict.Unknown, Verdict.Safe]);
        _history.Settle().Sink.Readies.ShouldHaveSingleItem();
    }

    [Fact]
    public void Slots_of_other_threads_and_cleared_slots_leave_a_server_safe() =>
        _history.Exec(10).Library(10).Set(10, tid: 99).Set(10).Set(10, value: 0).Fork(10, 11).Settle()
            .Server.Verdict.ShouldBe(Verdict.Safe);

    [Fact]
    public void A_live_pointer_in_Thread1_of_root_exposes_the_server_at_once()
    {
        _history.Exec(10).Library(10).Set(10).Set(10, key: 1).Set(10, key: 2, value: SlotValue.Sentinel);
        _history.Server.Verdict.ShouldBe(Verdict.Exposed);

        _history.Fork(10, 11).Fork(10, 12).Fork(10, 13).Set(13, value: 0).Set(13, key: 1, value: Pointer + 9).Settle();
        _history.Server.Reason.ShouldBe(
            "Thread#1 of root holds pointers in 2 OpenSSL slots, 2 workers inherited 2 and have not replaced them; "
            + "only inspection can tell whether they are shared");
    }

    [Fact]
    public void Workers_that_still_hold_inherited_pointers_expose_a_server_whose_root_cleared_its_own()
    {
        _history.Exec(10).Library(10).Set(10).Fork(10, 11).Set(10, value: 0).Settle();
        _history.Server.Verdict.ShouldBe(Verdict.Exposed);

        _history.Cleanup(11);
        _history.Server.Verdict.ShouldBe(Verdict.Safe);
    }

    [Fact]
    public void A_worker_that_ends_shares_nothing_any_more() =>
        _history.Exec(10).Library(10).Set(10).Fork(10, 11).Set(10, value: 0).Fork(10, 12).Settle().Exit(11)
            .Server.Verdict.ShouldBe(Verdict.Safe);

    [Fact]
    public void What_the_launcher_set_reaches_the_root_of_a_daemon() =>
        _history.Exec(10).Library(10).Set(10).Fork(10, 11).Fork(11, 12).Exit(11).Exit(10).Fork(12, 13).Settle()
            .Server.Verdict.ShouldBe(Verdict.Exposed);

    [Fact]
    public void A_server_without_libcrypto_is_unknown_until_one_comes()
    {
        _history.Exec(10).Fork(10, 11).Settle();
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Server.Reason.ShouldBe("no libcrypto with symbols was seen in the server");
        _history.Server.Gaps.ShouldBe(CoverageGaps.NoLibrary);

        _history.Library(11);
        _history.Server.Verdict.ShouldBe(Verdict.Safe);
        _history.Server.Gaps.ShouldBe(CoverageGaps.None);
    }

    [Fact]
    public void A_server_without_workers_is_never_ready()
    {
        _history.Exec(10).Library(10).Settle();

        _history.Server.ReadyNs.ShouldBeNull();
        _history.Server.Reason.ShouldBe("the server is starting");
    }

    [Fact]
    public void A_launcher_that_waits_does_not_make_the_root_ready() =>
        _history.Exec(10).Fork(10, 11).Fork(11, 12).Exit(11).Settle().Server.ReadyNs.ShouldBeNull();

    [Fact]
    public void Advance_says_when_it_wants_to_be_called_again()
    {
        _history.Exec(10).Library(10);
        _history.Fleet.Advance(_history.Now).ShouldBeNull();

        _history.Fork(10, 11);
        ulong due = _history.Now + Second;
        _history.Fleet.Advance(_history.Now).ShouldBe(due);
        _history.Fleet.Advance(due - 1).ShouldBe(due);
        _history.Server.ReadyNs.ShouldBeNull();
        _history.Fleet.Advance(due).ShouldBeNull();
        _history.Server.ReadyNs.ShouldBe(due - Second);
    }

    [Fact]
    public void A_fork_puts_the_end_of_the_start_off()
    {
        _history.Exec(10).Fork(10, 11);
        ulong first = _history.Now;
        _history.Fork(11, 12);
        _history.Fleet.Advance(first + Second).ShouldBe(_history.Now + Second);
        _history.Server.ReadyNs.ShouldBeNull();
    }

    [Fact]
    public void A_server_found_running_is_unknown_and_ready_at_once()
    {
        _history.Seed(10).Seed(11, parent: 10).Library(10);
        _history.Fleet.Advance(_history.Now).ShouldBeNull();

        _history.Server.ReadyNs.ShouldNotBeNull();
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Server.Reason.ShouldBe("the server was started before the agent");
        _history.Server.Gaps.ShouldBe(CoverageGaps.StartedBefore);
        _history.Sink.Found.ShouldHaveSingleItem().SinceExec.ShouldBeFalse();
        _history.Sink.Told.ShouldBe(["found", "verdict Unknown"]);
    }

    [Fact]
    public void Positive_evidence_counts_even_when_not_all_was_seen()
    {
        _history.Seed(10).Set(10).Fork(10, 11);

        _history.Server.Verdict.ShouldBe(Verdict.Exposed);
        _history.Server.Reason.ShouldBe(
            "Thread#1 of root holds pointers in 1 OpenSSL slot, 1 worker inherited 1 and has not replaced them; "
            + "only inspection can tell whether they are shared (not seen: the server was started before the agent)");
    }

    [Fact]
    public void Lost_events_make_every_living_server_unknown_even_an_exposed_one()
    {
        _history.Exec(10).Exec(20).Set(10);
        _history.Fleet.EventsLost(0, _history.Now);
        _history.Sink.Gaps.ShouldBeEmpty();

        _history.Fleet.EventsLost(3, _history.Now);
        _history.Fleet.EventsLost(4, _history.Now);
        _history.Exec(30);

        FleetSnapshot fleet = _history.Fleet.Snapshot(_history.Now);
        fleet.Instances.Select(instance => (instance.Verdict, instance.Reason)).ShouldBe(
        [
            (Verdict.Unknown, "7 events were lost, so the ledger may be wrong"),
            (Verdict.Unknown, "7 events were lost, so the ledger may be wrong"),
            (Verdict.Unknown, "the server is starting"),
        ]);
        _history.Sink.Gaps.Count.ShouldBe(2, "once a server");
    }

    [Fact]
    public void A_library_that_ran_without_probes_is_a_gap_with_its_delay()
    {
        _history.Exec(10).Library(10, lateNs: 2_500_000).Library(10, lateNs: 1_000_000).Library(10, lateNs: 1, name: "/opt/libcrypto.so")
            .Fork(10, 11).Settle();

        _history.Server.Gaps.ShouldBe(CoverageGaps.LibraryLate);
        _history.Server.LibraryGapNs.ShouldBe(2_500_000ul);
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Server.Reason.ShouldBe("a libcrypto ran 2.5 ms before its probes were attached");
        _history.Sink.Gaps.Select(gap => gap.Detail).ShouldBe(
            ["/lib/libcrypto.so.3 ran 2.5 ms before its probes were attached", "/opt/libcrypto.so ran 0.0 ms before its probes were attached"]);
    }

    [Fact]
    public void A_library_that_was_mapped_before_the_agent_came_is_not_called_late_but_a_later_one_is()
    {
        _history.Seed(10);
        _history.Fleet.LibraryMapped(Id(10), "libcrypto", 0, _history.Now);
        _history.Server.Gaps.ShouldBe(CoverageGaps.StartedBefore);

        _history.Library(10, lateNs: 5).Server.Gaps.ShouldBe(CoverageGaps.StartedBefore | CoverageGaps.LibraryLate);
    }

    [Fact]
    public void A_library_that_cannot_be_probed_is_a_gap_and_is_named()
    {
        _history.Exec(10).Fork(10, 11);
        _history.Fleet.LibraryMapped(Id(11), "/x/libcrypto.so", _history.Now, null);
        _history.Settle();

        _history.Server.Reason.ShouldBe("a libcrypto could not be probed");
        _history.Sink.Gaps.ShouldHaveSingleItem().Detail.ShouldBe("/x/libcrypto.so could not be probed");
    }

    [Fact]
    public void A_reason_names_every_gap()
    {
        _history.Seed(10).Set(10, key: null);
        _history.Fleet.LibraryMapped(Id(10), "x", _history.Now, null);

        _history.Server.Reason.ShouldBe(
            "the server was started before the agent; a libcrypto could not be probed; the key of a call could not be read");
    }

    [Fact]
    public void A_verdict_is_told_when_it_changed_and_not_for_its_reason_alone()
    {
        _history.Exec(10).Library(10).Advance();
        for (uint key = 0; key < 5; key++)
        {
            _history.Set(10, key).Advance();
        }
        _history.Sink.Verdicts.Select(static told => (told.Before, told.Now.Verdict))
            .ShouldBe([(Verdict.Unknown, Verdict.Unknown), (Verdict.Unknown, Verdict.Exposed)]);
        _history.Server.Reason.ShouldContain("5 OpenSSL slots");

        _history.Fork(10, 11).Fork(10, 12).Advance();
        _history.Sink.Verdicts.Count.ShouldBe(2);
        _history.Settle();
        _history.Sink.Verdicts.Count.ShouldBe(3, "once more with the newest reason, when the server is ready");
        _history.Sink.Verdicts[^1].Now.Reason.ShouldContain("2 workers");
    }

    [Fact]
    public void What_the_root_tidies_up_after_its_workers_changes_no_verdict()
    {
        _history.Exec(10).Library(10).Set(10).Fork(10, 11).Fork(10, 12).Settle();
        _history.Exit(11).Exit(12).Set(10, value: 0).Cleanup(10).Settle();

        _history.Server.Verdict.ShouldBe(Verdict.Exposed);
        _history.Exit(10);
        _history.Sink.Verdicts[^1].Now.Verdict.ShouldBe(Verdict.Exposed);
    }

    [Fact]
    public void A_server_that_loses_its_workers_while_it_starts_keeps_its_verdict_and_is_never_ready()
    {
        History history = new();
        history.Exec(10).Library(10).Set(10).Fork(10, 11).Fork(10, 12).Advance();
        history.Exit(11, status: 9).Exit(12, status: 9).Set(10, value: 0).Settle();
        history.Server.Verdict.ShouldBe(Verdict.Exposed);
        history.Server.ReadyNs.ShouldBeNull();
        history.Exit(10);
        history.Sink.Verdicts[^1].Now.Verdict.ShouldBe(Verdict.Exposed);
    }
}
