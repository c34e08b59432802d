using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.Benchmarks;

/// <summary>What the copy of its stack costs a server at a call.</summary>
internal static class StackBench
{
    private const int Rounds = 5;

    /// <summary>Microseconds a call by the depth of its stack, with and without the copy.</summary>
    public static JsonObject Run(Build build)
    {
        string name = $"ks{Environment.ProcessId}";
        string program = build.Compile("sets.c", name);
        using var watcher = new Watcher(
            new RunOptions { Watch = [name], ConfirmSeconds = 0 }, new AgentState(), SilentSink.Instance, static _ => { }, static _ => { }, static _ => { }, NullLogger.Instance);
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
        return result;
    }
}
