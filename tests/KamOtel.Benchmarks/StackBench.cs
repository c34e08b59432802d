using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.Benchmarks;

/// <summary>What finding out who made a call costs: the server, for the copy of its stack; the agent, for unwinding it.</summary>
internal static class StackBench
{
    private const int Rounds = 5;

    /// <summary>Microseconds a call by the depth of its stack, and a stack to unwind.</summary>
    public static JsonObject Run(Build build)
    {
        string name = $"ks{Environment.ProcessId}";
        string program = build.Compile("sets.c", name);
        var unwinds = new List<double>();
        var state = new AgentState();
        using var watcher = new Watcher(
            new RunOptions { Watch = [name], ConfirmSeconds = 0 }, state, SilentSink.Instance, static _ => { }, static _ => { }, unwinds.Add, NullLogger.Instance);
        watcher.Start();
        var result = new JsonObject();
        Console.WriteLine("\nCRYPTO_THREAD_set_local before the first fork, µs a call\n  bytes of stack   probe alone   with the copy");
        foreach (int depth in new[] { 1_000, 10_000, 60_000 })
        {
            var copied = new List<double>();
            var bare = new List<double>();
            for (int round = 0; round < Rounds; round++)
            {
                using Process server = Build.Start(program, Build.Libcrypto, depth.ToString(CultureInfo.InvariantCulture));
                while (!server.HasExited)
                {
                    watcher.Turn();
                }
                double[] figures = [.. server.StandardOutput.ReadToEnd().Split(' ').Select(static f => double.Parse(f, CultureInfo.InvariantCulture) / 1e3)];
                copied.Add(figures[0]);
                bare.Add(figures[1]);
            }
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {depth,14} {Build.Median(bare),13:0.0} {Build.Median(copied),15:0.0}"));
            result[depth.ToString(CultureInfo.InvariantCulture)] = new JsonObject
            {
                ["probeUs"] = Math.Round(Build.Median(bare), 2),
                ["copyUs"] = Math.Round(Build.Median(copied), 2),
            };
        }
        var clock = Stopwatch.StartNew();
        long stacks = 0;
        while (stacks < 100 && clock.Elapsed.TotalSeconds < 30)
        {
            watcher.Turn();
            stacks = state.Current.Fleet.Targets.Sum(static t => t.ChainsAttributed + t.ChainsUnknown);
        }
        double first = unwinds.Count > 0 ? unwinds[0] * 1e6 : 0;
        double warm = unwinds.Count > 0 ? Build.Median(unwinds) * 1e6 : 0;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  unwound off the loop, µs a stack: {warm:0} (the very first, with the start of its process: {first:0})"));
        result["unwindUs"] = Math.Round(warm, 1);
        result["firstUnwindUs"] = Math.Round(first, 1);
        return result;
    }
}
