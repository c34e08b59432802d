using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Benchmarks;

/// <summary>From the ring into the fleet, on one core, beside a program in C that only looks at the same records.</summary>
internal static class RingBench
{
    private const int Calls = 200_000;
    private const int Rounds = 9;
    private const int RingBytes = 64 << 20;

    /// <summary>Events a second of both, and what the fleet's side allocates.</summary>
    public static JsonObject Run(Build build)
    {
        string name = $"kr{Environment.ProcessId}";
        string program = build.Compile("loop.c", name);
        string consumer = build.Compile("ring_consumer.c", "ring_consumer", "-lbpf");
        using KernelSide kernel = KernelSide.Load(RingBytes, NullLogger.Instance);
        kernel.WatchName(name);
        kernel.AttachTracepoints();
        string path = Build.FindLibrary();
        using SafeFileHandle file = File.OpenHandle(path);
        using System.Runtime.InteropServices.SafeHandle link = kernel.Attach("CRYPTO_THREAD_set_local", path, ElfFile.Open(file).Value.FindFunctions(["CRYPTO_THREAD_set_local"]).Value.Found[0].FileOffset);
        using Process server = Build.Start(program, Build.Libcrypto, $"{Calls}", "set");
        _ = server.StandardOutput.ReadLine();

        var observed = new ObservedEvents(new Fleet(new FleetOptions(), SilentSink.Instance));
        kernel.Consume(observed);
        var ours = new List<double>();
        var theirs = new List<double>();
        long bytes = 0;
        double recordBytes = 0;
        for (int round = 0; round < Rounds; round++)
        {
            Fill();
            string[] taken = RunToEnd(consumer, $"{RingBytes}").Split(' ');
            theirs.Add(double.Parse(taken[1], CultureInfo.InvariantCulture));

            Fill();
            recordBytes = (double)kernel.RingUsedBytes / Calls;
            observed.Count = 0;
            long allocated = GC.GetAllocatedBytesForCurrentThread();
            long begin = Stopwatch.GetTimestamp();
            kernel.Consume(observed);
            ours.Add(Stopwatch.GetElapsedTime(begin).TotalNanoseconds / observed.Count);
            // The first round compiles.
            bytes = round == 0 ? 0 : bytes + GC.GetAllocatedBytesForCurrentThread() - allocated;
            if (observed.Count != Calls)
            {
                throw new InvalidOperationException($"{observed.Count} of {Calls} events came");
            }
        }
        server.StandardInput.Close();
        server.WaitForExit();
        double each = Build.Median(ours);
        double bare = Build.Median(theirs);
        double allocatedEach = (double)bytes / (Calls * (Rounds - 1));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""

            ring to fleet, on one core
              events a second                {1e9 / each / 1e6,8:0.00} M   {each:0.0} ns each, {allocatedEach:0.###} bytes allocated
              looked at by a program in C    {1e9 / bare / 1e6,8:0.00} M   {bare:0.0} ns each; ours takes {each / bare:0.00} x
              a record is {recordBytes:0} bytes in the ring
            """));
        return new JsonObject
        {
            ["eventsPerSecond"] = Math.Round(1e9 / each),
            ["cEventsPerSecond"] = Math.Round(1e9 / bare),
            ["ratio"] = Math.Round(each / bare, 2),
            ["bytesPerEvent"] = Math.Round(allocatedEach, 3),
            ["recordBytes"] = Math.Round(recordBytes),
        };

        void Fill()
        {
            server.StandardInput.WriteLine("go");
            _ = server.StandardOutput.ReadLine();
        }
    }

    private static string RunToEnd(string program, string argument)
    {
        using Process process = Build.Start(program, argument);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output.Trim() : throw new InvalidOperationException($"{Path.GetFileName(program)} ended with {process.ExitCode}");
    }
}
