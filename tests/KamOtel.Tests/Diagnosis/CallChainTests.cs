using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Diagnosis;

/// <summary>Who is the author of a call, by its stack.</summary>
public sealed class CallChainTests
{
    private static readonly string[] HtableReads =
    [
        "libcrypto.so.3 CRYPTO_THREAD_set_local", "libcrypto.so.3 OPENSSL_init_crypto", "libssl.so.3 OPENSSL_init_ssl", "libssl.so.3 SSL_CTX_new_ex",
        "libpq.so.5.15 PQconnectPoll", "libpq.so.5.15 PQconnectdbParams", "@db_postgres", "libsrdb1.so.1 db_do_init2", "@db_postgres", "@htable", "@htable",
        "kamailio init_modules", "kamailio main", "libc.so.6 __libc_start_main", "kamailio _start",
    ];

    [Fact]
    public void The_innermost_module_did_it_and_the_outermost_asked()
    {
        CallChain chain = Chain(ChainEnd.Complete, HtableReads);
        chain.Author.ShouldBe("db_postgres");
        chain.AskedBy.ShouldBe("htable");
        chain.Path.ShouldBe(["htable", "db_postgres", "libpq", "libssl"]);
    }

    [Fact]
    public void A_module_that_acts_for_itself_asked_itself()
    {
        CallChain chain = Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "@tls", "kamailio", "libc.so.6", "kamailio");
        (chain.Author, chain.AskedBy).ShouldBe(("tls", "tls"));
        chain.Path.ShouldBe(["tls", "libssl"]);
    }

    [Fact]
    public void Code_that_libcrypto_is_called_back_through_is_no_part_of_the_path()
    {
        CallChain chain = Chain(ChainEnd.Complete, "libcrypto.so.3", "libcrypto.so.3", "libc.so.6", "libcrypto.so.3", "libssl.so.3", "@tls", "kamailio");
        chain.Path.ShouldBe(["tls", "libssl"]);
        Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "libmariadb.so.3", "libc.so.6 pthread_once", "libmariadb.so.3", "@db_mysql", "kamailio").Path
            .ShouldBe(["db_mysql", "libmariadb", "libssl"]);
    }

    [Theory]
    [InlineData(ChainEnd.Truncated)]
    [InlineData(ChainEnd.NoUnwindInfo)]
    [InlineData(ChainEnd.UnknownCode)]
    [InlineData(ChainEnd.BadFile)]
    [InlineData(ChainEnd.TooDeep)]
    public void A_chain_that_is_cut_names_the_author_it_shows_but_not_who_asked(ChainEnd end)
    {
        CallChain chain = Chain(end, HtableReads[..8]);
        chain.Author.ShouldBe("db_postgres");
        chain.AskedBy.ShouldBeNull();
        chain.Path.ShouldBe(["db_postgres", "libpq", "libssl"]);
    }

    [Theory]
    [InlineData(ChainEnd.Truncated)]
    [InlineData(ChainEnd.NoUnwindInfo)]
    public void A_chain_that_is_cut_before_a_module_names_nobody(ChainEnd end)
    {
        foreach (string[] frames in new string[][] { [], HtableReads[..6], ["libcrypto.so.3", "kamailio tcp_main_loop"] })
        {
            CallChain chain = Chain(end, frames);
            chain.Author.ShouldBeNull();
            chain.AskedBy.ShouldBeNull();
            chain.Path.ShouldBeEmpty();
        }
    }

    [Fact]
    public void Without_a_module_it_was_the_core()
    {
        CallChain chain = Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "kamailio init_something", "kamailio main", "libc.so.6", "kamailio _start");
        (chain.Author, chain.AskedBy).ShouldBe(("core", "core"));
        chain.Path.ShouldBe(["core", "libssl"]);
    }

    [Fact]
    public void The_core_is_not_blamed_for_what_may_be_a_module()
    {
        CallChain chain = Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "libmariadb.so.3", "db_mysql.so mod_init", "kamailio init_modules", "kamailio main");
        chain.Author.ShouldBeNull();
        chain.AskedBy.ShouldBeNull();
        chain.Path.ShouldBeEmpty();
        chain.WhyUnknown.ShouldBe("db_mysql.so is no module that is known, and may be one");
    }

    [Fact]
    public void A_complete_chain_that_never_was_in_the_program_names_nobody() =>
        Chain(ChainEnd.Complete, "libcrypto.so.3", "libssl.so.3", "libcurl.so.4", "libc.so.6 start_thread").Author.ShouldBeNull();

    [Fact]
    public void Chains_are_equal_by_their_frames()
    {
        Chain(ChainEnd.Complete, HtableReads).ShouldBe(Chain(ChainEnd.Complete, HtableReads));
        Chain(ChainEnd.Complete, HtableReads).GetHashCode().ShouldBe(Chain(ChainEnd.Complete, HtableReads).GetHashCode());
        Chain(ChainEnd.Complete, HtableReads).ShouldNotBe(Chain(ChainEnd.Truncated, HtableReads));
        Chain(ChainEnd.Complete, HtableReads).ShouldNotBe(Chain(ChainEnd.Complete, HtableReads[1..]));
    }

    /// <summary>Frames as <c>FILE FUNCTION</c>; <c>@NAME</c> is a module.</summary>
    internal static CallChain Chain(ChainEnd end, params string[] frames) =>
        new([.. frames.Select(Frame)], end, end == ChainEnd.Complete ? "" : "the stack was not copied so far");

    private static CallFrame Frame(string text)
    {
        string[] words = text.Split(' ');
        return text[0] == '@'
            ? new CallFrame(text[1..] + ".so", text[1..], IsProgram: false, Function: null, 0x1234)
            : new CallFrame(words[0], Module: null, IsProgram: words[0] == "kamailio", words.ElementAtOrDefault(1), 0x10);
    }
}
