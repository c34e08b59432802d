using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json.Nodes;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Benchmarks;

/// <summary>What the copy of its stack costs a server at a call. Nobody reads the ring meanwhile, so nobody is woken.</summary>
internal static class StackBench
{
    private const int Rounds = 7;
    private const int RingBytes = 64 << 20;

    /// <summary>Microseconds a call by the depth of its stack, with and without the copy.</summary>
    public static JsonObject Run(Build build)
    {
        string name = $"ks{Environment.ProcessId}";
        string program = build.Compile("sets.c", name);
        string path = Build.FindLibrary();
        var result = new JsonObject();
        Console.WriteLine("\nCRYPTO_THREAD_set_local before the first fork, µs a call\n  bytes of stack   probe alone   with the copy");
        foreach (int depth in new[] { 1_000, 10_000, 60_000 })
        {
            var copied = new List<double>();
            var bare = new List<double>();
            for (int round = 0; round < Rounds; round++)
            {
                using KernelSide kernel = KernelSide.Load(RingBytes, NullLogger.Instance);
                kernel.WatchName(name);
                kernel.AttachTracepoints();
                using SafeFileHandle file = File.OpenHandle(path);
                using SafeHandle link = kernel.Attach("CRYPTO_THREAD_set_local", path, ElfFile.Open(file).Value.FindFunctions(["CRYPTO_THREAD_set_local"]).Value.Found[0].FileOffset);
                using Process server = Build.Start(program, Build.Libcrypto, depth.ToString(CultureInfo.InvariantCulture));
                double[] figures = [.. server.StandardOutput.ReadToEnd().Split(' ').Select(static f => double.Parse(f, CultureInfo.InvariantCulture) / 1e3)];
                server.WaitForExit();
                var stacks = new CountedStacks();
                kernel.Consume(stacks);
                if (stacks.Count < 100)
                {
                    throw new InvalidOperationException($"{stacks.Count} stacks were copied");
                }
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

    /// <summary>Counts the stacks.</summary>
    private sealed class CountedStacks : IObservationHandler
    {
        public int Count { get; private set; }

        public void OnObservation(in Observation observation)
        {
        }

        public void OnStack(in Observation call, in CopiedStack stack) => Count++;

        public void OnFatalSignal(in Observation observation, ReadOnlySpan<byte> blocks, uint blocksRead)
        {
        }

        public void OnComplaint(in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack)
        {
        }

        public void OnMapping(in ExecutableMapping mapping)
        {
        }

        public void OnMappingsLost(ulong count)
        {
        }
    }
}
