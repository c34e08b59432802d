using CsCheck;
using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

/// <summary>What complaints of a server's memory manager mean.</summary>
public sealed class ComplaintTests
{
    private const int Root = 10;
    private const int SigAbrt = 6;

    private static readonly ComplaintKind[] Damages = [ComplaintKind.AlreadyFreed, ComplaintKind.Overwritten, ComplaintKind.BadPointer, ComplaintKind.BadFragment];

    [Fact]
    public void Damage_in_a_server_with_a_shared_slot_is_corruption_with_a_reason_in_words()
    {
        History h = Hazard(3);
        h.Complain(12, address: Pointer);
        h.Sink.Verdicts[^1].Now.Verdict.ShouldBe(Verdict.Corrupted);
        h.Server.Reason.ShouldStartWith("the memory manager of worker 12 complained of memory freed twice (called from tls: tls_init.c: ser_free), and 4 processes hold the same pointers");
        h.Complain(12, address: Pointer + 0x5000).Complain(12).Complain(13).Advance();
        h.Server.Reason.ShouldStartWith("the memory manager of worker 12 complained 3 times of memory freed twice (called from tls: tls_init.c: ser_free), and 4");
        h.Exit(11, SigAbrt).Advance();
        h.Server.Reason.ShouldContain("complained 3 times of memory freed twice (called from tls: tls_init.c: ser_free), worker 11 died of signal 6 (SIGABRT), and");
        h.Server.Damage.ShouldNotBeNull().Complaint.ShouldNotBeNull().Kind.ShouldBe(ComplaintKind.AlreadyFreed);
        h.Sink.Verdicts.Count(static v => v.Now.Verdict == Verdict.Corrupted).ShouldBe(1);
    }

    [Theory]
    [InlineData(ComplaintKind.AlreadyFreed, true)]
    [InlineData(ComplaintKind.Overwritten, true)]
    [InlineData(ComplaintKind.BadPointer, true)]
    [InlineData(ComplaintKind.BadFragment, true)]
    [InlineData(ComplaintKind.OutOfSharedMemory, false)]
    public void A_shortage_is_no_damage(ComplaintKind kind, bool damage)
    {
        History h = Hazard(2);
        h.Complain(12, kind).Advance();
        h.Server.Verdict.ShouldBe(damage ? Verdict.Corrupted : Verdict.Hazard);
        h.Server.Faults.ShouldHaveSingleItem().IsShortage.ShouldBe(!damage);
    }

    [Fact]
    public void Memory_that_is_known_to_lie_elsewhere_is_another_matter()
    {
        History h = Hazard(2);
        h.Complain(12, address: 0x5555_0000_1000).Advance();
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
        h.Server.Faults.ShouldHaveSingleItem().Address.ShouldBe(AddressRelation.Elsewhere);
        // Nor does it become damage with the next inspection.
        h.Wait(100 * Millisecond).Inspect(pid => h.Found(pid, Shared())).Server.Verdict.ShouldBe(Verdict.Hazard);
    }

    [Theory]
    [InlineData(0, AddressRelation.SharedSlot)]
    [InlineData(1, AddressRelation.BesideSharedSlot)]
    [InlineData(903, AddressRelation.BesideSharedSlot)]
    [InlineData(1023, AddressRelation.BesideSharedSlot)]
    [InlineData(1024, AddressRelation.SharedMemory)]
    [InlineData(-128, AddressRelation.BesideSharedSlot)]
    [InlineData(-129, AddressRelation.SharedMemory)]
    [InlineData(-0x1000, AddressRelation.SharedMemory)]
    [InlineData(-0x1001, AddressRelation.Elsewhere)]
    [InlineData(0xefff, AddressRelation.SharedMemory)]
    [InlineData(0xf000, AddressRelation.Elsewhere)]
    public void It_is_told_where_the_memory_lies(long offset, AddressRelation relation)
    {
        History h = Started(2);
        // The slot is in the middle of the memory.
        h.SettleAndInspect(pid => h.Found(pid, Shared(value: Pointer + 0x1000)));
        h.Complain(12, address: (ulong)((long)Pointer + 0x1000 + offset));
        h.Sink.Complaints.ShouldHaveSingleItem().Context.Address.ShouldBe(relation);
    }

    [Fact]
    public void The_nearest_of_several_slots_counts()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid, Shared(1), Shared(2, Pointer + 0x40)));
        h.Complain(12, address: Pointer + 0x40);
        h.Sink.Complaints.Single().Context.Address.ShouldBe(AddressRelation.SharedSlot);
    }

    [Fact]
    public void Where_nothing_was_inspected_or_there_is_no_address_it_is_unknown_and_counts()
    {
        History h = Started(2).Complain(12, address: Pointer);
        h.Sink.Complaints.Single().Context.Address.ShouldBe(AddressRelation.Unknown);
        h = Hazard(2).Complain(12, address: null);
        h.Sink.Complaints.Single().Context.Address.ShouldBe(AddressRelation.Unknown);
        h.Server.Verdict.ShouldBe(Verdict.Corrupted);
    }

    [Theory]
    [InlineData(Pointer, Verdict.Corrupted)]
    [InlineData(0x5555_0000_1000, Verdict.Hazard)]
    public void It_counts_though_the_inspection_that_finds_the_slots_comes_after(ulong address, Verdict verdict)
    {
        History h = Started(2);
        h.Wait(Second).Complain(11, address: address).Complain(11, address: address).Advance();
        ((int)h.Server.Verdict).ShouldBeLessThan((int)Verdict.Hazard);
        h.Wait(500 * Millisecond).Inspect(pid => h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(verdict);
        h.Server.Reason.Contains("complained 2 times", StringComparison.Ordinal).ShouldBe(verdict == Verdict.Corrupted);
    }

    [Fact]
    public void A_hazard_that_comes_up_long_after_has_not_that_complaint_for_its_damage()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid)).Complain(11, address: Pointer);
        h.Wait(100 * Second).Inspect(pid => h.Found(pid, Shared()));
        h.Server.Verdict.ShouldBe(Verdict.Hazard);
    }

    [Fact]
    public void It_calls_for_an_inspection_once()
    {
        History h = Started(2);
        h.SettleAndInspect(pid => h.Found(pid)).Wait(5 * Second).Complain(11);
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBe(h.Now);
        h.Inspect(pid => h.Found(pid));
        h.Complain(11);
        h.Fleet.NextInspectionNs.ShouldNotBeNull().ShouldBeGreaterThan(h.Now + Second);
    }

    [Fact]
    public void Without_a_shared_slot_it_changes_no_verdict_and_is_reported()
    {
        foreach (HeldSlot[] held in new HeldSlot[][] { [], [Private()] })
        {
            History h = Started(2);
            h.SettleAndInspect(pid => h.Found(pid, held)).Complain(12, address: Pointer).Complain(12, ComplaintKind.Overwritten).Complain(11, address: Pointer).Advance();
            h.Server.Verdict.ShouldBe(held.Length == 0 ? Verdict.Safe : Verdict.Exposed);
            h.Server.Damage.ShouldBeNull();
            h.Server.Faults.Select(static f => (f.Complaint, f.Address, f.Module, f.Caller, f.Count, f.Process)).ShouldBe(
            [
                (ComplaintKind.AlreadyFreed, AddressRelation.Elsewhere, "tls", "tls_init.c: ser_free", 2, Id(11)),
                (ComplaintKind.Overwritten, AddressRelation.Unknown, "tls", "tls_init.c: ser_free", 1, Id(12)),
            ]);
        }
    }

    [Fact]
    public void Of_a_storm_all_are_counted_and_some_are_told_with_how_many_were_not()
    {
        History h = Started(2);
        for (int i = 0; i < 1000; i++)
        {
            h.Complain(11, ComplaintKind.OutOfSharedMemory);
        }
        h.Complain(12);
        // The first hundred, the 200th, the 400th, the 800th; and damage is not hidden by a shortage.
        h.Sink.Complaints.Count.ShouldBe(104);
        h.Sink.Complaints.Select(static c => c.Context.LeftOut).Where(static n => n > 0).ShouldBe([99, 199, 399]);
        h.Sink.Complaints[^1].Complaint.IsDamage.ShouldBeTrue();
        h.Fleet.Snapshot(h.Now).Targets.Single().Complaints.ShouldBe([new ComplaintCount(ComplaintKind.AlreadyFreed, "tls", 1), new ComplaintCount(ComplaintKind.OutOfSharedMemory, "tls", 1000)]);

        h.Exit(11).Exit(12).Exit(Root);
        h.Sink.Complaints[^1].Context.LeftOut.ShouldBe(199);
        h.Sink.Told[^2].ShouldBe("complained OutOfSharedMemory");
        h.Sink.Told[^1].ShouldBe("ended");
    }

    [Fact]
    public void Those_told_and_those_left_out_add_up_whatever_comes() =>
        Gen.Int[0, 9].Array[0, 3000].Sample(
            static kinds =>
            {
                History h = Started(1);
                foreach (int kind in kinds)
                {
                    h.Complain(11, kind < 5 ? (ComplaintKind)kind : ComplaintKind.Overwritten);
                }
                h.Fleet.Finish();
                foreach (ComplaintKind kind in Enum.GetValues<ComplaintKind>())
                {
                    (Complaint, ComplaintContext Context)[] told = [.. h.Sink.Complaints.Where(c => c.Complaint.Kind == kind)];
                    int all = kinds.Count(k => (k < 5 ? (ComplaintKind)k : ComplaintKind.Overwritten) == kind);
                    (told.Length + told.Sum(static t => t.Context.LeftOut)).ShouldBe(all);
                    told.Length.ShouldBeLessThanOrEqualTo(110);
                    h.Server.Faults.Where(f => f.Complaint == kind).Sum(static f => f.Count).ShouldBe(all);
                }
            },
            iter: 30);

    [Fact]
    public void Any_damage_makes_a_hazard_corrupted_by_the_words_of_the_definition() =>
        Gen.Select(Gen.Int[0, 4].Select(static kind => (ComplaintKind)kind), Gen.Int[-0x2000, 0x1_2000].Nullable(), Gen.Bool, Gen.Bool).Sample(
            static (kind, offset, shares, before) =>
            {
                ulong? address = offset is { } o ? (ulong)((long)Pointer + o) : null;
                History h = Started(2);
                ProcessInspection Look(int pid) => shares ? h.Found(pid, Shared()) : h.Found(pid);
                h.Wait(Second);
                h = before ? h.Complain(11, kind, address) : h;
                h.Wait(Second).Inspect(Look);
                h = before ? h : h.Complain(11, kind, address);
                bool outside = offset is { } at && at is < -128 or >= 0x1_0000;
                bool corrupted = shares && Damages.Contains(kind) && !outside;
                h.Advance().Server.Verdict.ShouldBe(corrupted ? Verdict.Corrupted : shares ? Verdict.Hazard : Verdict.Safe);
            },
            iter: 2000);

    [Fact]
    public void A_server_that_names_any_number_of_modules_has_a_bounded_list_of_faults()
    {
        History h = Started(2);
        for (int i = 0; i < 500; i++)
        {
            h.Complain(11, module: $"m{i}", caller: null);
        }
        h.Server.Faults.Length.ShouldBe(65);
        h.Server.Faults.Sum(static f => f.Count).ShouldBe(500);
        h.Server.Faults[0].Module.ShouldBe("other");
    }

    [Theory]
    [InlineData(null, null, "")]
    [InlineData("tls", null, " (called from tls)")]
    [InlineData(null, "tls_init.c: ser_free", " (called from tls_init.c: ser_free)")]
    public void What_is_not_known_of_the_caller_is_not_told(string? module, string? caller, string text) =>
        new Complaint(ComplaintKind.AlreadyFreed, null, module, caller).CalledFrom.ShouldBe(text);

    private static History Hazard(int workers)
    {
        History h = Started(workers);
        return h.SettleAndInspect(pid => h.Found(pid, Shared()));
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
