namespace KamOtel.EndToEndTests;

/// <summary>The second opinion itself: what is known of Debian 12's Kamailio 5.6 is what GDB finds.</summary>
public sealed class TruthTests
{
    [Theory]
    [InlineData("none", "safe")]
    [InlineData("tls", "hazard")]
    [InlineData("db_postgres", "hazard")]
    [InlineData("db_postgres_tls", "hazard")]
    [InlineData("db_mysql", "hazard")]
    [InlineData("db_unixodbc", "hazard")]
    [InlineData("db_unixodbc_postgres", "hazard")]
    [InlineData("http_client", "hazard")]
    public async Task Gdb_finds_what_is_known_of_a_server_and_leaves_it_running(string kind, string verdict)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind);
        int root = await server.Start();

        Truth truth = await Truth.Of(root);

        truth.Verdict.ShouldBe(verdict, truth.ToString());
        truth.Processes.Length.ShouldBeGreaterThan(4);
        foreach (TrueSlot slot in truth.SharedSlots)
        {
            slot.Mapping.ShouldBe("/dev/zero (deleted)");
            slot.Holders.ShouldBe(truth.Processes, "a worker that has not used TLS holds what root holds");
        }
        await server.WaitUntilUp();
        truth.Processes.ShouldAllBe(static process => Proc.Alive(process));
    }

    [Theory]
    [InlineData("tls", "safe")]
    [InlineData("db_postgres", "safe")]
    [InlineData("db_postgres_tls", "hazard")]
    [InlineData("db_mysql", "hazard")]
    [InlineData("db_unixodbc", "hazard")]
    [InlineData("db_unixodbc_postgres", "hazard")]
    [InlineData("http_client", "hazard")]
    public async Task Without_tls_s_own_call_it_is_the_module_s_call_that_makes_the_hazard(string kind, string verdict)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind, tlsDisabled: true);
        int root = await server.Start();
        Truth truth = await Truth.Of(root);
        truth.Verdict.ShouldBe(verdict, truth.ToString());
    }

    [Fact]
    public void A_value_that_two_processes_hold_in_private_memory_is_no_hazard()
    {
        var heap = new Mapping(0x1000, 0x2000, "rw-p", "[heap]");
        Truth.Judge(1, [1, 2], [new(1, 3, 0x1010, heap), new(2, 3, 0x1010, heap)]).Verdict.ShouldBe("exposed");
        Truth.Judge(1, [1, 2], [new(2, 3, 0x1010, heap)]).Verdict.ShouldBe("safe");
    }

    [Fact]
    public void Values_in_shared_memory_that_each_process_has_for_itself_are_no_hazard()
    {
        Mapping segment = MemoryMap.Parse("7f2d40400000-7f2d44400000 rw-s 00000000 00:01 1748                       /dev/zero (deleted)");
        segment.ShouldBe(new Mapping(0x7f2d40400000, 0x7f2d44400000, "rw-s", "/dev/zero (deleted)"));
        Truth.Judge(1, [1, 2], [new(1, 3, 0x7f2d40400010, segment), new(2, 3, 0x7f2d40400020, segment)]).Verdict.ShouldBe("exposed");
        Truth.Judge(1, [1, 2], [new(1, 3, 0x7f2d40400010, segment), new(2, 4, 0x7f2d40400010, segment)]).Verdict.ShouldBe("exposed");
        Truth.Judge(1, [1, 2, 3], [new(3, 3, 0x7f2d40400010, segment), new(2, 3, 0x7f2d40400010, segment)])
            .SharedSlots.Single().Holders.ShouldBe([2, 3]);
    }
}
