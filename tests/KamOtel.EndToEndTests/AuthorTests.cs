using Opentelemetry.Proto.Logs.V1;

namespace KamOtel.EndToEndTests;

/// <summary>Whom the agent names is whom GDB names, of the same server in the same run.</summary>
public sealed class AuthorTests
{
    /// <summary>Each kind that becomes a hazard: by the TLS module's own call, and by another module's.</summary>
    public static TheoryData<string, bool> Servers
    {
        get
        {
            var servers = new TheoryData<string, bool>();
            foreach (string kind in KamailioServer.Kinds)
            {
                servers.Add(kind, false);
            }
            foreach (string kind in KamailioServer.Callers)
            {
                servers.Add(kind, true);
            }
            return servers;
        }
    }

    [Theory]
    [MemberData(nameof(Servers))]
    public async Task The_author_of_each_shared_slot_is_the_one_that_gdb_names(string kind, bool tlsDisabled)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind, tlsDisabled: tlsDisabled);
        using var scratch = new Scratch();
        string name = ServerName.New();
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Record(scratch["recording"], AgentProcess.ExportTo(receiver), "--watch", name);
        var stacks = await GdbStacks.Start(server, name);
        Samples metrics = await agent.AtRest(server.Configuration);
        metrics.Verdict(server.Configuration).ShouldBe("hazard");
        Ended recorded = await agent.Terminate();
        recorded.Code.ShouldBe(0, recorded.ToString());

        ScannedSlot[] slots = await AgentAuthors(scratch["recording"], server);

        slots.Length.ShouldBe(2, "the error queue and the list of what is to be done at a thread's end");
        foreach (ScannedSlot slot in slots)
        {
            GdbCall call = stacks.Calls.Last(call => call.Key == slot.Key && call.Value == slot.Address());
            (slot.Author, slot.AskedBy).ShouldBe((call.Author, call.AskedBy), call.ToString());
            if (slot.Name is { } named)
            {
                named.ShouldBe(stacks.SlotName(slot.Key), call.ToString());
            }
        }

        // Not only of the slots that are shared in the end: of every call.
        LogRecord[] told =
        [
            .. receiver.Logs.Where(log => log.EventName() == "kamotel.thread_local.call"
                && log.Attributes.Get("kamotel.target") == server.Configuration
                && log.Attributes.Get("process.pid") == $"{stacks.Root}"
                && log.Attributes.Get("kamotel.call") == "set_local"
                && log.Attributes.Get("kamotel.thread.main") == "true"
                && log.Attributes.Get("kamotel.phase") == "before_fork")
                .OrderBy(static log => log.TimeUnixNano),
        ];
        told.Length.ShouldBe(stacks.Calls.Count, stacks.ToString());
        int attributed = 0;
        for (int i = 0; i < told.Length; i++)
        {
            told[i].Attributes.Get("kamotel.key").ShouldBe($"{stacks.Calls[i].Key}");
            if (told[i].Attributes.Get("kamotel.author") is not { Length: > 0 } author)
            {
                continue;
            }
            author.ShouldBe(stacks.Calls[i].Author, stacks.Calls[i].ToString());
            told[i].Attributes.Get("kamotel.asked_by").ShouldBe(stacks.Calls[i].AskedBy, stacks.Calls[i].ToString());
            attributed++;
        }
        double share = (double)attributed / stacks.Calls.Count;
        TestContext.Current.TestOutputHelper?.WriteLine($"{kind}{(tlsDisabled ? " with TLS disabled" : "")}: {attributed} of {stacks.Calls.Count} calls attributed ({share:P0})");
        share.ShouldBeGreaterThanOrEqualTo(0.95);
        await stacks.End();
    }

    /// <summary>What a recording says of the shared slots of a server.</summary>
    private static async Task<ScannedSlot[]> AgentAuthors(string recording, KamailioServer server)
    {
        Ended replayed = await RunningProgram.Run(Requirements.Binary, ["replay", recording, "--json"]);
        replayed.Output.ShouldStartWith("{", customMessage: replayed.ToString());
        return ScanReport.Parse(replayed.Output).Of(server).SharedSlots;
    }
}
