using System.Diagnostics;
using System.Text.Json;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>
/// Real servers, replayed without a kernel: what was true of them when they were recorded (<c>make corpus</c>) stays true of
/// every later version.
/// </summary>
public sealed class CorpusTests
{
    public static TheoryData<string, Verdict, int> Kinds => new()
    {
        { "none", Verdict.Safe, 0 },
        { "tls", Verdict.Hazard, 2 },
        { "db_postgres", Verdict.Hazard, 2 },
        { "db_mysql", Verdict.Hazard, 2 },
        { "db_unixodbc", Verdict.Hazard, 2 },
        { "db_postgres_tls_first", Verdict.Hazard, 2 },
        { "db_mysql_first", Verdict.Hazard, 2 },
        { "http_client_first", Verdict.Hazard, 2 },
    };

    /// <summary>Who was found guilty, by whom asked, and through what.</summary>
    public static TheoryData<string, string, string, string> Authors => new()
    {
        { "tls", "tls", "tls", "tls → libssl" },
        { "db_postgres", "tls", "tls", "tls → libssl" },
        { "db_mysql", "tls", "tls", "tls → libssl" },
        { "db_unixodbc", "tls", "tls", "tls → libssl" },
        { "db_postgres_tls_first", "db_postgres", "htable", "htable → db_postgres → libpq → libssl" },
        { "db_mysql_first", "db_mysql", "htable", "htable → db_mysql → libmariadb → libssl" },
        { "http_client_first", "http_client", "http_client", "http_client → libcurl → libssl" },
    };

    [Theory]
    [MemberData(nameof(Authors))]
    public void A_recorded_slot_has_its_author_and_its_name(string kind, string author, string askedBy, string path)
    {
        using RecordingReader reader = Open(kind);
        var replay = new Replay(reader, sink: null);
        replay.Run();

        InstanceSnapshot server = replay.Servers.ShouldHaveSingleItem();
        server.SharedSlots.Select(static s => s.Name).Order().ShouldBe(["destructor_key", "err_state"]);
        foreach (SlotOrigin origin in server.SharedSlots.Select(static s => s.Origin.ShouldNotBeNull()))
        {
            (origin.Chain.Author, origin.Chain.AskedBy).ShouldBe((author, askedBy));
            string.Join(" → ", origin.Chain.Path).ShouldBe(path);
            origin.Chain.End.ShouldBe(ChainEnd.Complete);
            origin.Process.ShouldBe(server.Root);
            origin.BeforeForkNs.ShouldNotBeNull().ShouldBeInRange(1UL, 10_000_000_000UL);
        }
        TargetCounters counters = replay.State.Fleet.Targets.ShouldHaveSingleItem();
        counters.ChainsUnknown.ShouldBe(0);
        counters.ChainsAttributed.ShouldBeGreaterThanOrEqualTo(4);
    }

    [Theory]
    [InlineData("db_postgres_tls_first", "htable")]
    [InlineData("http_client_first", "http_client")]
    public void The_trace_of_a_recorded_start_has_the_calls_in_the_module_that_asked(string kind, string module)
    {
        using RecordingReader reader = Open(kind);
        var drawing = new TraceStory(new StringWriter(), colored: false);
        var spans = new List<TraceSpan>();
        drawing.Drawn = spans.Add;
        var replay = new Replay(reader, drawing.Sink);
        replay.Run(drawing.Draw);
        drawing.Finish(replay.EndNs);

        TraceSpan root = spans.Single(static s => s.Name.EndsWith(" start", StringComparison.Ordinal));
        TraceSpan modules = root.Children.Single(static s => s.Name == "initialise modules");
        modules.Children.Select(static s => s.Name).ShouldBe(modules.Children.OrderBy(static s => s.StartNs).Select(static s => s.Name));
        TraceSpan asked = modules.Children.Single(s => s.Name == $"initialise {module}");
        asked.Children.Count(static s => s.Name == "CRYPTO_THREAD_set_local").ShouldBe(4);
        modules.Children.Where(s => s != asked).ShouldAllBe(static s => s.Children.Count == 0);
        root.Events.Count(static e => e.Name == "fork").ShouldBeGreaterThan(2);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_recorded_server_is_judged_as_it_was(string kind, Verdict verdict, int sharedSlots)
    {
        using RecordingReader reader = Open(kind);
        var replay = new Replay(reader, sink: null);
        replay.Run();

        reader.Problem.ShouldBeNull();
        reader.End!.Inputs.ShouldBe(replay.Inputs);
        ReplayCommand.Remarks(replay, reader).ShouldBeEmpty();
        InstanceSnapshot server = replay.Servers.ShouldHaveSingleItem();
        server.Verdict.ShouldBe(verdict, server.Reason);
        server.SinceExec.ShouldBeTrue();
        server.SharedSlots.Length.ShouldBe(sharedSlots);
        // All of them: none was set anew by anybody.
        server.SharedSlots.ShouldAllBe(slot => slot.Holders.Length >= 2 && slot.Holders[0] == server.Root);
        server.Processes.ShouldAllBe(static p => p.Inspection == InspectionStatus.Inspected && p.Settled);
        server.Facts.Kamailio.ShouldNotBeNull();
        replay.State.Events.ShouldNotBeEmpty();
        replay.State.Inspections.ShouldBeGreaterThan(0);
    }

    [Fact]
    public void A_server_that_was_found_running_is_judged_and_nobody_is_blamed()
    {
        using RecordingReader reader = Open("tls_found");
        var replay = new Replay(reader, sink: null);
        replay.Run();

        InstanceSnapshot server = replay.Servers.ShouldHaveSingleItem();
        server.Verdict.ShouldBe(Verdict.Hazard, server.Reason);
        server.SinceExec.ShouldBeFalse();
        server.Gaps.ShouldBe(CoverageGaps.StartedBefore);
        server.SharedSlots.ShouldAllBe(static s => s.Origin == null);
        SharedMemoryPool pool = server.Facts.SharedMemory.ShouldNotBeNull();
        (pool.Manager, pool.Size).ShouldBe(("qm", 64UL << 20));
        server.SharedSlots.ShouldAllBe(s => s.Value >= pool.Start && s.Value < pool.End);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_recorded_start_is_one_span(string kind, Verdict verdict, int sharedSlots)
    {
        _ = sharedSlots;
        using RecordingReader reader = Open(kind);
        var output = new StringWriter();
        var drawing = new TraceStory(output, colored: false);
        var spans = new List<TraceSpan>();
        drawing.Drawn = spans.Add;
        var replay = new Replay(reader, drawing.Sink);
        replay.Run(drawing.Draw);
        drawing.Finish(replay.EndNs);

        spans.Count(static s => s.Name.EndsWith(" start", StringComparison.Ordinal)).ShouldBe(1);
        spans.Any(static s => s.Error is not null).ShouldBe(verdict >= Verdict.Hazard);
        output.ToString().ShouldContain("fork");
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void A_recording_has_no_command_line_and_no_environment(string kind, Verdict verdict, int sharedSlots)
    {
        _ = (verdict, sharedSlots);
        using var gzip = new System.IO.Compression.GZipStream(File.OpenRead(PathOf(kind)), System.IO.Compression.CompressionMode.Decompress);
        using var text = new StreamReader(gzip);
        while (text.ReadLine() is { } line)
        {
            using JsonDocument document = JsonDocument.Parse(line);
            line.ShouldNotContain("-DD");
            line.ShouldNotContain("PATH=");
        }
    }

    private static RecordingReader Open(string kind) => RecordingReader.Open(PathOf(kind));

    private static string PathOf(string kind) => Path.Combine(Repository.Root, "tests", "corpus", kind + ".kamotel");
}
