using System.IO.Compression;
using Opentelemetry.Proto.Trace.V1;

namespace KamOtel.EndToEndTests;

/// <summary>What was recorded of a real server, replayed, tells what was told while it ran.</summary>
public sealed class RecordTests
{
    [Fact]
    public async Task A_replay_tells_the_same_verdict_spans_and_metrics_as_the_run_and_has_nothing_secret()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string file = scratch["start.kamotel"];
        string name = ServerName.New();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using OtlpReceiver live = await OtlpReceiver.Start();
        await using var watching = new Pages();
        await using RunningProgram recorder = RunningProgram.Start(
            Requirements.Binary, ["record", file, "--listen", watching.Address, "--watch", name], AgentProcess.ExportTo(live));
        await watching.Ready(recorder);
        _ = await server.StartAs(name);
        Samples running = await Until.Found(
            "the use of what is shared",
            async () => await watching.Metrics() is var now && now.Verdict(server.Configuration) == "hazard" && now.Sum("kamotel_confirm_windows_total") > 0
                && now.Sum("kamotel_instance_inspected_processes", ("target", server.Configuration), ("status", "inspected")) == now.Sum("kamotel_instance_processes", ("target", server.Configuration)) ? now : null,
            state: recorder.ToString);
        recorder.Send(Signal.Terminate);
        Ended ended = await recorder.End();
        ended.Code.ShouldBe(0, ended.ToString());
        ended.Errors.ShouldContain("inputs in ");
        Convert.ToString((int)File.GetUnixFileMode(file), 8).ShouldBe("600");

        await using OtlpReceiver replayed = await OtlpReceiver.Start();
        await using var replaying = new Pages();
        await using RunningProgram replay = RunningProgram.Start(
            Requirements.Binary, ["replay", file, "--json", "--listen", replaying.Address], AgentProcess.ExportTo(replayed));
        await replaying.Ready(replay);
        Fleet(await replaying.Metrics()).ShouldBe(Fleet(running));
        replay.Send(Signal.Terminate);
        ended = await replay.End();
        ended.Code.ShouldBe(1, ended.ToString());
        ScannedInstance told = ScanReport.Parse(ended.Output).Of(server);
        told.Verdict.ShouldBe("hazard");
        told.SharedSlots.Length.ShouldBe(2);

        Spans(live).ShouldNotBeEmpty();
        Spans(replayed).ShouldBe(Spans(live));
        Logs(replayed).ShouldBe(Logs(live));

        string text = await Text(file);
        foreach (string secret in (await server.Command())[1..].Where(argument => argument.Length > 4 && !server.Configuration.StartsWith(argument, StringComparison.Ordinal)).Append("PATH="))
        {
            text.ShouldNotContain(secret);
        }
    }

    [Fact]
    public async Task A_recording_whose_agent_was_killed_replays_to_where_it_came_and_says_so()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string file = scratch["killed.kamotel"];
        string name = ServerName.New();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using var watching = new Pages();
        await using RunningProgram recorder = RunningProgram.Start(Requirements.Binary, ["record", file, "--listen", watching.Address, "--watch", name]);
        await watching.Ready(recorder);
        _ = await server.StartAs(name);
        await Until.True("the hazard", async () => (await watching.Metrics()).Verdict(server.Configuration) == "hazard", state: recorder.ToString);
        // What is older than a second is in the file.
        await Task.Delay(3000, TestContext.Current.CancellationToken);
        recorder.Send(Signal.Kill);
        _ = await recorder.End();

        Ended replay = await RunningProgram.Run(Requirements.Binary, ["replay", file]);
        replay.Code.ShouldBe(1, replay.ToString());
        replay.Output.ShouldStartWith("VERDICT");
        replay.Output.ShouldContain("hazard");
        replay.Errors.ShouldContain("the recording is cut or damaged");
    }

    [Fact]
    public async Task A_file_that_is_there_is_not_replaced_unless_it_was_asked_for()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string file = scratch["kept.kamotel"];
        await File.WriteAllTextAsync(file, "mine", TestContext.Current.CancellationToken);
        string[] record = ["record", file, "--for", "500ms", "--watch", ServerName.New()];
        Ended refused = await RunningProgram.Run(Requirements.Binary, record);
        refused.Code.ShouldBe(73, refused.ToString());
        refused.Errors.ShouldContain("--force");
        (await File.ReadAllTextAsync(file, TestContext.Current.CancellationToken)).ShouldBe("mine");
        Ended replaced = await RunningProgram.Run(Requirements.Binary, [.. record, "--force"]);
        replaced.Code.ShouldBe(0, replaced.ToString());
        (await RunningProgram.Run(Requirements.Binary, ["replay", file])).Code.ShouldBe(2);
        Ended device = await RunningProgram.Run(Requirements.Binary, ["record", "/dev/full", "--force", "--for", "500ms"]);
        device.Code.ShouldBe(73, device.ToString());
        File.Exists("/dev/full").ShouldBeTrue();
    }

    [Fact]
    public async Task A_full_disk_ends_the_recording_with_its_reason_and_what_fitted_replays()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string disk = scratch["disk"];
        _ = Directory.CreateDirectory(disk);
        Ended mounted = await RunningProgram.Run("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]);
        if (mounted.Code != 0)
        {
            Assert.Skip($"missing: mount (tmpfs): {mounted.Errors}");
        }
        try
        {
            string file = Path.Combine(disk, "full.kamotel");
            // Room for the header's page, and for no other.
            await File.WriteAllBytesAsync(Path.Combine(disk, "filler"), new byte[60 << 10], TestContext.Current.CancellationToken);
            using var impostor = new ImpostorServer();
            await using var watching = new Pages();
            await using RunningProgram recorder = RunningProgram.Start(Requirements.Binary, ["record", file, "--listen", watching.Address, "--watch", "kamailio"]);
            await watching.Ready(recorder);
            for (int i = 0; i < 20 && recorder.Alive; i++)
            {
                await impostor.Run(20);
            }
            Ended ended = await recorder.End();
            ended.Code.ShouldBe(74, ended.ToString());
            ended.Errors.ShouldContain("No space left on device");
            Ended replay = await RunningProgram.Run(Requirements.Binary, ["replay", file]);
            replay.Code.ShouldBeOneOf(0, 1, 2);
            replay.Errors.ShouldContain("the recording is cut or damaged");
        }
        finally
        {
            _ = await RunningProgram.Run("umount", [disk]);
        }
    }

    /// <summary>What is about servers, but for the agent's own.</summary>
    private static string[] Fleet(Samples samples) =>
    [
        .. samples.All.Where(static s => !s.Name.StartsWith("kamotel_agent_", StringComparison.Ordinal) && !s.Name.StartsWith("kamotel_telemetry_", StringComparison.Ordinal)
                && !s.Name.StartsWith("kamotel_attach_delay", StringComparison.Ordinal) && !s.Name.StartsWith("kamotel_inspection_duration", StringComparison.Ordinal)
                && !s.Name.StartsWith("kamotel_unwind_duration", StringComparison.Ordinal)
                && !s.Name.StartsWith("kamotel_ring_used", StringComparison.Ordinal)
                // Mappings are those of the whole machine, and go on.
                && s.Labels.GetValueOrDefault("kind") != "mapping")
            .Select(static s => $"{s.Series} {s.Value}").Order(StringComparer.Ordinal),
    ];

    private static string[] Spans(OtlpReceiver receiver) =>
    [
        .. receiver.Spans.Select(static s => $"{s.Name} {s.StartTimeUnixNano} {s.EndTimeUnixNano} {s.Status} {s.Attributes} {string.Join(' ', s.Events.Select(Shown))}").Order(StringComparer.Ordinal),
    ];

    private static string Shown(Span.Types.Event e) => $"{e.Name} {e.TimeUnixNano} {e.Attributes}";

    private static string[] Logs(OtlpReceiver receiver) =>
        [.. receiver.Logs.Select(static l => $"{l.EventName()} {l.TimeUnixNano} {l.SeverityNumber} {l.Body} {l.Attributes}").Order(StringComparer.Ordinal)];

    private static async Task<string> Text(string file)
    {
        await using var gzip = new GZipStream(File.OpenRead(file), CompressionMode.Decompress);
        using var reader = new StreamReader(gzip);
        return await reader.ReadToEndAsync();
    }

    /// <summary>The pages of an agent that is started with <see cref="Address"/>.</summary>
    private sealed class Pages : IAsyncDisposable
    {
        private readonly HttpClient _client;

        public Pages()
        {
            Address = $"127.0.0.1:{Scratch.FreePort()}";
            _client = new HttpClient { BaseAddress = new Uri($"http://{Address}"), Timeout = TimeSpan.FromSeconds(10) };
        }

        public string Address { get; }

        public Task Ready(RunningProgram program) => Until.True(
            "the pages to be ready",
            async () =>
            {
                program.Alive.ShouldBeTrue(program.ToString());
                try
                {
                    using HttpResponseMessage response = await _client.GetAsync(new Uri("/readyz", UriKind.Relative));
                    return response.IsSuccessStatusCode;
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            },
            state: program.ToString);

        public async Task<Samples> Metrics() => Samples.Parse(await _client.GetStringAsync(new Uri("/metrics", UriKind.Relative)));

        public ValueTask DisposeAsync()
        {
            _client.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
