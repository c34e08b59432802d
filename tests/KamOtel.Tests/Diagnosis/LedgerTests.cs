using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

public sealed class LedgerTests
{
    private readonly History _history = new();

    [Fact]
    public void A_set_value_is_a_live_slot_until_null_is_set()
    {
        _history.Exec(10).Set(10, key: 3);
        _history.Process(10).MainThreadSlots.ShouldHaveSingleItem()
            .ShouldBe(new SlotSnapshot(new SlotKey(3, 0, false), Pointer, Inherited: false, _history.Now));

        _history.Set(10, key: 3, value: 0);
        _history.Process(10).MainThreadSlots.ShouldBeEmpty();
    }

    [Fact]
    public void The_sentinel_is_a_live_slot_but_no_pointer()
    {
        _history.Exec(10).Set(10, value: SlotValue.Sentinel);

        _history.Process(10).MainThreadSlots.Length.ShouldBe(1);
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Sink.Calls[0].Call.Value.ShouldBe(SlotValueKind.Sentinel);
    }

    [Fact]
    public void A_fork_copies_the_calling_threads_slots_into_the_childs_Thread1()
    {
        _history.Exec(10).Set(10, key: 0).Set(10, key: 1, tid: 99).SetEx(10, id: 2, tid: 99);
        _history.Fork(10, 11).Fork(10, 12, tid: 99);

        _history.Process(11).MainThreadSlots.Select(slot => (slot.Key.ToString(), slot.Inherited)).ShouldBe([("0", true)]);
        _history.Process(12).MainThreadSlots.Select(slot => (slot.Key.ToString(), slot.Inherited)).ShouldBe([("1", true), ("ex:2", true)]);
        _history.Process(12).InheritedSlots.ShouldBe(2);
        _history.Process(10).OtherThreadSlots.ShouldBe(2);
    }

    [Fact]
    public void An_inherited_slot_keeps_the_time_of_the_call_that_set_it()
    {
        _history.Exec(10).Set(10);
        ulong set = _history.Now;

        _history.Fork(10, 11).Fork(11, 12);

        _history.Process(12).MainThreadSlots.ShouldHaveSingleItem().SetNs.ShouldBe(set);
    }

    [Fact]
    public void A_set_by_the_child_replaces_what_it_inherited()
    {
        _history.Exec(10).Set(10).Fork(10, 11).Set(11, value: Pointer + 1).Set(11, value: Pointer + 2);

        _history.Sink.Calls.Select(call => call.Call.ReplacesInherited).ShouldBe([false, true, false]);
        _history.Process(11).InheritedSlots.ShouldBe(0);
        _history.Process(11).MainThreadSlots.ShouldHaveSingleItem().Value.ShouldBe(Pointer + 2);
    }

    [Fact]
    public void Clearing_an_inherited_slot_replaces_it_too_but_only_in_Thread1()
    {
        _history.Exec(10).Set(10).Fork(10, 11).Set(11, value: 0, tid: 99).Set(11, value: 0);

        _history.Sink.Calls.Select(call => call.Call.ReplacesInherited).ShouldBe([false, false, true]);
        _history.Process(11).MainThreadSlots.ShouldBeEmpty();
    }

    [Fact]
    public void What_the_parent_sets_after_the_fork_is_not_inherited() =>
        _history.Exec(10).Fork(10, 11).Set(10).Process(11).MainThreadSlots.ShouldBeEmpty();

    [Fact]
    public void A_key_that_ends_ends_in_every_thread_of_its_process_only()
    {
        _history.Exec(10).Set(10).Set(10, tid: 99).Set(10, key: 1).SetEx(10).Fork(10, 11).Cleanup(10);

        _history.Process(10).MainThreadSlots.Select(slot => slot.Key.ToString()).ShouldBe(["1", "ex:0"]);
        _history.Process(10).OtherThreadSlots.ShouldBe(0);
        _history.Process(11).MainThreadSlots.Length.ShouldBe(3);
    }

    [Fact]
    public void Cleaning_a_thread_ends_its_extended_slots_only()
    {
        _history.Exec(10).SetEx(10).SetEx(10, tid: 99).Set(10).Clean(10);

        _history.Process(10).MainThreadSlots.Select(slot => slot.Key.ToString()).ShouldBe(["0"]);
        _history.Process(10).OtherThreadSlots.ShouldBe(1);
    }

    [Fact]
    public void Extended_slots_of_different_contexts_are_different_slots() =>
        _history.Exec(10).SetEx(10, context: 1).SetEx(10, context: 2).Process(10).MainThreadSlots.Length.ShouldBe(2);

    [Fact]
    public void A_thread_that_ends_takes_its_slots_along()
    {
        _history.Exec(10).Set(10).Set(10, tid: 98).Set(10, tid: 99).ThreadExit(10, 99);
        _history.Process(10).OtherThreadSlots.ShouldBe(1);

        _history.ThreadExit(10, 10);
        _history.Process(10).MainThreadSlots.ShouldBeEmpty();
        _history.Sink.Exits.ShouldBeEmpty();
    }

    [Fact]
    public void A_call_without_a_readable_key_is_counted_and_changes_no_slot()
    {
        _history.Exec(10).Set(10, key: null).Cleanup(10, key: null).SetEx(10, id: null);

        _history.Process(10).MainThreadSlots.ShouldBeEmpty();
        _history.Sink.Calls.Count.ShouldBe(3);
        _history.Server.Gaps.ShouldBe(CoverageGaps.KeyUnread);
        _history.Sink.Gaps.ShouldHaveSingleItem();
    }

    [Fact]
    public void An_init_has_no_key_and_that_is_no_gap() =>
        _history.Exec(10).Init(10).Server.Gaps.ShouldBe(CoverageGaps.None);

    [Fact]
    public void A_process_with_more_slots_than_the_limit_has_a_gap_and_no_more_memory()
    {
        History history = new(new FleetOptions { MaxSlotsPerProcess = 3 });
        history.Exec(10);
        for (uint key = 0; key < 10; key++)
        {
            history.Set(10, key).Set(10, key, tid: 99);
        }

        ProcessSnapshot process = history.Process(10);
        (process.MainThreadSlots.Length + process.OtherThreadSlots).ShouldBe(3);
        history.Server.Gaps.ShouldBe(CoverageGaps.LedgerFull);
        history.Sink.Gaps.ShouldHaveSingleItem();

        // What is kept still changes.
        history.Set(10, 0, value: Pointer + 7).Process(10).MainThreadSlots[0].Value.ShouldBe(Pointer + 7);
        history.Set(10, 0, value: 0).Set(10, 50).Process(10).MainThreadSlots.ShouldContain(slot => slot.Key.Key == 50);
    }
}
