using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>What a drill is asked to do.</summary>
/// <param name="Agent">The agent that shall see it.</param>
/// <param name="For">How long the hazard is held; null: until it is seen, and <see cref="DrillCommand.Patience"/> at most.</param>
/// <param name="Name">What the server's program is called.</param>
/// <param name="Json">Print a document and nothing else.</param>
internal sealed record DrillOptions(Uri Agent, TimeSpan? For, string Name, bool Json);

/// <summary>How a drill went.</summary>
/// <param name="Seen">The agent told the hazard.</param>
/// <param name="Seconds">From the server's start to then.</param>
/// <param name="Target">What the agent calls it.</param>
/// <param name="Verdict">The last verdict; null when the agent never knew the server.</param>
/// <param name="Reason">Why it is, or why it was not seen.</param>
/// <param name="SharedSlots">Slots that its processes share, as the agent says.</param>
/// <param name="Holders">Processes that hold one.</param>
/// <param name="CallSeen">The call that set the slot was seen, too.</param>
/// <param name="EndSeen">The agent told that the server ended.</param>
internal sealed record DrillReport(bool Seen, double? Seconds, string? Target, string? Verdict, string Reason, int SharedSlots, int Holders, bool CallSeen, bool EndSeen);

/// <summary><c>kamotel drill</c>: a hazard that harms nobody, to see that the agent finds it, and who is told.</summary>
internal static class DrillCommand
{
    /// <summary>What stands below its options in the help.</summary>
    public const string Epilog = """
        Starts a tiny server of its own whose processes share a slot, waits until the agent tells its hazard, and ends it. No server of
        yours is touched, and it needs no privilege. Metrics, the status page and alerts have it as any other server, under a target with
        kamotel-drill in its name (in a container: under the container's). To see an alert through to its end, hold it longer than
        Prometheus takes: --for 5m; the alert ends 15 minutes after the last time.

        Exit status: 0 the hazard was seen, 1 it was not, 2 the agent cannot be asked or the server cannot be started, 64 usage.

        Examples:
          kamotel drill
          kamotel drill --for 5m
          kamotel drill --agent https://user:password@sip1.example.com:9464
        """;

    /// <summary>How long a hazard may stay unseen.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private const int MaxName = 15;

    private static readonly TimeSpan AskEvery = TimeSpan.FromMilliseconds(200);

    private static readonly TimeSpan EndWithin = TimeSpan.FromSeconds(5);

    /// <summary>Checks an address of an agent.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static Uri AddressOf(string text) =>
        Uri.TryCreate(text, UriKind.Absolute, out Uri? address) && address.Scheme is "http" or "https"
            ? address
            : throw new UsageException($"--agent: '{text}' is no address of an agent, such as http://127.0.0.1:9464");

    /// <summary>Checks a program's name.</summary>
    /// <exception cref="UsageException">No file can be called so.</exception>
    public static string NameOf(string text) =>
        text.Length > 0 && Encoding.UTF8.GetByteCount(text) <= MaxName && text is not ("." or "..") && !text.AsSpan().ContainsAny('/', '\0', '\n')
            ? text
            : throw new UsageException($"--name: '{text}' is no name of a program: at most {MaxName} bytes, which is what the kernel keeps of it, and no '/'");

    /// <summary>Drills, prints, and returns the exit code.</summary>
    public static async Task<int> RunAsync(DrillOptions options, TextWriter output, TextWriter error, CancellationToken cancellation)
    {
        using var early = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        using var terminated = PosixSignalRegistration.Create(PosixSignal.SIGTERM, End);
        using var interrupted = PosixSignalRegistration.Create(PosixSignal.SIGINT, End);
        void End(PosixSignalContext signal)
        {
            signal.Cancel = true;
            early.Cancel();
        }
        try
        {
            using var agent = new DrillAgent(options.Agent);
            var described = await agent.DescribeAsync(early.Token);
            if ((string?)described["recording"] is { } recording)
            {
                throw new IOException($"{options.Agent.Scheme}://{options.Agent.Authority} shows a recording ({recording}), and watches nobody");
            }
            string[] watched = [.. described["watch"]!.AsArray().Select(static name => (string)name!)];
            if (!watched.Any(name => TaskName.From(name).Equals(TaskName.From(options.Name))))
            {
                return Print(new DrillReport(false, null, null, null, $"the agent watches {string.Join(" and ", watched)}, and not {options.Name}: give it --watch {options.Name}, or the drill --name", 0, 0, false, false));
            }
            DrillReport report = await DrillAsync(agent, options, (string?)described["notReady"], early.Token);
            return Print(report);
        }
        catch (IOException e)
        {
            await error.WriteLineAsync($"kamotel: error: {e.Message}");
            return ExitCode.CouldNotTell;
        }
        catch (OperationCanceledException) when (early.IsCancellationRequested)
        {
            await error.WriteLineAsync("kamotel: the drill was ended early");
            return ExitCode.CouldNotTell;
        }

        int Print(DrillReport report)
        {
            output.WriteLine(options.Json ? JsonSerializer.Serialize(report, ReportJson.Readable.DrillReport) : report.Seen ? Seen(report) : $"not seen: {report.Reason}");
            output.Flush();
            return report.Seen ? ExitCode.Ok : ExitCode.Hazard;
        }

        string Seen(DrillReport report) => string.Create(CultureInfo.InvariantCulture, $"""
            seen after {report.Seconds:0.0} s: {report.Verdict}, {report.Reason}
            the call that set the slot: {(report.CallSeen ? "seen" : "not seen; its verdict does not depend on it")}
            the server's end: {(report.EndSeen ? "seen" : "not seen yet")}
            """);

        async Task<DrillReport> DrillAsync(DrillAgent agent, DrillOptions drill, string? notReady, CancellationToken ending)
        {
            TimeSpan held = drill.For ?? Patience;
            long begin = Stopwatch.GetTimestamp();
            DrillSighting? sighting = null;
            double? seconds = null;
            string value;
            using (DrillServer server = DrillServer.Start(drill.Name, held + EndWithin))
            {
                value = server.Value;
                if (!drill.Json)
                {
                    await output.WriteLineAsync($"a drill: {server.Program}, process {server.Pid}, and its workers share a slot; asking {drill.Agent.Scheme}://{drill.Agent.Authority}");
                    await output.FlushAsync(ending);
                }
                while (Stopwatch.GetElapsedTime(begin) < held && (seconds is null || drill.For is not null))
                {
                    sighting = (sighting is null ? await agent.FindAsync(server.Pid, value, ending) : await agent.FindAsync(sighting.Instance, value, ending)) ?? sighting;
                    seconds ??= sighting?.Verdict == Words.Of(Verdict.Hazard) ? Stopwatch.GetElapsedTime(begin).TotalSeconds : null;
                    await Task.Delay(AskEvery, ending);
                }
            }
            if (sighting is null || seconds is null)
            {
                string why = sighting is not null ? $"the agent says {sighting.Verdict}: {sighting.Reason}"
                    : notReady is not null ? $"the agent is not ready: {notReady}"
                    : "the agent knows no such server: is it on this machine, and in the host's PID namespace (hostPID)?";
                return new DrillReport(false, null, sighting?.Target, sighting?.Verdict, why, sighting?.SharedSlots ?? 0, sighting?.Holders ?? 0, sighting?.CallSeen ?? false, false);
            }
            bool ended = false;
            for (long stopped = Stopwatch.GetTimestamp(); !ended && Stopwatch.GetElapsedTime(stopped) < EndWithin;)
            {
                await Task.Delay(AskEvery, ending);
                ended = await agent.FindAsync(sighting.Instance, value, ending) is { Ended: true };
            }
            return new DrillReport(true, Math.Round(seconds.Value, 1), sighting.Target, sighting.Verdict, sighting.Reason, sighting.SharedSlots, sighting.Holders, sighting.CallSeen, ended);
        }
    }
}
