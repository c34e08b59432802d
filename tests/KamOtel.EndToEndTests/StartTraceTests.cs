using Google.Protobuf;
using Opentelemetry.Proto.Trace.V1;

namespace KamOtel.EndToEndTests;

/// <summary>The start of a real server as one trace.</summary>
public sealed class StartTraceTests
{
    [Fact]
    public async Task Each_module_has_a_span_in_the_order_of_the_configuration_and_each_call_lies_in_its_module()
    {
        await using KamailioServer server = await KamailioServer.Prepare("db_postgres");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        int pid = await server.Start();
        Samples metrics = await agent.AtRest(server.Configuration);
        Trace trace = await Trace.Of(receiver, server, spans: 5);

        trace.Root.ParentSpanId.ShouldBeEmpty();
        trace.Root.Attributes.Get("process.pid").ShouldBe($"{pid}");
        trace.Root.Attributes.Get("kamotel.verdict").ShouldBeOneOf("exposed", "hazard");
        Span modules = trace.Named("initialise modules").ShouldHaveSingleItem();
        modules.ParentSpanId.ShouldBe(trace.Root.SpanId);
        string[] configured = [.. File.ReadLines(server.Configuration).Select(static l => l.Trim())
            .Where(static l => l.StartsWith("loadmodule ", StringComparison.Ordinal)).Select(static l => Path.GetFileNameWithoutExtension(l.Split('"')[1]))];
        Span[] each = [.. trace.Below(modules).Where(static s => s.Name.StartsWith("initialise ", StringComparison.Ordinal))];
        // Nothing else maps a module with an init function here, and all of these have one.
        each.Select(static s => s.Attributes.Get("kamotel.module")).ShouldBe(configured);
        each[0].StartTimeUnixNano.ShouldBeGreaterThanOrEqualTo(modules.StartTimeUnixNano);
        for (int i = 1; i < each.Length; i++)
        {
            each[i].StartTimeUnixNano.ShouldBe(each[i - 1].EndTimeUnixNano);
        }
        each[^1].EndTimeUnixNano.ShouldBe(modules.EndTimeUnixNano);

        Span[] calls = [.. trace.Spans.Where(static s => s.Name.StartsWith("CRYPTO_THREAD_", StringComparison.Ordinal))];
        calls.Count(static s => s.Name == "CRYPTO_THREAD_set_local")
            .ShouldBe((int)metrics.Sum("kamotel_thread_local_calls_total", ("target", server.Configuration), ("call", "set_local"), ("thread", "main"), ("phase", "before_fork")));
        foreach (Span call in calls)
        {
            Span parent = trace.Spans.Single(s => s.SpanId == call.ParentSpanId);
            call.StartTimeUnixNano.ShouldBeInRange(parent.StartTimeUnixNano, parent.EndTimeUnixNano);
            call.Attributes.Get("thread.id").ShouldBe(call.Attributes.Get("process.pid"));
        }
        // Kamailio 5.6's TLS module has done it all when the configuration is read: what follows finds its slots set.
        string[] modulesWithCalls = [.. calls.Select(trace.ModuleOf).OfType<string>().Distinct()];
        modulesWithCalls.ShouldBeSubsetOf(["htable", "tls"]);
        trace.Root.Events.Count(static e => e.Name == "fork").ShouldBe((int)metrics.Sum("kamotel_forks_total", ("target", server.Configuration)));

        // By whatever way the hazard became known, it is an error in this trace, with its runbook.
        Span[] Bad() => [.. receiver.Spans.Where(s => s.TraceId == trace.Root.TraceId && s.Attributes.Get("kamotel.verdict") == "hazard")];
        await Until.True("the hazard in the trace", () => Bad().Length > 0);
        Bad()[0].Status.Code.ShouldBe(Status.Types.StatusCode.Error);
        Bad()[0].Status.Message.ShouldBe(Bad()[0].Attributes.Get("kamotel.reason"));
        File.Exists(Path.Combine(Requirements.Repository, Bad()[0].Attributes.Get("kamotel.runbook.url")!)).ShouldBeTrue();

        // From the number to the story.
        string text = await agent.OpenMetricsText();
        string id = Convert.ToHexStringLower(trace.Root.TraceId.ToByteArray());
        text.Split('\n').Where(line => line.Contains($"trace_id=\"{id}\"", StringComparison.Ordinal)).Select(static line => line.Split('{')[0]).Distinct()
            .ShouldBe(["kamotel_thread_local_calls_total", "kamotel_verdicts_total"]);
        text.ShouldEndWith("# EOF\n");
    }

    [Fact]
    public async Task What_a_database_client_touches_lies_in_the_module_that_asks_for_it()
    {
        await using KamailioServer server = await KamailioServer.Prepare("db_mysql");
        File.WriteAllLines(server.Configuration, File.ReadAllLines(server.Configuration).Where(static l => !l.Contains("tls", StringComparison.Ordinal)));
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        _ = await server.Start();
        Trace trace = await Trace.Of(receiver, server, spans: 7);

        Span[] calls = [.. trace.Spans.Where(static s => s.Name == "CRYPTO_THREAD_set_local")];
        calls.ShouldNotBeEmpty();
        calls.Select(static s => s.Attributes.Get("kamotel.phase")).ShouldAllBe(static phase => phase == "before_fork");
        string[] modules = [.. calls.Select(c => trace.ModuleOf(c) ?? "none").Distinct()];
        modules.ShouldBeSubsetOf(["db_mysql", "htable"]);
    }

    [Fact]
    public async Task Every_start_of_a_server_has_its_modules()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        int[] modules = new int[3];
        for (int i = 0; i < modules.Length; i++)
        {
            _ = await server.Start();
            Trace trace = await Trace.Of(receiver, server, spans: 5, number: i);
            modules[i] = trace.Spans.Count(static s => s.Attributes.Get("kamotel.module") is not null);
            _ = await server.Stop();
            await server.Process!.DisposeAsync();
        }
        modules.ShouldBe([4, 4, 4]);
    }

    [Fact]
    public async Task A_start_that_a_signal_ends_says_so_in_the_module_that_it_was_in()
    {
        await using KamailioServer server = await KamailioServer.Prepare("db_postgres");
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        // A database that takes the connection and says nothing: htable waits for it in its init function.
        using var silent = new System.Net.Sockets.TcpListener(System.Net.IPAddress.Loopback, 0);
        silent.Start();
        int port = ((System.Net.IPEndPoint)silent.LocalEndpoint).Port;
        string configuration = File.ReadAllText(server.Configuration);
        File.WriteAllText(server.Configuration, System.Text.RegularExpressions.Regex.Replace(
            configuration, "\"db_url\", \"[^\"]*\"", $"\"db_url\", \"postgres://nobody:none@127.0.0.1:{port}/none\""));
        int pid = server.Exec();
        using System.Net.Sockets.TcpClient asked = await silent.AcceptTcpClientAsync(TestContext.Current.CancellationToken);

        Libc.Send(pid, Signal.SegmentationFault).ShouldBeTrue();

        Trace trace = await Trace.Of(receiver, server, spans: 4);
        trace.Root.Status.Code.ShouldBe(Status.Types.StatusCode.Error);
        trace.Root.Status.Message.ShouldBe("ended before it was ready: signal 11 (SIGSEGV)");
        trace.Root.Attributes.Get("kamotel.exit.signal").ShouldBe("11");
        Span[] failed = [.. trace.Spans.Where(static s => s.Name.StartsWith("initialise ", StringComparison.Ordinal) && s.Status?.Code == Status.Types.StatusCode.Error)];
        failed.Select(static s => (s.Name, s.Status.Message)).ShouldBe([("initialise modules", "signal 11 (SIGSEGV)"), ("initialise htable", "signal 11 (SIGSEGV)")], ignoreOrder: true);
        failed.ShouldAllBe(s => s.EndTimeUnixNano == trace.Root.EndTimeUnixNano);
    }

    /// <summary>The spans of one start.</summary>
    private sealed record Trace(Span Root, Span[] Spans)
    {
        /// <summary>Waits for a start of this server, and for so many spans of it at least.</summary>
        public static async Task<Trace> Of(OtlpReceiver receiver, KamailioServer server, int spans, int number = 0)
        {
            Span[] Starts() => [.. receiver.Spans.Where(s => s.Name == "kamailio start" && s.Attributes.Get("kamotel.target") == server.Configuration)];
            Span root = await Until.Found("the span of the start", () => Starts().ElementAtOrDefault(number));
            ByteString id = root.TraceId;
            Span[] OfTrace() => [.. receiver.Spans.Where(s => s.TraceId == id)];
            await Until.True($"{spans} spans of the trace", () => OfTrace().Length >= spans, state: () => string.Join('\n', OfTrace().Select(static s => s.Name)));
            // Sent together, but maybe not in one request.
            int before;
            do
            {
                before = OfTrace().Length;
                await Task.Delay(700);
            }
            while (OfTrace().Length > before);
            return new Trace(root, OfTrace());
        }

        /// <summary>The module that a span lies in, or null.</summary>
        public string? ModuleOf(Span span) => Spans.Single(s => s.SpanId == span.ParentSpanId).Attributes.Get("kamotel.module");

        public Span[] Named(string name) => [.. Spans.Where(s => s.Name == name)];

        public Span[] Below(Span parent) => [.. Spans.Where(s => s.ParentSpanId == parent.SpanId).OrderBy(static s => s.StartTimeUnixNano)];
    }
}
