using System.Text.Json;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What a scan says of what the fleet knows.</summary>
public sealed class ScanTests
{
    public static TheoryData<Verdict[], int> Codes => new()
    {
        { [], 2 },
        { [Verdict.Safe, Verdict.Exposed], 0 },
        { [Verdict.Safe, Verdict.Unknown], 2 },
        { [Verdict.Unknown, Verdict.Hazard], 1 },
        { [Verdict.Corrupted], 1 },
    };

    [Theory]
    [MemberData(nameof(Codes))]
    public void The_worst_server_decides_the_exit_code_and_no_server_is_no_answer(Verdict[] verdicts, int code) =>
        ScanCommand.CodeOf([.. verdicts.Select(static v => Hazard().Server with { Verdict = v })]).ShouldBe(code);

    [Fact]
    public void The_document_has_what_is_known_and_null_for_what_is_not()
    {
        InstanceSnapshot server = Hazard().Server;
        JsonElement instance = JsonDocument.Parse(ScanReport.Of([server]).ToJson()).RootElement.GetProperty("instances")[0];
        instance.GetProperty("verdict").GetString().ShouldBe("hazard");
        instance.GetProperty("kamailio").GetString().ShouldBe("5.6.3");
        instance.GetProperty("openssl").ValueKind.ShouldBe(JsonValueKind.Null);
        JsonElement slot = instance.GetProperty("sharedSlots")[0];
        slot.GetProperty("value").GetString().ShouldBe("0x7f0000001000");
        slot.GetProperty("mapping").GetString().ShouldBe("/dev/zero (deleted)");
        slot.GetProperty("holders").EnumerateArray().Select(static h => h.GetInt32()).ShouldBe([10, 11, 12]);
        slot.GetProperty("author").ValueKind.ShouldBe(JsonValueKind.Null);
        instance.GetProperty("coverage").GetProperty("inspected").GetInt32().ShouldBe(3);
        instance.GetProperty("sharedMemory").EnumerateObject().ShouldAllBe(static figure => figure.Value.ValueKind == JsonValueKind.Null);
    }

    [Fact]
    public void Shared_memory_is_told_in_bytes_and_for_people_in_mebibytes()
    {
        InstanceSnapshot server = Hazard().Server;
        server = server with { Facts = server.Facts with { SharedMemory = new SharedMemoryPool(0x10000, 0x10000 + (64 << 20), "qm", 16 << 20, 48 << 20, 33 << 19) } };
        JsonElement memory = JsonDocument.Parse(ScanReport.Of([server]).ToJson()).RootElement.GetProperty("instances")[0].GetProperty("sharedMemory");
        memory.GetRawText().ReplaceLineEndings("").Replace(" ", "", StringComparison.Ordinal).ShouldBe("""{"size":67108864,"used":16777216,"free":50331648,"maxUsed":17301504,"manager":"qm"}""");
        Table(server).ShouldContain("shared memory: 64.0 MiB, managed by qm: 16.0 MiB used, 48.0 MiB free, at most 16.5 MiB used so far");

        server = server with { Facts = server.Facts with { SharedMemory = new SharedMemoryPool(0x10000, 0x10000 + (64 << 20), null, null, null, null) } };
        Table(server).ShouldContain($"shared memory: 64.0 MiB{Environment.NewLine}");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void The_table_has_the_same_words_with_and_without_colour(bool colored)
    {
        var output = new StringWriter();
        new ScanTable(output, colored).Print([Hazard().Server]);
        string text = output.ToString();
        text.Contains('\u001b', StringComparison.Ordinal).ShouldBe(colored);
        text.ShouldContain("hazard");
        text.ShouldContain("key 3 = 0x7f0000001000 in /dev/zero (deleted), held by 10, 11, 12");
        text.ShouldContain("inspected: 3 of 3 processes");
    }

    [Fact]
    public void Faults_are_told_with_their_number_and_a_scan_has_none()
    {
        ScanReport.Of([Hazard().Server]).Instances.Single().Faults.ShouldBeEmpty();

        History history = Hazard();
        history.Complain(11, address: History.Pointer + 8).Complain(11, ComplaintKind.OutOfSharedMemory, module: "core", caller: null).Complain(11, address: History.Pointer + 8).Seed(13, 10).Exit(13, 6);
        JsonElement faults = JsonDocument.Parse(ScanReport.Of([history.Server]).ToJson()).RootElement.GetProperty("instances")[0].GetProperty("faults");
        faults.EnumerateArray().Select(static f => string.Join(' ', f.EnumerateObject().Select(static p => p.Value.ToString()))).ShouldBe(
        [
            "crash SIGABRT  worker    1 13",
            "complaint  already_freed worker tls tls_init.c: ser_free beside_shared_slot 2 11",
            "complaint  out_of_shared_memory worker core  unknown 1 11",
        ]);
        var output = new StringWriter();
        new ScanTable(output, colored: false).Print([history.Server]);
        output.ToString().ShouldContain(
            """
              once: worker died of signal 6 (SIGABRT), last 13
              2 times: worker complained of memory freed twice (called from tls: tls_init.c: ser_free), beside what a shared slot points to, last 11
              once: worker complained of no room in shared memory (called from core), last 11
            """);
    }

    [Fact]
    public void Of_very_many_kinds_of_faults_the_table_has_the_latest_and_the_number_of_the_others()
    {
        History history = Hazard();
        for (int i = 0; i < 20; i++)
        {
            history.Complain(11, module: $"m{i}");
        }
        var output = new StringWriter();
        new ScanTable(output, colored: false).Print([history.Server]);
        output.ToString().ShouldContain("… and 12 crashes and complaints of 12 other kinds");
    }

    private static string Table(InstanceSnapshot server)
    {
        var output = new StringWriter();
        new ScanTable(output, colored: false).Print([server]);
        return output.ToString();
    }

    private static History Hazard()
    {
        var history = new History();
        history.Seed(10).Seed(11, 10).Seed(12, 10).Wait(2 * History.Second)
            .Inspect(pid => history.Found(pid, History.Shared(3)), new ServerFacts { Kamailio = "5.6.3", Modules = ["tls"] });
        return history;
    }
}
