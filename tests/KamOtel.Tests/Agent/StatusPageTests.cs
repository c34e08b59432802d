using System.Net;
using System.Text;
using System.Text.Json;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KamOtel.Tests.Agent;

/// <summary>What the status page asks the agent for, over recorded servers.</summary>
[Collection("meters")]
public sealed class StatusPageTests
{
    [Fact]
    public async Task A_hazard_is_told_with_its_author_its_holders_and_its_story()
    {
        await using WebApplication app = await Start();
        Show(app, "tls");
        using HttpClient client = Client(app);
        using JsonDocument fleet = await Json(client, "/api/fleet");
        Names(fleet.RootElement).ShouldBe(["time", "agent", "instances"]);
        JsonElement summary = fleet.RootElement.GetProperty("instances").EnumerateArray().ShouldHaveSingleItem();
        Names(summary).ShouldBe(
        [
            "id", "target", "program", "rootPid", "processes", "workers", "verdict", "reason", "concluded", "kamailio", "openssl", "sharedSlots", "holders", "authors",
            "crashes", "complaints", "started", "ready", "inspected", "ended", "gaps", "failedInspections",
        ]);
        summary.GetProperty("verdict").GetString().ShouldBe("hazard");
        summary.GetProperty("authors").EnumerateArray().Select(static a => a.GetString()).ShouldBe(["tls"]);

        using JsonDocument instance = await Json(client, "/api/instances/" + summary.GetProperty("id").GetString());
        JsonElement one = instance.RootElement;
        Names(one).ShouldBe(["summary", "container", "modules", "tlsThreadsMode", "tlsBackEnd", "sharedMemory", "slots", "processes", "advice", "faults", "coverage", "timeline", "timelineLeftOut"]);
        JsonElement slot = one.GetProperty("slots")[1];
        slot.GetProperty("name").GetString().ShouldBe("err_state");
        slot.GetProperty("path").EnumerateArray().Select(static p => p.GetString()).ShouldBe(["tls", "libssl"]);
        // A process has the slots that it is said to hold, and nobody else has.
        foreach ((JsonElement shared, int i) in one.GetProperty("slots").EnumerateArray().Select(static (s, i) => (s, i)))
        {
            shared.GetProperty("holders").EnumerateArray().Select(static h => h.GetInt32()).ShouldBe(
                one.GetProperty("processes").EnumerateArray().Where(p => p.GetProperty("slots").EnumerateArray().Any(s => s.GetProperty("shared").ValueKind == JsonValueKind.Number && s.GetProperty("shared").GetInt32() == i)).Select(static p => p.GetProperty("pid").GetInt32()),
                ignoreOrder: true);
        }
        string[] kinds = [.. one.GetProperty("timeline").EnumerateArray().Select(static m => m.GetProperty("kind").GetString()!)];
        kinds[0].ShouldBe("exec");
        kinds.ShouldContain("ready");
        kinds.ShouldContain("module");
        kinds.Count(static k => k == "fork").ShouldBe(8);
        one.GetProperty("timeline").EnumerateArray().Select(static m => m.GetProperty("atMs").GetDouble()).ShouldBeInOrder();
        one.GetProperty("advice").EnumerateArray().ShouldNotBeEmpty();
    }

    [Fact]
    public async Task What_is_blind_is_unknown_and_says_why()
    {
        await using WebApplication app = await Start();
        Show(app, "tls, inspection denied");
        using HttpClient client = Client(app);
        using JsonDocument fleet = await Json(client, "/api/fleet");
        JsonElement summary = fleet.RootElement.GetProperty("instances")[0];
        summary.GetProperty("verdict").GetString().ShouldBe("unknown");
        summary.GetProperty("failedInspections").GetInt32().ShouldBeGreaterThan(0);
        fleet.RootElement.GetProperty("agent").GetProperty("notReady").GetString().ShouldBe("the watch loop has not started");
    }

    [Fact]
    public async Task A_stream_begins_with_the_state_tells_changes_once_and_lives()
    {
        await using WebApplication app = await Start();
        AgentState state = app.Services.GetRequiredService<AgentState>();
        using HttpClient client = Client(app);
        using StreamReader stream = await Open(client, "/api/events?instance=1-2");
        (await Event(stream)).Name.ShouldBe("fleet");
        (await Event(stream)).ShouldBe(("gone", """{"id":"1-2"}"""));
        (await Event(stream)).Name.ShouldBe("beat");
        Show(app, "none");
        (string name, string data) = await Event(stream, "fleet");
        name.ShouldBe("fleet");
        data.ShouldContain("\"verdict\":\"safe\"");
        // The same again is no news.
        state.Publish(state.Current with { Time = state.Current.Time.AddSeconds(1) });
        (await Event(stream)).Name.ShouldBe("beat");
    }

    [Fact]
    public async Task More_streams_than_are_kept_up_to_date_are_refused_and_a_place_is_free_again_when_one_closes()
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        var streams = new List<StreamReader>();
        for (int i = 0; i < StatusPage.MaxStreams; i++)
        {
            streams.Add(await Open(client, "/api/events"));
        }
        using (HttpResponseMessage refused = await client.GetAsync(new Uri("/api/events", UriKind.Relative), HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken))
        {
            refused.StatusCode.ShouldBe(HttpStatusCode.ServiceUnavailable);
            refused.Headers.ConnectionClose.ShouldBe(true);
        }
        streams[0].Dispose();
        for (int left = 100; ; left--)
        {
            using HttpResponseMessage answer = await client.GetAsync(new Uri("/api/events", UriKind.Relative), HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
            if (answer.StatusCode == HttpStatusCode.OK)
            {
                break;
            }
            left.ShouldBePositive("the place does not become free");
            await Task.Delay(100, TestContext.Current.CancellationToken);
        }
        // The agent's end is a stream's end.
        await app.StopAsync(TestContext.Current.CancellationToken).WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        streams.ForEach(static s => s.Dispose());
    }

    [Fact]
    public async Task Who_asks_for_the_head_of_the_stream_gets_it_and_no_stream()
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        for (int i = 0; i <= StatusPage.MaxStreams; i++)
        {
            using HttpResponseMessage head = await Ask(client, "/api/events", HttpMethod.Head);
            head.StatusCode.ShouldBe(HttpStatusCode.OK);
            head.Content.Headers.ContentType!.MediaType.ShouldBe("text/event-stream");
            (await head.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)).ShouldBeEmpty();
        }
    }

    [Theory]
    [InlineData("GET", "/favicon.ico", HttpStatusCode.NotFound, "/metrics")]
    [InlineData("GET", "/api/", HttpStatusCode.NotFound, "/api/fleet")]
    [InlineData("POST", "/metrics", HttpStatusCode.MethodNotAllowed, "GET")]
    [InlineData("DELETE", "/api/instances/1-2", HttpStatusCode.MethodNotAllowed, "GET")]
    public async Task What_there_is_not_is_refused_with_what_there_is(string method, string path, HttpStatusCode status, string there)
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        using HttpResponseMessage response = await Ask(client, path, new HttpMethod(method));
        response.StatusCode.ShouldBe(status);
        (await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).ShouldContain(there);
    }

    [Theory]
    [InlineData("/", "rebound.example", HttpStatusCode.MisdirectedRequest)]
    [InlineData("/api/fleet", "rebound.example", HttpStatusCode.MisdirectedRequest)]
    [InlineData("/api/events", "rebound.example:9464", HttpStatusCode.MisdirectedRequest)]
    [InlineData("/metrics", "rebound.example", HttpStatusCode.MisdirectedRequest)]
    [InlineData("/metrics", "localhost.rebound.example", HttpStatusCode.MisdirectedRequest)]
    [InlineData("/healthz", "probe.example", HttpStatusCode.OK)]
    [InlineData("/metrics", "localhost", HttpStatusCode.OK)]
    [InlineData("/metrics", "[::1]:9464", HttpStatusCode.OK)]
    // A proxy that passes on by which address it was asked: no web site can have an address for its name.
    [InlineData("/metrics", "192.0.2.7:9464", HttpStatusCode.OK)]
    public async Task Another_name_that_leads_to_this_machine_is_refused(string path, string host, HttpStatusCode status)
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        using HttpResponseMessage response = await Ask(client, path, ("Host", host));
        response.StatusCode.ShouldBe(status);
    }

    [Theory]
    [InlineData("/api/events", "cross-site", "cors", "empty", HttpStatusCode.Forbidden)]
    [InlineData("/api/fleet", "same-site", "no-cors", "image", HttpStatusCode.Forbidden)]
    [InlineData("/api/events", "cross-site", "navigate", "document", HttpStatusCode.Forbidden)]
    [InlineData("/metrics", "cross-site", "no-cors", "script", HttpStatusCode.Forbidden)]
    [InlineData("/", "cross-site", "navigate", "iframe", HttpStatusCode.Forbidden)]
    [InlineData("/", "cross-site", "navigate", "document", HttpStatusCode.OK)]
    [InlineData("/docs/", "same-site", "navigate", "document", HttpStatusCode.OK)]
    [InlineData("/metrics", "cross-site", "navigate", "document", HttpStatusCode.OK)]
    [InlineData("/api/fleet", "same-origin", "cors", "empty", HttpStatusCode.OK)]
    [InlineData("/api/fleet", "none", "navigate", "document", HttpStatusCode.OK)]
    public async Task Another_sites_page_may_lead_here_and_ask_for_nothing(string path, string site, string mode, string destination, HttpStatusCode status)
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        using HttpResponseMessage response = await Ask(client, path, ("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", destination));
        response.StatusCode.ShouldBe(status);
    }

    [Fact]
    public async Task A_script_of_another_origin_is_refused_where_browsers_say_no_more_of_it()
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        foreach ((string origin, HttpStatusCode status) in new[]
        {
            ("http://evil.example", HttpStatusCode.Forbidden), ("null", HttpStatusCode.Forbidden),
            ($"http://127.0.0.1:{client.BaseAddress!.Port}0", HttpStatusCode.Forbidden), ($"http://{client.BaseAddress.Authority}", HttpStatusCode.OK),
        })
        {
            using HttpResponseMessage response = await Ask(client, "/api/events", ("Origin", origin));
            response.StatusCode.ShouldBe(status, origin);
        }
    }

    [Fact]
    public async Task A_reader_gets_all_piece_by_piece_as_long_as_it_takes_them()
    {
        byte[] sent = new byte[5 * Answer.PieceBytes / 2];
        Random.Shared.NextBytes(sent);
        var takes = new Reader(async _ => await Task.Yield());
        await Answer.WriteAsync(takes, sent, TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken);
        takes.Taken.ToArray().ShouldBe(sent);
        takes.Largest.ShouldBe(Answer.PieceBytes);

        var stalls = new Reader(cancellation => Task.Delay(Timeout.Infinite, cancellation));
        _ = await Should.ThrowAsync<OperationCanceledException>(() => Answer.WriteAsync(stalls, sent, TimeSpan.FromMilliseconds(10), TestContext.Current.CancellationToken));
        stalls.Largest.ShouldBe(Answer.PieceBytes);
    }

    [Fact]
    public async Task Where_nothing_is_served_no_history_is_kept()
    {
        await using WebApplication app = AgentHost.Build(new RunOptions { Listen = null }, story: null, static _ => { });
        app.Services.GetRequiredService<AgentState>().Histories.ShouldBeNull();
        _ = app.Services.GetRequiredService<IFleetSink>().ShouldBeOfType<TelemetrySink>();
    }

    [Fact]
    public async Task The_page_may_load_and_ask_for_nothing_from_elsewhere()
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        using HttpResponseMessage response = await client.GetAsync(new Uri("/", UriKind.Relative), TestContext.Current.CancellationToken);
        response.Content.Headers.ContentType!.MediaType.ShouldBe("text/html");
        response.Headers.GetValues("Content-Security-Policy").Single().ShouldStartWith("default-src 'none'; script-src 'self';");
        string page = await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken);
        foreach (string name in (string[])["page.js", "page.css", "icon.svg"])
        {
            page.ShouldContain($"/page/{name}");
            (await client.GetAsync(new Uri($"/page/{name}", UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode.ShouldBe(HttpStatusCode.OK);
        }
        (await client.GetAsync(new Uri("/page/other.js", UriKind.Relative), TestContext.Current.CancellationToken)).StatusCode.ShouldBe(HttpStatusCode.NotFound);
    }

    [Fact]
    public void A_server_that_crashed_is_still_there_after_its_end_and_the_oldest_ends_go()
    {
        var histories = new ServerHistories(maxEnded: 1);
        _ = RecordedServers.Play("tls, a worker died of SIGSEGV", histories);
        HistorySnapshot history = histories.Snapshot();
        ServerHistory server = history.Servers.Values.ShouldHaveSingleItem();
        server.Moments.Select(static m => m.Kind).ShouldContain("crash");
        histories.Snapshot().ShouldBeSameAs(history);
    }

    [Fact]
    public void A_flood_is_counted_and_what_matters_stays()
    {
        var histories = new ServerHistories();
        InstanceSnapshot server = RecordedServers.Play("tls", histories);
        var context = new InstanceContext(server.Id, server.Target, server.Program, SinceExec: true, server.StartedNs);
        Observation call = new() { Kind = ObservationKind.SetLocal, TimeNs = server.StartedNs, Process = server.Root, Tid = server.Root.Tgid, Instance = server.Id };
        for (int i = 0; i < 100_000; i++)
        {
            histories.Call(context, in call, new CallContext(ProcessRole.Worker, CallPhase.AfterFork, SlotValueKind.Pointer, ReplacesInherited: false));
        }
        for (int i = 0; i < 100; i++)
        {
            histories.VerdictChanged(context, server with { Reason = $"reason {i}" }, Verdict.Safe, server.StartedNs + (ulong)i);
        }
        ServerHistory history = histories.Snapshot().Of(server.Id);
        history.Moments.Length.ShouldBeLessThanOrEqualTo(200);
        history.LeftOut.ShouldBeGreaterThan(99_900);
        history.Moments.Select(static m => m.Text).ShouldContain("hazard: reason 99");
        history.Moments.Select(static m => m.Text).ShouldContain("unknown: the server is starting");
        // What is only counted is told as well.
        histories.Call(context, in call, new CallContext(ProcessRole.Worker, CallPhase.AfterFork, SlotValueKind.Pointer, ReplacesInherited: false));
        histories.Snapshot().Of(server.Id).LeftOut.ShouldBe(history.LeftOut + 1);
    }

    private static void Show(WebApplication app, string name)
    {
        AgentState state = app.Services.GetRequiredService<AgentState>();
        InstanceSnapshot server = RecordedServers.Play(name, state.Histories!);
        state.Publish(AgentSnapshot.Empty with { Time = DateTimeOffset.UtcNow, Fleet = new FleetSnapshot(server.StartedNs, [server], []) });
    }

    private static async Task<WebApplication> Start()
    {
        WebApplication app = AgentHost.Build(
            new RunOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) }, story: null,
            static services => services.AddSingleton(static p => new StatusPage(p.GetRequiredService<AgentState>(), p.GetRequiredService<StatusReports>(), p.GetRequiredService<IHostApplicationLifetime>()) { BeatEvery = TimeSpan.FromMilliseconds(50) }));
        await app.StartAsync();
        return app;
    }

    private static HttpClient Client(WebApplication app) => new()
    {
        BaseAddress = new Uri(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single()),
    };

    private static string[] Names(JsonElement element) => [.. element.EnumerateObject().Select(static p => p.Name)];

    private static async Task<HttpResponseMessage> Ask(HttpClient client, string path, params (string Name, string Value)[] headers) => await Ask(client, path, HttpMethod.Get, headers);

    private static async Task<HttpResponseMessage> Ask(HttpClient client, string path, HttpMethod method, params (string Name, string Value)[] headers)
    {
        using var request = new HttpRequestMessage(method, path);
        foreach ((string name, string value) in headers)
        {
            request.Headers.TryAddWithoutValidation(name, value).ShouldBeTrue();
        }
        return await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
    }

    private static async Task<JsonDocument> Json(HttpClient client, string path) =>
        JsonDocument.Parse(await client.GetStringAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken));

    private static async Task<StreamReader> Open(HttpClient client, string path) =>
        new(await client.GetStreamAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken), Encoding.UTF8);

    /// <summary>The next event; or the next of this name, whatever comes before it.</summary>
    private static async Task<(string Name, string Data)> Event(StreamReader stream, string? wanted = null)
    {
        string name = "";
        while (await stream.ReadLineAsync(TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken) is { } line)
        {
            if (line.StartsWith("event: ", StringComparison.Ordinal))
            {
                name = line["event: ".Length..];
            }
            else if (line.StartsWith("data: ", StringComparison.Ordinal) && (wanted is null || name == wanted))
            {
                return (name, line["data: ".Length..]);
            }
        }
        throw new EndOfStreamException($"the stream ended after {name}");
    }

    /// <summary>The end of a connection where what is sent is taken, in its own time.</summary>
    private sealed class Reader(Func<CancellationToken, Task> take) : MemoryStream
    {
        public MemoryStream Taken { get; } = new();

        public int Largest { get; private set; }

        public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
        {
            Largest = Math.Max(Largest, buffer.Length);
            await take(cancellationToken);
            await Taken.WriteAsync(buffer, cancellationToken);
        }
    }
}
