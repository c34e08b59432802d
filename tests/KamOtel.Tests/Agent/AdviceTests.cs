using System.Collections.Immutable;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using CsCheck;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;
using Microsoft.Extensions.Logging;

namespace KamOtel.Tests.Agent;

/// <summary>What is advised to recorded servers, and where it is told.</summary>
public sealed partial class AdviceTests
{
    /// <summary>All that a server is advised, in its order.</summary>
    public static TheoryData<string, Verdict, string> Servers => new()
    {
        { "none", Verdict.Safe, "" },
        { "tls", Verdict.Hazard, "soon upgrade-from-5.6 back-port not-by-restart" },
        { "db_postgres", Verdict.Hazard, "soon upgrade-from-5.6 back-port not-by-restart" },
        { "db_mysql:first", Verdict.Hazard, "soon upgrade-from-5.6 not-by-doing-without back-port not-by-module-order not-by-restart" },
        { "http_client:first", Verdict.Hazard, "soon upgrade-from-5.6 not-by-doing-without back-port not-by-module-order not-by-restart" },
        { "tls:found", Verdict.Hazard, "upgrade-from-5.6 back-port see-the-author not-by-restart" },
        { "tls, a worker died of SIGSEGV", Verdict.Corrupted, "restart-now soon upgrade-from-5.6 back-port" },
        { "tls, nothing known of it", Verdict.Hazard, "soon not-by-restart" },
        { "tls, with OpenSSL 1.1.1w", Verdict.Hazard, "soon upgrade-from-5.6 end-of-openssl-1.1 back-port not-by-restart" },
        { "tls, as 5.8.8 with mode 0", Verdict.Hazard, "soon set-mode-in-5 not-by-restart" },
        { "tls, as 5.8.8 with mode 1", Verdict.Hazard, "soon raise-mode-in-5 not-by-restart" },
        { "tls, as 5.8.8 with mode 2", Verdict.Hazard, "soon mode-2-did-not-help wolfssl not-by-restart" },
        { "tls, as 6.0.2 with mode 0", Verdict.Hazard, "soon restore-mode-in-6 not-by-restart" },
        { "tls, as 6.0.2 with mode 1", Verdict.Hazard, "soon mode-1-in-6-did-not-help not-by-restart" },
        { "tls, as 6.1.0-dev2 with mode 0", Verdict.Hazard, "soon not-by-restart" },
        { "tls, as OpenSIPS", Verdict.Hazard, "soon opensips-wolfssl not-by-restart" },
        { "db_postgres_tls:first, as 5.7.4", Verdict.Hazard, "soon upgrade-from-5.7 connect-after-the-fork wolfssl back-port not-by-module-order not-by-restart" },
        { "http_client:first, as 5.7.4", Verdict.Hazard, "soon upgrade-from-5.7 http-client-without-openssl wolfssl back-port not-by-module-order not-by-restart" },
        { "tls, as 5.8.8 with mode 2, cured", Verdict.Exposed, "cured-by-mode-2" },
        { "tls, as 5.8.8 with mode 1, cured", Verdict.Exposed, "cured-by-mode-1-in-5" },
        { "tls, as 6.0.2 with mode 1, cured", Verdict.Exposed, "cured-by-mode-1-in-6" },
        { "db_mysql:first, without tls, cured", Verdict.Exposed, "private-until-tls" },
        { "tls, inspection denied", Verdict.Unknown, "be-allowed" },
        { "tls, inspection unsupported", Verdict.Unknown, "another-libc" },
        { "tls, inspection unreadable", Verdict.Unknown, "report-unreadable" },
        { "tls, events lost before the first inspection", Verdict.Unknown, "larger-ring" },
    };

    [Theory]
    [MemberData(nameof(Servers))]
    public void A_recorded_server_is_advised_this_and_nothing_else(string name, Verdict verdict, string advice)
    {
        InstanceSnapshot server = RecordedServers.Find(name);
        server.Verdict.ShouldBe(verdict, server.Reason);
        string.Join(' ', Advisor.For(server).Select(static a => a.Id)).ShouldBe(advice);
        // Nothing of the form is left.
        Advisor.For(server).ShouldAllBe(static a => !a.Text.Contains('{') && !a.Text.Contains("  ", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("tls", "soon upgrade-from-5.6 back-port")]
    [InlineData("tls, a worker died of SIGSEGV", "soon upgrade-from-5.6 back-port")]
    public void Whether_to_restart_is_no_question_of_a_server_that_has_ended(string name, string advice) =>
        string.Join(' ', Advisor.For(RecordedServers.Find(name) with { Ended = true }).Select(static a => a.Id)).ShouldBe(advice);

    [Fact]
    public void Every_entry_is_given_to_the_server_that_it_names_and_has_a_source_that_can_be_read()
    {
        AdviceFile file = AdviceFile.Load();
        RecordedServers.Names.ShouldBe(Servers.Select(static s => s.Data.Item1), ignoreOrder: true);
        foreach (AdviceEntry entry in file.Advice)
        {
            RecordedServers.Names.ShouldContain(entry.Test, entry.Id);
            Advisor.For(RecordedServers.Find(entry.Test)).Select(static a => a.Id).ShouldContain(entry.Id);
            if (!entry.Source.StartsWith("https://", StringComparison.Ordinal))
            {
                string[] parts = entry.Source.Split('#');
                string page = File.ReadAllText(Path.Combine(Repository.Root, parts[0]));
                parts[1..].ShouldAllBe(anchor => Anchors(page).Contains(anchor), entry.Id);
            }
        }
    }

    [Fact]
    public void The_file_is_in_order()
    {
        AdviceFile file = AdviceFile.Load();
        using JsonDocument document = JsonDocument.Parse(File.ReadAllText(Path.Combine(Repository.Root, "agent/KamOtel.Diagnosis/advice.json")));
        document.RootElement.GetProperty("advice").EnumerateArray().Select(static e => e.GetProperty("id").GetString()).ShouldBe(file.Advice.Select(static e => e.Id), "it is not sorted by priority");
        foreach (AdviceEntry entry in file.Advice)
        {
            entry.Id.ShouldMatch("^[a-z0-9][a-z0-9.-]*$");
            entry.Text.ShouldMatch("^[A-Z].*\\.$");
        }
    }

    [Theory]
    [InlineData("\"when\": { \"verdict\": [\"dangerous\"] }", "Verdict")]
    [InlineData("\"when\": { \"verdict\": [] }", "is for no verdict")]
    [InlineData("\"when\": {}", "verdict")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"], \"weather\": 1 }", "weather")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"], \"kamailio\": {} }", "range of versions")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"], \"kamailio\": { \"from\": \"6.0\", \"before\": \"5.8\" } }", "range of versions")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"], \"openSsl\": { \"from\": \"three\" } }", "range of versions")]
    [InlineData("\"when\": { \"verdict\": [\"exposed\"], \"slots\": [\"err_state\"] }", "shared slots")]
    [InlineData("\"when\": { \"verdict\": [\"unknown\"], \"gaps\": [\"none\"] }", "gap")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"] }, \"text\": \"{kamailio}\"", "names {kamailio}")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"], \"tlsThreadsMode\": [null, 1] }, \"text\": \"{tlsThreadsMode}\"", "names {tlsThreadsMode}")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"], \"authors\": [null, \"tls\"] }, \"text\": \"{authors}\"", "names {authors}")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"] }, \"source\": \"\"", "no text, source or test")]
    [InlineData("\"when\": { \"verdict\": [\"hazard\"] }, \"test\": \"\"", "no text, source or test")]
    public void An_entry_that_makes_no_sense_is_refused_by_name(string part, string why)
    {
        string entry = $$"""{ "id": "wrong", "priority": 1, "text": "Do it.", "source": "https://example.org", "test": "tls", {{part}} }""";
        InvalidDataException refused = Should.Throw<InvalidDataException>(() => AdviceFile.Parse(Encoding.UTF8.GetBytes($$"""{ "advice": [{{entry}}] }""")));
        refused.Message.ShouldContain(why);
        refused.Message.ShouldContain("advice.json");
    }

    [Fact]
    public void Two_entries_of_one_name_and_one_without_a_source_are_refused()
    {
        const string Entry = """{ "id": "a", "priority": 1, "when": { "verdict": ["hazard"] }, "text": "Do it.", "source": "https://example.org", "test": "tls" }""";
        _ = AdviceFile.Parse(Encoding.UTF8.GetBytes($$"""{ "advice": [{{Entry}}] }""")).Advice.ShouldHaveSingleItem();
        Should.Throw<InvalidDataException>(static () => AdviceFile.Parse(Encoding.UTF8.GetBytes($$"""{ "advice": [{{Entry}}, {{Entry}}] }"""))).Message.ShouldContain("twice");
        foreach (string member in new[] { "id", "priority", "when", "text", "source", "test" })
        {
            var without = System.Text.Json.Nodes.JsonNode.Parse(Entry)!.AsObject();
            without.Remove(member).ShouldBeTrue();
            Should.Throw<InvalidDataException>(() => AdviceFile.Parse(Encoding.UTF8.GetBytes($$"""{ "advice": [{{without.ToJsonString()}}] }"""))).Message.ShouldContain(member);
        }
    }

    [Fact]
    public void Whatever_is_observed_advice_names_nothing_else() =>
        Snapshots.Sample(
            static server =>
            {
                string?[] authors = [.. server.SharedSlots.Select(static s => s.Origin?.Chain.Author)];
                string?[] asked = [.. server.SharedSlots.Select(static s => s.Origin?.Chain.AskedBy)];
                foreach (Advice advice in Advisor.For(server))
                {
                    string told = $"{advice.Id}: {advice.Text} of {server}";
                    server.Verdict.ShouldNotBe(Verdict.Safe, told);
                    foreach (string module in MayBeNamed.Where(module => IsNamed(advice.Text, module)))
                    {
                        server.Facts.Modules.Concat(authors).Concat(asked).Append(server.Facts.TlsBackEnd).ShouldContain(module, told);
                    }
                    if (advice.Text.Contains("calls OpenSSL before the fork because", StringComparison.Ordinal))
                    {
                        authors.ShouldContain(module => module != null && IsNamed(advice.Text, module), told);
                        asked.ShouldContain(module => module != null && IsNamed(advice.Text, module), told);
                    }
                    // No version-bound advice without a version.
                    if (server.Facts is { Kamailio: null or "6.1.0-dev2", OpenSsl: null })
                    {
                        advice.Text.ShouldNotMatch("[0-9]+\\.[0-9]+", told);
                    }
                    if (server.Facts.Kamailio is null or "6.1.0-dev2")
                    {
                        advice.Text.ShouldNotContain("tls_threads_mode", customMessage: told);
                    }
                    if (advice.Text.StartsWith("The cure is set", StringComparison.Ordinal))
                    {
                        server.Facts.TlsThreadsMode.ShouldBeOneOf([1, 2], told);
                    }
                    if (advice.Text.Contains("no setting that helps", StringComparison.Ordinal))
                    {
                        server.Facts.TlsThreadsMode.ShouldBeNull(told);
                    }
                    if (IsNamed(advice.Text, "err_state"))
                    {
                        server.SharedSlots.ShouldContain(static s => s.Name == "err_state", told);
                    }
                }
            },
            iter: 20_000);

    private static bool IsNamed(string text, string name) => Regex.IsMatch(text, $"(?<![a-z_]){Regex.Escape(name)}(?![a-z_])");

    [Fact]
    public void Scan_and_story_and_log_event_tell_the_same()
    {
        var story = new StringWriter();
        var log = new TakingLogger();
        var sink = new RecordingSink();
        InstanceSnapshot server = RecordedServers.Play("db_postgres_tls:first, as 5.7.4", new CompositeSink(new StoryPrinter(story, colored: false), sink));
        string[] advice = [.. Advisor.For(server).Select(static a => a.ToString())];
        advice.Length.ShouldBe(7);
        advice[2].ShouldBe("Until then: db_postgres calls OpenSSL before the fork because htable asks for data while it is initialised. Let htable load it when the server is up, or build db_postgres with a client library that has no OpenSSL. (https://github.com/kamailio/kamailio/issues/3738)");

        JsonDocument.Parse(ScanReport.Of([server]).ToJson()).RootElement.GetProperty("instances")[0].GetProperty("advice").EnumerateArray().Select(static a => a.GetString()).ShouldBe(advice);
        var table = new StringWriter();
        new ScanTable(table, colored: false).Print([server]);
        Lines(table, "  advice: ").ShouldBe(advice);
        Lines(story, " advice        ").TakeLast(advice.Length).ShouldBe(advice);
        foreach ((InstanceSnapshot now, Verdict before) in sink.Verdicts)
        {
            EventLog.Write(log, new TelemetryItem(ItemKind.Verdict, new InstanceContext(now.Id, now.Target, now.Program, now.SinceExec, now.StartedNs)) { Snapshot = now, Detail = Words.Of(before) });
        }
        log.Advice[^1].ShouldBe(advice);
        log.Advice[0].ShouldBeNull("exposed before its facts were known: nothing is advised, and the attribute is not there");
    }

    private static IEnumerable<string> Lines(StringWriter text, string mark) =>
        text.ToString().Split('\n').Where(line => line.Contains(mark, StringComparison.Ordinal)).Select(line => line.TrimEnd()[(line.IndexOf(mark, StringComparison.Ordinal) + mark.Length)..]);

    private static IEnumerable<string> Anchors(string page) =>
        page.Split('\n').Where(static l => l.StartsWith('#')).Select(static l => NoAnchor().Replace(l.TrimStart('#').Trim().ToLowerInvariant(), "").Replace(' ', '-'));

    /// <summary>What only an observation may put into a text; tls_wolfssl and tls are remedies, too.</summary>
    private static readonly string[] MayBeNamed = ["db_mysql", "db_postgres", "db_unixodbc", "http_client", "tls_openssl", "htable", "usrloc"];

    private static readonly Gen<string?> Modules = Gen.Int[0, MayBeNamed.Length + 1].Select(static i => i < MayBeNamed.Length ? MayBeNamed[i] : i == MayBeNamed.Length ? "tls" : null);

    private static readonly Gen<SharedSlot> Slots = Gen.Select(Modules, Modules, Gen.Bool, Gen.Bool, static (author, asked, before, named) =>
    {
        ImmutableArray<CallFrame> frames = [new("libcrypto.so.3", null, false, "CRYPTO_THREAD_set_local", 0), .. new[] { author, asked }.OfType<string>().Select(static m => new CallFrame(m + ".so", m, false, null, 0))];
        return new SharedSlot(1, 0x1000, new SharedMemory("/dev/zero (deleted)", 0, 0x2000, 0, 1, 2), [new ProcessId(1, 1), new ProcessId(2, 2)], 1)
        {
            Name = named ? "err_state" : null,
            Origin = author is null ? null : new SlotOrigin(new ProcessId(1, 1), 1, 1, new CallChain(frames, before ? ChainEnd.Complete : ChainEnd.Truncated, ""), before ? 7UL : null),
        };
    });

    private static readonly Gen<InstanceSnapshot> Snapshots = Gen.Select(
        Gen.Select(Gen.Int[0, 4], Gen.Int[0, 9], Gen.Int[0, 3], Gen.Int[-1, 3]),
        Gen.Select(Modules.Array[0, 4], Modules, Slots.Array[0, 3]),
        Gen.Select(Gen.Int[0, 255], Gen.Int[-1, 5]),
        static (numbers, modules, seen) => new InstanceSnapshot
        {
            Id = new InstanceId(1, 1),
            Target = "t",
            Program = "kamailio",
            Root = new ProcessId(1, 1),
            Processes = [new ProcessSnapshot(new ProcessId(1, 1), null, ProcessRole.Root, [], 0) { Inspection = seen.Item2 < 0 ? null : (InspectionStatus)seen.Item2 }],
            StartedNs = 1,
            Verdict = (Verdict)numbers.Item1,
            Reason = "r",
            Gaps = (CoverageGaps)seen.Item1,
            MainThreadCallsBeforeFork = 0,
            LibraryGapNs = 0,
            Facts = new ServerFacts
            {
                Kamailio = numbers.Item2 switch { 0 => "5.6.3", 1 => "5.7.0", 2 => "5.7.4", 3 => "5.7.5", 4 => "5.8.8", 5 => "6.0.0", 6 => "6.1.3", 7 => "6.1.0-dev2", _ => null },
                OpenSsl = numbers.Item3 switch { 0 => "1.1.1w", 1 => "3.0.22", 2 => "3.6.0", _ => null },
                TlsThreadsMode = numbers.Item4 is -1 or 3 ? null : numbers.Item4,
                Modules = [.. modules.Item1.OfType<string>().Distinct()],
                TlsBackEnd = modules.Item2,
            },
            SharedSlots = [.. modules.Item3],
        });

    [GeneratedRegex("[^a-z0-9 _-]")]
    private static partial Regex NoAnchor();

    private sealed class TakingLogger : ILogger
    {
        public List<string[]?> Advice { get; } = [];

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Advice.Add((string[]?)((EventAttributes)(object)state!).Find(static a => a.Key == "kamotel.advice").Value);
    }
}
