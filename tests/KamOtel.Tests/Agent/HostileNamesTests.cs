using System.Globalization;
using System.Text;
using System.Text.Json;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>Whoever names a process or a file would like to say more than a name.</summary>
[Collection("meters")]
public sealed class HostileNamesTests
{
    public static TheoryData<byte[]> Names { get; } =
    [
        "<script>x()</s>"u8.ToArray(),
        "a\"} 1\nkam{a=\""u8.ToArray(),
        "\u202Egpj.moc"u8.ToArray(),
        "\u001B[2J\r\n\t\u0007"u8.ToArray(),
        "\\\\\"\\n'`${x}"u8.ToArray(),
        new byte[] { 0xFF, 0xFE, (byte)'a', 0xC3, 0x28 },
        "\u2028\u2066\uFEFF\u200B"u8.ToArray(),
        // Cut in the middle of a character.
        "abcdefghijklm\u00E9\u00E9"u8.ToArray(),
    ];

    [Theory]
    [MemberData(nameof(Names))]
    public void A_process_name_is_shown_as_one_line_of_visible_characters(byte[] name)
    {
        string shown = TaskName.From(name).ToString();
        shown.ShouldNotBeEmpty();
        foreach (Rune rune in shown.EnumerateRunes())
        {
            Rune.GetUnicodeCategory(rune).ShouldNotBeOneOf(UnicodeCategory.Control, UnicodeCategory.Format, UnicodeCategory.LineSeparator, UnicodeCategory.ParagraphSeparator, UnicodeCategory.Surrogate);
        }
    }

    [Fact]
    public void What_is_visible_stays_as_it_is()
    {
        PlainText.Of("/etc/kamailio/zürich–☎😀.cfg").ShouldBe("/etc/kamailio/zürich–☎😀.cfg");
        string plain = "kamailio";
        PlainText.Of(plain).ShouldBeSameAs(plain);
        PlainText.Of("a\ud800b\udc00\ud83d\ude00\n").ShouldBe("a\ufffdb\ufffd\U0001F600?");
    }

    /// <summary>Should a name come by another way, and not be made plain, it is a name still: in labels, in JSON and on the page.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public async Task A_name_is_a_label_and_a_string_and_nothing_more(byte[] name)
    {
        string raw = Encoding.UTF8.GetString(name);
        await using ServedAgent agent = await ServedAgent.Start();
        InstanceSnapshot server = RecordedServers.Find("tls") with { Target = raw, Program = raw, Reason = raw };
        agent.State.Publish(AgentSnapshot.Empty with { Time = DateTimeOffset.UtcNow, Fleet = new FleetSnapshot(server.StartedNs, [server], []) });
        using var client = new HttpClient { BaseAddress = agent.Address };

        string metrics = await client.GetStringAsync(new Uri("/metrics", UriKind.Relative), TestContext.Current.CancellationToken);
        string escaped = raw.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);
        string[] lines = metrics.Split('\n');
        lines.ShouldContain($"kamotel_instance_verdict{{target=\"{escaped}\",verdict=\"hazard\"}} 1");
        // No line but samples and comments of the agent's own.
        lines.Where(static l => l.Length > 0).ShouldAllBe(static l => l.StartsWith("kamotel_", StringComparison.Ordinal) || l.StartsWith("# ", StringComparison.Ordinal));

        byte[] json = await client.GetByteArrayAsync(new Uri("/api/fleet", UriKind.Relative), TestContext.Current.CancellationToken);
        json.ShouldAllBe(static b => b >= 0x20, "one line: in the stream a line is what an event ends with");
        Encoding.UTF8.GetString(json).ShouldNotContain("<script");
        using JsonDocument fleet = JsonDocument.Parse(json);
        fleet.RootElement.GetProperty("instances")[0].GetProperty("target").GetString().ShouldBe(raw);
    }

    /// <summary>The page has no way to take text for markup; its tests in a browser show one.</summary>
    [Fact]
    public void The_page_makes_no_markup_of_text()
    {
        foreach (string file in Directory.GetFiles(Path.Combine(Repository.Root, "agent/KamOtel.Agent/page"), "*.js"))
        {
            string text = File.ReadAllText(file);
            foreach (string sink in (string[])["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc", "DOMParser", "createContextualFragment"])
            {
                text.ShouldNotContain(sink, customMessage: file);
            }
        }
    }
}
