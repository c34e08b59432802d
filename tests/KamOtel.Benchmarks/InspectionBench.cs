using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.Benchmarks;

/// <summary>How long one pass over a server takes, and how that grows with its processes.</summary>
internal static class InspectionBench
{
    private const int Passes = 15;

    /// <summary>Milliseconds a pass, by the number of processes.</summary>
    public static JsonObject Run(Build build)
    {
        Console.WriteLine("inspection of one server\n  processes       ms   µs a process   growth");
        string name = $"kb{Environment.ProcessId}";
        string program = build.Compile("server.c", name);
        var result = new JsonObject();
        double before = 0;
        foreach (int processes in new[] { 10, 100, 1000 })
        {
            double milliseconds = Measure(program, name, processes);
            string growth = before == 0 ? "" : $"{milliseconds / before,7:0.0} x";
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {processes,9} {milliseconds,8:0.00} {milliseconds * 1000 / processes,14:0.0} {growth}"));
            result[processes.ToString(CultureInfo.InvariantCulture)] = Math.Round(milliseconds, 3);
            before = milliseconds;
        }
        return result;
    }

    private static double Measure(string program, string name, int processes)
    {
        using Process server = Build.Start(program, Build.Libcrypto, "shared", (processes - 1).ToString(CultureInfo.InvariantCulture));
        try
        {
            _ = server.StandardOutput.ReadLine() ?? throw new InvalidOperationException("the server did not start");
            using KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance);
            var proc = new ProcFs();
            var times = new List<double>();
            var inspector = new Inspector(kernel, proc, times.Add, NullLogger.Instance);
            // An instance that changed wants to be inspected at once, each time.
            var fleet = new Fleet(new FleetOptions { SettleNs = 1, InspectEveryNs = 1 }, SilentSink.Instance);
            new RunningServers(kernel, proc, [name], NullLogger.Instance).Find((observation, found) => fleet.Observe(in observation, found?.Target, found?.Container));
            while (times.Count < Passes)
            {
                _ = inspector.Inspect(fleet, fleet.NextInspectionNs ?? BootClock.NowNs);
            }
            InstanceSnapshot seen = fleet.Snapshot(BootClock.NowNs).Instances.Single();
            return seen.Processes.Length == processes && seen.Verdict == Verdict.Hazard
                ? Build.Median(times.Skip(2)) * 1e3
                : throw new InvalidOperationException($"{seen.Processes.Length} processes and {seen.Verdict}: {seen.Reason}");
        }
        finally
        {
            server.StandardInput.Close();
            server.WaitForExit();
        }
    }
}
