using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.CallChainTests;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

/// <summary>Which call set what processes share.</summary>
public sealed class SlotOriginTests
{
    private const int Root = 10;

    private static readonly CallChain ByTls = Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "@tls", "kamailio");
    private static readonly CallChain ByPostgres = Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "libpq.so.5", "@db_postgres", "@htable", "kamailio");

    [Fact]
    public void A_shared_slot_has_the_author_of_its_key_and_value()
    {
        History h = new History().Exec(Root).Library(Root)
            .SetBy(Root, ByTls, key: 1, value: Pointer)
            .SetBy(Root, ByPostgres, key: 3, value: Pointer + 8)
            .Wait(39 * Millisecond).Fork(Root, 11).Fork(Root, 12);
        h.SettleAndInspect(pid => h.Found(pid, Shared(1), Shared(3, Pointer + 8)));
        InstanceSnapshot server = h.Server;
        server.SharedSlots.Select(static s => s.Origin!.Chain).ShouldBe([ByTls, ByPostgres]);
        server.SharedSlots[1].Origin!.BeforeForkNs.ShouldBe(40 * Millisecond);
        server.Reason.ShouldBe(
            "3 processes hold the same pointers in 2 OpenSSL slots (key 1, key 3) into shared memory (/dev/zero (deleted)), "
            + "set in Thread#1 by tls (tls → libssl), 41 ms before the first fork; "
            + "in Thread#1 by db_postgres, asked by htable (htable → db_postgres → libpq → libssl), 40 ms before the first fork");
        h.Sink.Chains.Select(static c => c.Chain).ShouldBe([ByTls, ByPostgres]);
    }

    [Fact]
    public void The_last_call_counts()
    {
        History h = new History().Exec(Root).Library(Root).SetBy(Root, ByPostgres).SetBy(Root, ByTls).Fork(Root, 11).Fork(Root, 12);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.SharedSlots[0].Origin!.Chain.Author.ShouldBe("tls");
    }

    [Fact]
    public void What_a_worker_set_to_the_same_value_later_is_its_own_affair()
    {
        History h = new History().Exec(Root).Library(Root).SetBy(Root, ByPostgres).Fork(Root, 11).Fork(Root, 12).SetBy(11, ByTls);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.SharedSlots[0].Origin!.Chain.Author.ShouldBe("db_postgres");
    }

    [Fact]
    public void What_a_launcher_set_is_known_after_its_end()
    {
        History h = new History().Exec(Root).Library(Root).SetBy(Root, ByTls).Fork(Root, 11).Exit(Root).Fork(11, 12).Fork(11, 13);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.SharedSlots[0].Origin!.Chain.Author.ShouldBe("tls");
    }

    [Fact]
    public void Another_value_or_key_is_another_call()
    {
        History h = new History().Exec(Root).Library(Root).SetBy(Root, ByTls, key: 0, value: Pointer + 8).SetBy(Root, ByTls, key: 1).Fork(Root, 11).Fork(Root, 12);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.SharedSlots[0].Origin.ShouldBeNull();
        h.Server.Reason.ShouldEndWith("; who set them was not seen");
    }

    [Fact]
    public void A_stack_that_says_nothing_says_why()
    {
        History h = new History().Exec(Root).Library(Root).SetBy(Root, CallChain.Unknown(ChainEnd.BadFile, "libpq.so.5 is no ELF file")).Fork(Root, 11).Fork(Root, 12);
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.Reason.ShouldEndWith("; who set key 0 is not known: libpq.so.5 is no ELF file");
    }

    [Fact]
    public void Who_made_the_calls_of_a_server_that_is_gone_is_told_still()
    {
        var h = new History();
        Observation call = default;
        h.Exec(Root).Tell(Root, ObservationKind.SetLocal, o => call = o with { Key = 0, Value = Pointer, HasStack = true }).Exit(Root, status: 11);
        h.Fleet.Attributed(in call, ByTls);
        h.Sink.Chains.ShouldHaveSingleItem().Chain.ShouldBe(ByTls);
        h.Fleet.Attributed(in call, ByTls);
        h.Sink.Chains.Count.ShouldBe(1, "no more is owed");
    }

    [Fact]
    public void Stacks_are_counted_by_what_came_of_them()
    {
        History h = new History().Exec(Root).SetBy(Root, ByTls).SetBy(Root, ByPostgres).SetBy(Root, CallChain.Unknown(ChainEnd.Failed, "x"));
        TargetCounters counters = h.Fleet.Snapshot(h.Now).Targets.ShouldHaveSingleItem();
        (counters.ChainsAttributed, counters.ChainsUnknown).ShouldBe((2, 1));
    }

    [Fact]
    public void Who_calls_without_end_costs_no_memory_without_end()
    {
        History h = new History().Exec(Root).Library(Root);
        for (uint i = 0; i < 20_000; i++)
        {
            h.SetBy(Root, ByTls, key: i % 7, value: Pointer + (i * 8));
        }
        h.SetBy(Root, ByPostgres).Fork(Root, 11).Fork(Root, 12);
        h.SettleAndInspect(pid => h.Found(pid, Shared(), Shared(1, Pointer + (8 * 15))));
        h.Server.SharedSlots[0].Origin!.Chain.Author.ShouldBe("db_postgres");
        h.Server.SharedSlots[1].Origin.ShouldBeNull("one of the oldest calls");
    }
}
