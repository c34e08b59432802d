using System.Text;
using System.Text.Json;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging;

namespace KamOtel.Tests.Agent;

/// <summary>What somebody else named cannot move the terminal, begin a line of its own, or turn the text around.</summary>
public sealed class HostileTextTests
{
    /// <summary>Clears the screen, begins a line, turns what follows around, hides, ends a line in Unicode's way.</summary>
    private const string Hostile = "lib\u001b[2J\nkamotel: error: \u202egnol\u2066\u200b\u2028\u0085.so";

    [Fact]
    public void What_is_not_seen_is_a_question_mark_and_the_rest_stays()
    {
        PlainText.Of(Hostile).ShouldBe("lib?[2J?kamotel: error: ?gnol????.so");
        PlainText.Of("/srv/größe/電話.cfg …").ShouldBe("/srv/größe/電話.cfg …");
        PlainText.Of("\ud800").ShouldBe("\ufffd");
    }

    [Fact]
    public void A_process_may_call_itself_anything() =>
        TaskName.From("k\u202ea\u001bm").ToString().ShouldBe("k?a?m");

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_log_line_is_one_line_and_plain(bool json)
    {
        var written = new StringWriter { NewLine = "\n" };
        using (var provider = new StderrLoggerProvider(written, json))
        {
            provider.CreateLogger("kamotel").Log(LogLevel.Warning, default, Hostile, exception: null, static (text, _) => text);
        }
        string line = written.ToString();
        line.IndexOf('\n', StringComparison.Ordinal).ShouldBe(line.Length - 1);
        string told = json ? JsonDocument.Parse(line).RootElement.GetProperty("message").GetString()! : line.TrimEnd('\n');
        told.ShouldBe(PlainText.Of(told));
        told.ShouldContain("gnol");
    }

    [Fact]
    public void A_line_of_the_story_is_plain()
    {
        var written = new StringWriter { NewLine = "\n" };
        var server = new InstanceContext(new InstanceId(10, 1), "k", "kamailio", SinceExec: true, StartedNs: 1);
        new StoryPrinter(written, colored: false).GapFound(server, CoverageGaps.ProbeFailed, Hostile, 2);
        string line = written.ToString().TrimEnd('\n');
        line.ShouldBe(PlainText.Of(line));
        line.ShouldContain("gnol");
    }

    [Fact]
    public void A_recording_from_elsewhere_is_read_as_plain_text()
    {
        byte[] json = Encoding.UTF8.GetBytes(JsonSerializer.Serialize(Hostile));
        var reader = new Utf8JsonReader(json);
        _ = reader.Read();
        new PlainTextConverter().Read(ref reader, typeof(string), JsonSerializerOptions.Default).ShouldBe(PlainText.Of(Hostile));
    }
}
