namespace KamOtel.EndToEndTests;

/// <summary>The second opinion on who it was: what is known of Debian 12's Kamailio 5.6 is what GDB finds.</summary>
public sealed class GdbStacksTests
{
    /// <summary>Kind, OpenSSL's first call left to the module, and who it is then: author, asked by, libraries on the way.</summary>
    public static TheoryData<string, bool, string, string, string> Authors
    {
        get
        {
            var authors = new TheoryData<string, bool, string, string, string>
            {
                { "db_postgres_tls", true, "db_postgres", "htable", "libpq libssl" },
                { "db_mysql", true, "db_mysql", "htable", "libmariadb libssl" },
                { "db_unixodbc", true, "db_unixodbc", "htable", "libodbc libmaodbc libmariadb libssl" },
                { "db_unixodbc_postgres", true, "db_unixodbc", "htable", "libodbc psqlodbca libpq libssl" },
                { "http_client", true, "http_client", "http_client", "libcurl libssl" },
            };
            // 5.6's TLS module initialises OpenSSL before all other modules are initialised.
            foreach (string kind in KamailioServer.Kinds)
            {
                authors.Add(kind, false, "tls", "tls", "libssl");
            }
            return authors;
        }
    }

    [Theory]
    [MemberData(nameof(Authors))]
    public async Task Gdb_tells_whole_stacks_and_so_who_it_was(string kind, bool tlsDisabled, string author, string askedBy, string libraries)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind, tlsDisabled: tlsDisabled);
        var stacks = await GdbStacks.Start(server, ServerName.New());

        stacks.Calls.Select(static call => call.ValueKind).ShouldBe(["sentinel", "sentinel", "pointer", "pointer"], stacks.ToString());
        stacks.Calls.Select(call => stacks.SlotName(call.Key)).ShouldBe(["in_init_config", "err_state", "destructor_key", "err_state"], stacks.ToString());
        foreach (GdbCall call in stacks.Calls)
        {
            call.End.ShouldBe("outermost", call.ToString());
            call.Frames[0].Function.ShouldBe("CRYPTO_THREAD_set_local");
            call.Frames[0].Library.ShouldBe("libcrypto");
            call.Frames[^1].Function.ShouldBe("_start", call.ToString());
            call.Frames.ShouldContain(static frame => frame.Function == "main", call.ToString());
            call.Frames.ShouldAllBe(static frame => frame.Object.StartsWith('/'), call.ToString());
            call.Author.ShouldBe(author, call.ToString());
            call.AskedBy.ShouldBe(askedBy, call.ToString());
            call.Libraries.ShouldBe(libraries.Split(' '), call.ToString());
        }

        // It ran at full speed since, and all of it is there.
        await server.WaitUntilUp();
        if (!tlsDisabled)
        {
            await server.Handshake();
        }
        await stacks.End();
        Proc.Mentioning(server.Configuration).ShouldBeEmpty();
    }

    [Theory]
    [InlineData("tls")]
    [InlineData("db_postgres")]
    public async Task Gdb_finds_no_call_where_nobody_needs_openssl_before_the_fork(string kind)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind, tlsDisabled: true);
        var stacks = await GdbStacks.Start(server, ServerName.New());
        stacks.Calls.ShouldBeEmpty(stacks.ToString());
        File.ReadAllText($"/proc/{stacks.Root}/maps").ShouldContain("libcrypto");
        await stacks.End();
    }

    [Fact]
    public async Task Gdb_finds_the_calls_although_the_agent_probes_the_same_function()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        await using AgentProcess agent = await AgentProcess.Start(options: ["--watch", name]);
        var stacks = await GdbStacks.Start(server, name);

        Samples metrics = await agent.AtRest(server.Configuration);
        metrics.Sum(
            "kamotel_thread_local_calls_total",
            ("target", server.Configuration), ("call", "set_local"), ("thread", "main"), ("phase", "before_fork")).ShouldBe(stacks.Calls.Count);
        metrics.Verdict(server.Configuration).ShouldBe("hazard");
        await stacks.End();
    }
}
