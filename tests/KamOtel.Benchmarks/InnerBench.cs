using System.Text.Json.Nodes;
using BenchmarkDotNet.Columns;
using BenchmarkDotNet.Configs;
using BenchmarkDotNet.Diagnosers;
using BenchmarkDotNet.Jobs;
using BenchmarkDotNet.Loggers;
using BenchmarkDotNet.Reports;
using BenchmarkDotNet.Running;
using BenchmarkDotNet.Toolchains.InProcess.Emit;

namespace KamOtel.Benchmarks;

/// <summary>The inner parts, each alone, by BenchmarkDotNet: time and bytes allocated.</summary>
internal static class InnerBench
{
    /// <summary>Nanoseconds and bytes of each.</summary>
    public static JsonObject Run(Build build)
    {
        string folder = build.PathOf("inner");
        IConfig config = ManualConfig.CreateEmpty()
            .AddJob(Job.ShortRun.WithIterationCount(7).WithToolchain(InProcessEmitToolchain.Instance))
            .AddDiagnoser(MemoryDiagnoser.Default)
            .AddColumnProvider(DefaultColumnProviders.Instance)
            .WithArtifactsPath(folder)
            .WithOptions(ConfigOptions.DisableLogFile);
        Summary summary = BenchmarkRunner.Run<InnerParts>(config);
        Console.WriteLine("\nthe inner parts                ns     bytes allocated");
        var result = new JsonObject();
        foreach (BenchmarkReport part in summary.Reports)
        {
            string name = part.BenchmarkCase.Descriptor.WorkloadMethod.Name;
            double median = part.ResultStatistics?.Median ?? throw new InvalidOperationException($"{name} was not measured: {string.Join("; ", summary.ValidationErrors.Select(static e => e.Message))}");
            long bytes = part.GcStats.GetBytesAllocatedPerOperation(part.BenchmarkCase) ?? throw new InvalidOperationException($"{name}: what it allocates was not measured");
            Console.WriteLine(string.Create(System.Globalization.CultureInfo.InvariantCulture, $"  {name,-20} {median,12:0.0} {bytes,12}"));
            result[name] = new JsonObject { ["ns"] = Math.Round(median, 1), ["bytes"] = bytes };
        }
        return result;
    }
}
