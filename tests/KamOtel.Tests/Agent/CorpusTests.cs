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
    };

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
        drawing.Finish();

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

    private static string PathOf(string kind)
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "KamOtel.sln")))
            {
                return Path.Combine(folder.FullName, "tests", "corpus", kind + ".kamotel");
            }
        }
        throw new DirectoryNotFoundException($"no KamOtel.sln above {AppContext.BaseDirectory}");
    }
}
