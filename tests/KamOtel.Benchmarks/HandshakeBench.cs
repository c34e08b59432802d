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

/// <summary>TLS handshakes a second with a real Kamailio: alone, with the agent, in its confirm window, under bpftrace.</summary>
internal static class HandshakeBench
{
    private const int Rounds = 9;
    private static readonly TimeSpan Turn = TimeSpan.FromSeconds(1);

    /// <summary>Handshakes a second of each, and as a part of what it is without.</summary>
    public static JsonObject Run(Build build)
    {
        _ = build;
        string agent = Path.Combine(Build.Repository, "out", "kamotel");
        if (!File.Exists(agent))
        {
            throw new InvalidOperationException("out/kamotel is missing: `make build`");
        }
        string path = Build.FindLibrary();
        using var server = new TlsServer();
        _ = server.Handshakes(Turn);
        var windows = new List<double>();
        var figures = new (string Name, Func<double> Measure)[]
        {
            ("with", () => With(Build.StartAndWait(agent, ["run", "--listen", "127.0.0.1:0", "--confirm", "0"], static l => l.Contains("listening on", StringComparison.Ordinal), onError: true), server)),
            ("confirm", () => Confirmed(server, windows)),
            ("confirmUnlimited", () => Unlimited(server, path)),
            ("bpftrace", () => With(Build.StartAndWait("bpftrace", ["-e", Traced(path)], static l => l.Contains("Attaching", StringComparison.Ordinal), onError: false), server)),
        }.Select(static f => (f.Name, f.Measure, Figures: new List<double>(), Ratios: new List<double>())).ToArray();
        // The machine's pace drifts: each is held beside what it was without right before and after.
        var without = new List<double> { server.Handshakes(Turn) };
        for (int round = 0; round < Rounds; round++)
        {
            foreach ((_, Func<double> measure, List<double> into, List<double> ratios) in figures)
            {
                into.Add(measure());
                without.Add(server.Handshakes(Turn));
                ratios.Add(into[^1] / ((without[^1] + without[^2]) / 2));
            }
        }
        double alone = Build.Median(without);
        var result = new JsonObject { ["without"] = Math.Round(alone, 1) };
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"\nTLS handshakes a second of a real Kamailio, one after the other\n  {"without",-16} {alone,8:0}           (of {without.Min():0} to {without.Max():0})"));
        foreach ((string name, _, List<double> all, List<double> ratios) in figures)
        {
            // What it would be at the pace that the machine had most of the time.
            double ratio = Build.Median(ratios);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {name,-16} {alone * ratio,8:0}   {ratio:0.000}   (of {ratios.Min():0.000} to {ratios.Max():0.000}; {all.Min():0} to {all.Max():0})"));
            result[name] = Math.Round(alone * ratio, 1);
            result[$"{name}Ratio"] = Math.Round(ratio, 4);
            result[$"{name}Least"] = Math.Round(ratios.Min(), 4);
            result[$"{name}Most"] = Math.Round(ratios.Max(), 4);
        }
        result["confirmWindowMs"] = Math.Round(Build.Median(windows), 1);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  the window was open for {Build.Median(windows):0} ms: it ends with its limit of calls"));
        return result;
    }

    /// <summary>What KamOtel sees, as bpftrace would be asked for it.</summary>
    public static string Traced(string library) =>
        $"uprobe:{library}:CRYPTO_THREAD_set_local {{ printf(\"%s %d %d %llu %llx\\n\", comm, pid, tid, *(uint32 *)arg0, arg1); }}";

    private static double With(Process other, TlsServer server)
    {
        try
        {
            return server.Handshakes(Turn);
        }
        finally
        {
            Build.End(other);
        }
    }

    /// <summary>The agent's own window with its own limits, over all of the time that it may take.</summary>
    private static double Confirmed(TlsServer server, List<double> windows)
    {
        double seconds = new RunOptions().ConfirmSeconds;
        using KernelSide kernel = KernelSide.Load(new RunOptions().RingBytes, NullLogger.Instance);
        kernel.WatchName("kamailio");
        kernel.AttachTracepoints();
        var proc = new ProcFs();
        var fleet = new Fleet(new FleetOptions { SettleNs = 1 }, SilentSink.Instance);
        new RunningServers(kernel, proc, ["kamailio"], NullLogger.Instance).Find((observation, found) => fleet.Observe(in observation, found?.Target, found?.Container));
        _ = new Inspector(kernel, proc, static _ => { }, NullLogger.Instance).Inspect(fleet, fleet.NextInspectionNs ?? BootClock.NowNs);
        InstanceSnapshot instance = fleet.Snapshot(BootClock.NowNs).Instances.Single();
        using var window = new ConfirmWindow(kernel, proc, seconds, NullLogger.Instance);
        window.Consider(instance);
        window.Turn(fleet, BootClock.NowNs);
        if (!window.IsOpen)
        {
            throw new InvalidOperationException($"no confirm window for {instance.Verdict}: {instance.Reason}");
        }
        ulong opened = BootClock.NowNs;
        var looking = new Thread(() =>
        {
            var observed = new ObservedEvents(fleet);
            while (window.IsOpen)
            {
                kernel.Poll(Watcher.ConfirmMs, observed);
                window.Turn(fleet, BootClock.NowNs);
            }
            windows.Add((BootClock.NowNs - opened) / 1e6);
        });
        looking.Start();
        double reached = server.Handshakes(TimeSpan.FromSeconds(seconds));
        looking.Join();
        return reached;
    }

    private static double Unlimited(TlsServer server, string path)
    {
        using KernelSide kernel = KernelSide.Load(new RunOptions().RingBytes, NullLogger.Instance);
        kernel.WatchName("kamailio");
        kernel.AttachTracepoints();
        using SafeFileHandle file = File.OpenHandle(path);
        ElfFile elf = ElfFile.Open(file).Value;
        ElfFunction[] functions = [.. elf.FindFunctions(["CRYPTO_THREAD_set_local", KernelSide.ConfirmedFunction]).Value.Found];
        ElfFunction set = functions.Single(static f => f.Name == "CRYPTO_THREAD_set_local");
        ElfFunction get = functions.Single(static f => f.Name == KernelSide.ConfirmedFunction);
        using IDisposable sets = ProbeSites.Attach(set, ProbeSites.Of(elf, set), (offset, keyLoaded) => kernel.Attach(set.Name, path, offset, keyLoaded), out _);
        using IDisposable gets = ProbeSites.Attach(get, ProbeSites.Of(elf, get), (offset, keyLoaded) => kernel.AttachConfirm(path, offset, keyLoaded), out _);
        return server.Handshakes(Turn);
    }
}
