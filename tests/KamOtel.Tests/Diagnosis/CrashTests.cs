using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

/// <summary>A crash is told once, with all that is known of it, whatever comes first.</summary>
public sealed class CrashTests
{
    private const int Root = 10;
    private const int SigAbrt = 6;
    private const int SigSegv = 11;
    private const int CoreDumped = 0x80;

    private static readonly CallChain InTls = new(
        [
            new CallFrame("libcrypto.so.3", null, false, "ERR_clear_error", 0x40),
            new CallFrame("tls.so", "tls", false, "tls_read_f", 0x100),
            new CallFrame("kamailio", null, true, "main", 0x1),
        ],
        ChainEnd.Complete,
        "");

    [Fact]
    public void It_is_told_when_the_process_has_ended_with_what_the_kernel_said_before()
    {
        History h = Started(2).Dying(12, SigSegv, Copy(12), tid: 77);
        ulong signal = h.Now;
        h.Sink.Crashes.ShouldBeEmpty();
        h.Wait(Second).Exit(12, SigSegv | CoreDumped);
        Crash crash = h.Sink.Crashes.ShouldHaveSingleItem();
        (crash.Process, crash.Role, crash.Signal, crash.Tid, crash.TimeNs, crash.EndNs).ShouldBe((Id(12), ProcessRole.Worker, SigSegv, 77, signal, h.Now));
        (crash.Module, crash.Chain.End).ShouldBe((null, ChainEnd.NotCopied));
        h.Sink.Told.TakeLast(2).ShouldBe(["exited", "crashed"]);
    }

    [Theory]
    [InlineData("chain, exit")]
    [InlineData("exit, chain")]
    [InlineData("exit, end, chain")]
    [InlineData("chain, exit, end")]
    [InlineData("exit, chain, end")]
    public void It_is_told_once_in_whatever_order_its_chain_its_end_and_that_of_the_server_come(string order)
    {
        History h = Started(1).Dying(11, SigAbrt, Copy(11), hasStack: true);
        foreach (string what in order.Split(", "))
        {
            h.Sink.Crashes.Count.ShouldBe(what == "end" && !order.EndsWith("chain", StringComparison.Ordinal) ? 1 : 0, what);
            h = what switch
            {
                "chain" => h.Unwound(InTls),
                "exit" => h.Exit(11, SigAbrt),
                _ => h.Exit(Root),
            };
        }
        Crash crash = h.Sink.Crashes.ShouldHaveSingleItem();
        (crash.Signal, crash.Role, crash.Module).ShouldBe((SigAbrt, ProcessRole.Worker, "tls"));
        h.Fleet.Snapshot(h.Now).Targets.Single().Crashes.ShouldBe([new CrashCount(SigAbrt, ProcessRole.Worker, "tls", 1)]);
        Fault fault = h.Sink.Faults.ShouldHaveSingleItem();
        (fault.Signal, fault.Module, fault.Count, fault.Process).ShouldBe((SigAbrt, "tls", 1, Id(11)));
        h.Fleet.Finish();
        h.Sink.Crashes.Count.ShouldBe(1);
    }

    [Theory]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(6)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(11)]
    public void Without_a_word_of_the_kernel_it_is_a_crash_by_its_end(int signal)
    {
        History h = Started(2).Exit(12, signal | CoreDumped);
        Crash crash = h.Sink.Crashes.ShouldHaveSingleItem();
        (crash.Signal, crash.Tid, crash.TimeNs, crash.EndNs).ShouldBe((signal, null, h.Now, h.Now));
        crash.Chain.WhyUnknown.ShouldStartWith("the kernel did not tell of the signal");
    }

    [Theory]
    [InlineData(0)]
    [InlineData(0x0b00)]
    [InlineData(9)]
    [InlineData(15)]
    [InlineData(31)]
    public void Another_end_is_none_even_if_a_chain_comes(int status)
    {
        History h = Started(2).Dying(12, SigSegv, Copy(12), hasStack: true).Exit(12, status).Unwound(InTls);
        h.Fleet.Finish();
        h.Sink.Crashes.ShouldBeEmpty();
        h.Server.Faults.ShouldBeEmpty();
    }

    [Fact]
    public void What_another_thread_dies_of_at_the_same_time_is_the_same_crash()
    {
        History h = Started(2).Dying(12, SigSegv, Copy(12), hasStack: true, tid: 77);
        Observation first = h.Fatal;
        h.Dying(12, SigAbrt, Copy(12), hasStack: true, tid: 78).Unwound(CallChain.Unknown(ChainEnd.Failed, "the other")).Exit(12, SigSegv);
        h.Sink.Crashes.ShouldBeEmpty();
        h.Unwound(in first, InTls).Unwound(in first, InTls);
        h.Sink.Crashes.ShouldHaveSingleItem().Tid.ShouldBe(77);
    }

    [Fact]
    public void A_process_that_was_dying_and_vanished_crashed()
    {
        History h = Started(2).Dying(12, SigSegv, Copy(12));
        ProcessInspection Look(int pid) => h.Found(pid) with { Status = pid == 12 ? InspectionStatus.Gone : InspectionStatus.Inspected };
        h.SettleAndInspect(Look).Wait(2 * Second).Inspect(Look);
        h.Sink.Crashes.ShouldHaveSingleItem().Signal.ShouldBe(SigSegv);
    }

    [Fact]
    public void It_names_the_call_that_the_process_made_last_and_how_long_before()
    {
        History h = Started(2).Set(12, 3).SetEx(11, 5);
        h.Wait(9 * Millisecond).Dying(12, SigSegv, Copy(12)).Wait(Second).Exit(12, SigSegv);
        h.Sink.Crashes[0].LastCall.ShouldBe(new LastCall(ObservationKind.SetLocal, 3, Slot: null, 11 * Millisecond));
        h.Exit(11, SigSegv).Sink.Crashes[1].LastCall.ShouldNotBeNull().Call.ShouldBe(ObservationKind.SetLocalEx);
    }

    [Fact]
    public void The_last_call_has_the_slots_name_where_a_stack_showed_it()
    {
        CallChain named = CallChainTests.Chain(ChainEnd.Complete, "libcrypto.so.3 CRYPTO_THREAD_set_local", "libcrypto.so.3 RAND_get0_public");
        History h = new History().Exec(Root).Library(Root).SetBy(Root, named, 3).Fork(Root, 11).Fork(Root, 12).Set(12, 3).Exit(12, SigSegv);
        h.Sink.Crashes.Single().LastCall.ShouldNotBeNull().Slot.ShouldBe("rand_public");
    }

    [Fact]
    public void A_process_that_made_no_call_has_no_last_call_but_what_it_inherited()
    {
        History h = new History().Exec(Root).Set(Root).Set(Root, 3).Fork(Root, 11).Fork(Root, 12).Set(11).Exit(12, SigSegv).Dying(11, SigSegv, Copy(11)).Exit(11, SigSegv);
        h.Sink.Crashes.Select(static c => (c.LastCall is null, c.InheritedSlots)).ShouldBe([(true, 2), (false, 1)]);
    }

    [Fact]
    public void Without_a_shared_slot_it_is_blamed_on_nothing_and_reported()
    {
        History h = Started(3);
        h.SettleAndInspect(pid => h.Found(pid)).Exit(12, SigSegv).Exit(13, SigSegv).Advance();
        InstanceSnapshot server = h.Server;
        (server.Verdict, server.Damage).ShouldBe((Verdict.Safe, null));
        Fault fault = server.Faults.ShouldHaveSingleItem();
        (fault.Signal, fault.Complaint, fault.Role, fault.Count, fault.Process).ShouldBe((SigSegv, null, ProcessRole.Worker, 2, Id(13)));
    }

    [Fact]
    public void At_the_end_it_is_told_without_the_chain_that_did_not_come()
    {
        History h = Started(1).Dying(11, SigAbrt, Copy(11), hasStack: true).Exit(11, SigAbrt);
        h.Fleet.Finish();
        h.Sink.Crashes.ShouldHaveSingleItem().Chain.WhyUnknown.ShouldContain("ended before");
        h.Unwound(InTls).Sink.Crashes.Count.ShouldBe(1);
    }

    [Fact]
    public void Very_many_that_wait_for_their_chain_are_told_without()
    {
        var h = new History();
        h.Exec(Root).Library(Root);
        for (int pid = 100; pid < 100 + 1025; pid++)
        {
            h.Fork(Root, pid).Dying(pid, SigSegv, Copy(pid), hasStack: true).Exit(pid, SigSegv);
        }
        h.Sink.Crashes.ShouldHaveSingleItem().Chain.WhyUnknown.ShouldContain("crashed at once");
    }

    [Fact]
    public void Modules_beyond_the_32nd_are_counted_as_other_and_move_with_the_name_of_their_server()
    {
        var h = new History();
        h.Exec(Root).Library(Root).Fork(Root, 11);
        for (int i = 0; i < 40; i++)
        {
            int pid = 100 + i;
            h.Fork(Root, pid).Dying(pid, SigSegv, Copy(pid), hasStack: true).Unwound(In($"m{i}")).Exit(pid, SigSegv);
        }
        h.Complain(11, module: "m1").Complain(11, module: "late");
        TargetCounters target = h.Fleet.Snapshot(h.Now).Targets.Single();
        target.Crashes.Length.ShouldBe(33);
        target.Crashes.Sum(static c => c.Count).ShouldBe(40);
        target.Crashes.Single(static c => c.Module == "other").Count.ShouldBe(8);
        target.Complaints.Select(static c => (c.Module, c.Count)).ShouldBe([("m1", 1L), ("other", 1L)]);

        h.Fleet.Name(h.InstanceOf(Root), "sip.service");
        TargetCounters moved = h.Fleet.Snapshot(h.Now).Targets.Single();
        moved.Target.ShouldBe("sip.service");
        moved.Crashes.ShouldBe(target.Crashes, ignoreOrder: true);
        moved.Complaints.ShouldBe(target.Complaints);
        h.Fleet.Name(h.InstanceOf(Root), "another");
        h.Fleet.Snapshot(h.Now).Targets.Single().Crashes.ShouldBe(target.Crashes, ignoreOrder: true);
    }

    private static CallChain In(string module) => new([new CallFrame($"{module}.so", module, false, "f", 1)], ChainEnd.Complete, "");

    private static ProcessInspection Copy(int pid) => new() { Process = Id(pid), TimeNs = 0, Status = InspectionStatus.Inspected };

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
