using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;

namespace KamOtel.Agent;

/// <summary>What <c>kamotel replay</c> was told beside settings.</summary>
internal sealed record ReplayOptions(string Path, bool Json, bool Trace, bool Follow, bool Colored);

/// <summary><c>kamotel replay</c>: what a recording tells, without a kernel.</summary>
internal static class ReplayCommand
{
    /// <summary>Telemetry may wait: what is told must not outrun what is sent.</summary>
    private const int MaxWaiting = TelemetrySink.Capacity / 2;

    /// <summary>An endpoint that takes nothing for so long takes nothing any more.</summary>
    private const long PatienceMs = 15_000;

    /// <summary>Replays, prints, serves until a signal where an address is given. Returns the exit code.</summary>
    /// <exception cref="RecordingException">The file is no recording.</exception>
    public static async Task<int> RunAsync(RunOptions options, ReplayOptions replayed, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        using RecordingReader reader = RecordingReader.Open(replayed.Path);
        WallClock.Fix(new BootClock(reader.Header.BootToWallNs));
        StoryPrinter? story = replayed.Follow ? new StoryPrinter(output, replayed.Colored) : null;
        TraceStory? trace = replayed.Trace ? new TraceStory(output, replayed.Colored) : null;
        IFleetSink? told = (story, trace) switch
        {
            (null, null) => null,
            ({ } one, null) => one,
            (null, { } other) => other.Sink,
            ({ } one, { } other) => new CompositeSink(one, other.Sink),
        };
        if (options.Listen is null && !OtlpSettings.FromEnvironment(Environment.GetEnvironmentVariable).Any)
        {
            var replay = new Replay(reader, told);
            replay.Run(trace is null ? null : trace.Draw);
            trace?.Finish(replay.EndNs);
            Print(replay, reader, replayed, output, error);
            return ScanCommand.CodeOf(replay.Servers);
        }
        return await ServeAsync(options, replayed, reader, told, trace, output, error, cancellation);
    }

    private static async Task<int> ServeAsync(
        RunOptions options, ReplayOptions replayed, RecordingReader reader, IFleetSink? told, TraceStory? trace, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, End);
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, End);
        void End(PosixSignalContext signal)
        {
            signal.Cancel = true;
            ending.Cancel();
        }
        await using WebApplication app = AgentHost.Build(options, story: null, static _ => { }, new StatusOrigin(Started: null, [], Path.GetFileName(replayed.Path)));
        AgentState state = app.Services.GetRequiredService<AgentState>();
        state.SetNotReady("the recording is being replayed");
        try
        {
            await app.StartAsync(ending.Token);
        }
        catch (Exception e) when (e is SocketException or IOException { InnerException: AddressInUseException })
        {
            throw new IOException($"{options.Listen} cannot be listened on: {(e.InnerException ?? e).Message}; choose another address with --listen", e);
        }
        catch (OperationCanceledException)
        {
            return ExitCode.CouldNotTell;
        }
        TelemetrySink telemetry = app.Services.GetRequiredService<TelemetrySink>();
        IFleetSink heard = app.Services.GetRequiredService<IFleetSink>();
        TelemetryCounters counters = app.Services.GetRequiredService<TelemetryCounters>();
        var replay = new Replay(reader, told is null ? heard : new CompositeSink(told, heard));
        await Task.Run(
            () => replay.Run(() =>
            {
                trace?.Draw();
                Drain(telemetry, counters, MaxWaiting, ending.Token);
            }),
            CancellationToken.None);
        trace?.Finish(replay.EndNs);
        telemetry.Complete(replay.EndNs);
        state.Publish(replay.State with { Replayed = replay.Servers });
        state.SetNotReady(null);
        state.Turned();
        Drain(telemetry, counters, 0, ending.Token);
        Print(replay, reader, replayed, output, error);
        if (options.Listen is not null)
        {
            foreach (string address in app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()?.Addresses ?? [])
            {
                await error.WriteLineAsync($"kamotel: what the recording tells is at {address}/, its end for Prometheus at {address}/metrics; Ctrl-C ends it");
            }
            while (!ending.IsCancellationRequested)
            {
                state.Turned();
                await Task.Delay(1000, ending.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
        await app.StopAsync(CancellationToken.None);
        long dropped = counters.AllDropped;
        if (dropped > 0)
        {
            await error.WriteLineAsync($"kamotel: {dropped} items of telemetry did not reach the OTLP endpoint");
        }
        return ScanCommand.CodeOf(replay.Servers);
    }

    /// <summary>Waits until no more than <paramref name="most"/> items wait to be sent; with 0, until all were.</summary>
    private static void Drain(TelemetrySink telemetry, TelemetryCounters counters, int most, CancellationToken ending)
    {
        long Left() => telemetry.Items.Count + (most > 0 ? 0 : counters.InFlight(Signal.Logs) + counters.InFlight(Signal.Traces));
        long least = long.MaxValue;
        long since = Environment.TickCount64;
        while (Left() is var left && left > most && !ending.IsCancellationRequested)
        {
            if (left < least)
            {
                (least, since) = (left, Environment.TickCount64);
            }
            else if (Environment.TickCount64 - since > PatienceMs)
            {
                return;
            }
            Thread.Sleep(5);
        }
    }

    private static void Print(Replay replay, RecordingReader reader, ReplayOptions replayed, TextWriter output, TextWriter error)
    {
        foreach (string remark in Remarks(replay, reader))
        {
            error.WriteLine($"kamotel: {replayed.Path}: {remark}");
        }
        if (replay.Servers.Count == 0)
        {
            error.WriteLine($"kamotel: {replayed.Path}: no server ran while this was recorded");
        }
        try
        {
            if (replayed.Json)
            {
                output.WriteLine(ScanReport.Of(replay.Servers).ToJson());
            }
            else if (replay.Servers.Count > 0)
            {
                new ScanTable(output, replayed.Colored).Print(replay.Servers);
            }
            output.Flush();
        }
        catch (IOException e)
        {
            error.WriteLine($"kamotel: error: the result cannot be written: {e.Message}");
        }
    }

    /// <summary>What the recording does not have.</summary>
    internal static IEnumerable<string> Remarks(Replay replay, RecordingReader reader)
    {
        if (reader.Problem is { } problem)
        {
            yield return $"the recording is cut or damaged: {problem}; {replay.Inputs} inputs were replayed, and what came after is not known";
        }
        if (reader.End is { } end && (end.Why == RecordingEnd.Overflow || reader.Lost > 0))
        {
            yield return $"the recording ends early: {reader.Lost} inputs came faster than they could be written; {replay.Inputs} inputs were replayed";
        }
        if (reader.End is { Inputs: var written } && written != replay.Inputs)
        {
            yield return $"its last line counts {written} inputs, and {replay.Inputs} were there";
        }
    }
}
