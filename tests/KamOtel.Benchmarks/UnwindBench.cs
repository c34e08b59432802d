using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Fuzz;
using KamOtel.Linux;

namespace KamOtel.Benchmarks;

/// <summary>What a stack costs: with a new process, with files that are new to it, and afterwards.</summary>
internal static class UnwindBench
{
    private const int Rounds = 25;

    /// <summary>Microseconds each, and the unwinder's memory.</summary>
    public static JsonObject Run()
    {
        string folder = Directory.CreateTempSubdirectory("kamotel-bench-").FullName;
        try
        {
            StackSeed seed = StackSeed.Collect(Path.Combine(Build.Repository, "tests", "targets"), folder)[0];
            var stack = new StackCopy([.. seed.Registers], [new(seed.Registers[7], seed.Stack, default)]);
            var start = new List<double>();
            var newFiles = new List<double>();
            var newSpace = new List<double>();
            var warm = new List<double>();
            long resident = 0;
            for (int i = 0; i < Rounds; i++)
            {
                using var unwinder = new Unwinder();
                var empty = new StackCopy([.. new ulong[StackCopy.RegisterCount]], []);
                var none = AddressSpace.Create([]);
                start.Add(Time(() => unwinder.Unwind(none, empty)));
                newFiles.Add(Time(() => unwinder.Unwind(seed.Code, stack)));
                var again = AddressSpace.Create(seed.Code.Mappings);
                newSpace.Add(Time(() => unwinder.Unwind(again, stack)));
                warm.Add(Time(
                    () =>
                    {
                        for (int j = 0; j < 200; j++)
                        {
                            _ = unwinder.Unwind(seed.Code, stack);
                        }
                    }) / 200);
                resident = File.ReadLines($"/proc/{unwinder.ProcessNumber}/status").Where(static line => line.StartsWith("VmRSS:", StringComparison.Ordinal))
                    .Select(static line => long.Parse(line.Split(' ')[^2], CultureInfo.InvariantCulture)).Single();
            }

            var result = new JsonObject
            {
                ["frames"] = seed.Frames.Length,
                ["start_us"] = Math.Round(Build.Median(start), 1),
                ["new_files_us"] = Math.Round(Build.Median(newFiles), 1),
                ["new_space_us"] = Math.Round(Build.Median(newSpace), 1),
                ["warm_us"] = Math.Round(Build.Median(warm), 1),
                ["resident_kib"] = resident,
            };
            Console.WriteLine($"a stack of {seed.Frames.Length} frames\n  {result.ToJsonString()}");
            return result;
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static double Time(Action action)
    {
        long start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start).TotalMicroseconds;
    }
}
