using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.CallChainTests;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

/// <summary>What OpenSSL keeps in a slot, by stacks as a libcrypto without symbols has them.</summary>
public sealed class SlotNameTests
{
    private const int Root = 10;
    private const string Call = "libcrypto.so.3 CRYPTO_THREAD_set_local";
    private const string Unnamed = "libcrypto.so.3";

    [Theory]
    [InlineData("in_init_config", SlotValue.Sentinel, "OPENSSL_init_crypto", 0)]
    [InlineData("err_state", SlotValue.Sentinel, "ERR_set_mark", 1)]
    [InlineData("err_state", SlotValue.Sentinel, "ERR_clear_error", 0)]
    [InlineData("destructor_key", Pointer, "ERR_set_mark", 2)]
    [InlineData("rand_public", Pointer, "RAND_get0_public", 0)]
    [InlineData("rand_private", Pointer, "RAND_get0_private", 0)]
    [InlineData("async_pool", Pointer, "ASYNC_init_thread", 0)]
    [InlineData("async_context", Pointer, "ASYNC_start_job", 0)]
    [InlineData("default_context", Pointer, "OSSL_LIB_CTX_set0_default", 0)]
    // Not clear: no name.
    [InlineData(null, Pointer, "ERR_set_mark", 1)]
    [InlineData(null, Pointer, "ERR_set_mark", 3)]
    [InlineData(null, Pointer, "RAND_get0_public", 2)]
    [InlineData(null, Pointer, "OPENSSL_init_crypto", 0)]
    [InlineData(null, SlotValue.Sentinel, "ERR_get_error", 2)]
    [InlineData(null, Pointer, "ERR_get_error", 2)]
    public void A_name_is_what_the_stack_shows(string? name, ulong value, string asked, int unnamed) =>
        SlotNames.Of(Stack(asked, unnamed), value).ShouldBe(name);

    [Fact]
    public void A_stack_that_leaves_libcrypto_before_it_names_a_function_shows_nothing()
    {
        SlotNames.Of(Chain(ChainEnd.Complete, Call, Unnamed, "libc.so.6 pthread_once", "libcrypto.so.3 ERR_set_mark"), SlotValue.Sentinel).ShouldBeNull();
        SlotNames.Of(Chain(ChainEnd.Truncated, Call, Unnamed), SlotValue.Sentinel).ShouldBeNull();
        SlotNames.Of(CallChain.Unknown(ChainEnd.Failed, "x"), Pointer).ShouldBeNull();
    }

    [Fact]
    public void The_shared_slots_of_a_start_have_their_names()
    {
        // As OpenSSL 3.0 does it when it is called first.
        History h = Started(
            (1, SlotValue.Sentinel, Stack("OPENSSL_init_crypto", 0)),
            (3, SlotValue.Sentinel, Stack("ERR_set_mark", 1)),
            (0, Pointer + 8, Stack("ERR_set_mark", 2)),
            (3, Pointer, Stack("ERR_set_mark", 1)));
        h.SettleAndInspect(pid => h.Found(pid, Shared(0, Pointer + 8), Shared(3)));
        h.Server.SharedSlots.Select(static s => (s.Key, s.Name)).ShouldBe([(0U, "destructor_key"), (3U, "err_state")]);
        h.Server.Reason.ShouldContain("(key 0 destructor_key, key 3 err_state)");
    }

    [Fact]
    public void A_key_that_is_shown_as_two_things_has_no_name()
    {
        History h = Started((0, Pointer, Stack("RAND_get0_public", 0)), (0, Pointer, Stack("RAND_get0_private", 0)), (0, Pointer, Stack("RAND_get0_public", 0)));
        h.SettleAndInspect(pid => h.Found(pid, Shared()));
        h.Server.SharedSlots.ShouldHaveSingleItem().Name.ShouldBeNull();
    }

    [Fact]
    public void Two_keys_that_are_shown_as_one_thing_have_no_name()
    {
        History h = Started((0, Pointer, Stack("RAND_get0_public", 0)), (1, Pointer + 8, Stack("RAND_get0_public", 0)));
        h.SettleAndInspect(pid => h.Found(pid, Shared(), Shared(1, Pointer + 8)));
        h.Server.SharedSlots.ShouldAllBe(static s => s.Name == null);
    }

    private static CallChain Stack(string asked, int unnamed) =>
        Chain(ChainEnd.Complete, [Call, .. Enumerable.Repeat(Unnamed, unnamed), $"libcrypto.so.3 {asked}", "libssl.so.3 OPENSSL_init_ssl", "@tls", "kamailio main"]);

    private static History Started(params (uint Key, ulong Value, CallChain Chain)[] calls)
    {
        History h = new History().Exec(Root).Library(Root);
        foreach ((uint key, ulong value, CallChain chain) in calls)
        {
            h.SetBy(Root, chain, key, value);
        }
        return h.Fork(Root, 11).Fork(Root, 12);
    }
}
