using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary><c>kamotel scan</c>: what is true now of the servers on this host. Needs neither the agent nor a probe.</summary>
internal static partial class ScanCommand
{
    /// <summary>Reading a server whose processes come and go is tried for so much longer than they need to settle, in nanoseconds.</summary>
    private const ulong PatienceNs = 1_000_000_000;

    /// <summary>Scans, prints, and returns the exit code.</summary>
    public static int Run(RunOptions options, bool json, bool colored, TextWriter output, TextWriter error)
    {
        IReadOnlyList<InstanceSnapshot> instances;
        using (ILoggerFactory loggers = LoggerFactory.Create(logging => logging.SetMinimumLevel(options.LogLevel).AddProvider(new StderrLoggerProvider(error, options.LogJson))))
        {
            try
            {
                ILogger logger = loggers.CreateLogger("kamotel");
                foreach (string warning in Settings.Warnings(options, Environment.GetEnvironmentVariables().Keys.Cast<string>()))
                {
                    Doubtful(logger, warning);
                }
                instances = Look(options, logger);
            }
            catch (Exception e) when (e is BpfException or IOException)
            {
                error.WriteLine($"kamotel: error: {e.Message}");
                return ExitCode.CouldNotTell;
            }
        }
        if (instances.Count == 0)
        {
            error.WriteLine($"kamotel: no server is running here: no process is called {string.Join(" or ", options.Watch)} (--watch NAME looks for another)");
        }
        try
        {
            if (json)
            {
                output.WriteLine(ScanReport.Of(instances).ToJson());
            }
            else if (instances.Count > 0)
            {
                new ScanTable(output, colored).Print(instances);
            }
            output.Flush();
        }
        catch (IOException e)
        {
            // The exit code still tells.
            error.WriteLine($"kamotel: error: the result cannot be written: {e.Message}");
        }
        return CodeOf(instances);
    }

    /// <summary>The worst decides: a hazard before blindness, blindness before safety. Without a server there is nothing to tell.</summary>
    internal static int CodeOf(IReadOnlyList<InstanceSnapshot> instances) =>
        instances.Any(static i => i.Verdict >= Verdict.Hazard) ? ExitCode.Hazard
        : instances.Count == 0 || instances.Any(static i => i.Verdict == Verdict.Unknown) ? ExitCode.CouldNotTell
        : ExitCode.Ok;

    private static IReadOnlyList<InstanceSnapshot> Look(RunOptions options, ILogger logger)
    {
        using KernelSide kernel = KernelSide.LoadForInspection(logger);
        FleetOptions settings = options.ForFleet();
        var fleet = new Fleet(settings, SilentSink.Instance);
        var proc = new ProcFs();
        var running = new RunningServers(kernel, proc, options.Watch, logger);
        var inspector = new Inspector(kernel, proc, static _ => { }, logger);
        ulong end = BootClock.NowNs + settings.SettleNs + PatienceNs;
        while (true)
        {
            running.Find((observation, name) => fleet.Observe(in observation, name?.Target, name?.Container));
            _ = inspector.Inspect(fleet, BootClock.NowNs);
            ulong now = BootClock.NowNs;
            IReadOnlyList<InstanceSnapshot> instances = fleet.Snapshot(now).Instances;
            // Who is young, or changed while it was read, is read again.
            if (fleet.NextInspectionNs is not { } next || next > end || instances.All(static i => i.IsConcluded && i.Processes.All(static p => p.Settled && p.Inspection != InspectionStatus.Gone)))
            {
                return instances;
            }
            if (next > now)
            {
                Thread.Sleep((int)((next - now) / 1_000_000) + 1);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void Doubtful(ILogger logger, string message);
}
