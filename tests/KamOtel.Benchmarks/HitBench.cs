using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.Benchmarks;

/// <summary>
/// What a hit costs the server, by who looks and where: the loop under the probe less the loop without. The library is a copy of
/// its own, so that nobody else's probe is on it.
/// </summary>
internal static class HitBench
{
    private const string Function = "CRYPTO_THREAD_set_local";
    private const int Rounds = 7;
    private const int RingBytes = 1 << 22;

    /// <summary>Enough for a steady figure of each: some take a hundred times as long as others.</summary>
    private const int Many = 100_000;
    private const int Some = 20_000;
    private const int Few = 20;

    private const int Slices = 20;

    /// <summary>No trap takes less, and no call without one takes so long.</summary>
    private const double LeastNs = 200;

    /// <summary>Nanoseconds a hit: the median over the rounds.</summary>
    public static JsonObject Run(Build build)
    {
        string library = build.Copy(Build.FindLibrary(), "libcrypto.hit.so");
        string program = build.Compile("loop.c", $"kh{Environment.ProcessId}");
        (ulong entry, ProbeSite chosen) = Places(library);
        ulong site = entry + chosen.Offset;
        using Process server = Build.Start(program, library, $"{Few}", "set");
        _ = server.StandardOutput.ReadLine();
        using KernelSide kernel = KernelSide.Load(RingBytes, NullLogger.Instance);
        kernel.AttachTracepoints();
        ProcessId watched = new ProcFs().ReadStat(server.Id).Value.Id;
        using BpfObject bare = BpfObject.Open(build.CompileBpf("trap.bpf.c"), "trap", NullLogger.Instance);
        if (KernelSide.HasUprobeMulti)
        {
            bare.MakeUprobesMulti();
        }
        bare.Load();

        Who[] all =
        [
            new("trapNs", "the bare trap, at that instruction", Many, () => bare.Program("trap").AttachUprobe(library, site)),
            new("siteNs", "KamOtel there", Many, () => Ours(site, chosen.KeyLoaded, watch: true)),
            new("strangerNs", "KamOtel there, of a process that it does not watch", Many, () => Ours(site, chosen.KeyLoaded, watch: false)),
            new("entryTrapNs", "the bare trap at the entry", Some, () => bare.Program("trap").AttachUprobe(library, entry)),
            new("entryNs", "KamOtel at the entry", Some, () => Ours(entry, keyLoaded: false, watch: true)),
            new("bpftraceNs", "bpftrace, pid, tid, key and value of each", Some, () => Bpftrace(Function, Facts)),
            new("bpftraceCountNs", "bpftrace, no more than the number of hits", Some, () => Bpftrace(Function, "@ = count();")),
            new("gdbNs", "GDB, a breakpoint that continues", Slices * Few, () => Gdb(server.Id)),
        ];
        var free = new List<double>();
        for (int round = 0; round < Rounds; round++)
        {
            double without = Measure(server, Many);
            free.Add(without);
            foreach (Who who in all)
            {
                using IDisposable probe = who.Attach();
                WaitForHits(server);
                who.Figures.Add(Measure(server, who.Calls) - without);
                if (!IsHit(server))
                {
                    throw new InvalidOperationException($"the probe was lost: {who.Text}");
                }
            }
        }
        server.StandardInput.Close();
        server.WaitForExit();

        double trap = Build.Median(all[0].Figures);
        var result = new JsonObject();
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"\na hit of {Function}, ns; without a probe a call takes {Build.Median(free):0.0}\n  the site is {chosen.Kind} {chosen.Offset} bytes behind the entry"));
        foreach (Who who in all)
        {
            double median = Build.Median(who.Figures);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {who.Text,-52} {median,9:0} {median / trap,8:0.00} x   (of {who.Figures.Min():0} to {who.Figures.Max():0})"));
            result[who.Key] = Math.Round(median, 1);
        }
        result["callNs"] = Math.Round(Build.Median(free), 1);
        result["site"] = chosen.Kind.ToString();
        result["siteOffset"] = chosen.Offset;
        return result;

        IDisposable Ours(ulong offset, bool keyLoaded, bool watch)
        {
            if (watch)
            {
                _ = kernel.WatchProcess(watched, new InstanceId(watched.Tgid, 1));
            }
            else
            {
                kernel.UnwatchProcess(watched);
            }
            IDisposable link = kernel.Attach(Function, library, offset, keyLoaded);
            return new Disposables(new RingReader(kernel), link);
        }

        IDisposable Bpftrace(string place, string action) =>
            new Tracer("bpftrace", ["-o", build.PathOf("bpftrace.txt"), "-e", $"uprobe:{library}:{place} {{ {action} }}"], Unbounded);

        IDisposable Gdb(int process) =>
            new Tracer("gdb", ["-nx", "-q", "-batch", "-p", $"{process}", "-x", GdbScript(build)], []);
    }

    /// <summary>What KamOtel tells of a call, asked of bpftrace.</summary>
    private static string Facts => "printf(\"%d %d %u %llx\\n\", pid, tid, *(uint32 *)arg0, arg1);";

    /// <summary>So large that it loses nothing: what is lost is not paid for.</summary>
    private static KeyValuePair<string, string>[] Unbounded => [new("BPFTRACE_PERF_RB_PAGES", "1024")];

    private static string GdbScript(Build build)
    {
        string script = build.PathOf("hit.gdb");
        File.WriteAllText(script, $"break {Function}\ncommands\nsilent\ncontinue\nend\ncontinue\n");
        return script;
    }

    private static (ulong Entry, ProbeSite Site) Places(string library)
    {
        using var file = File.OpenHandle(library);
        ElfFile elf = ElfFile.Open(file).Value;
        ElfFunction function = elf.FindFunctions([Function]).Value.Found[0];
        return (function.FileOffset, ProbeSites.Of(elf, function));
    }

    /// <summary>Others take their time until their probe is in place. The first hits, whose stack is copied, pass with it.</summary>
    private static void WaitForHits(Process server)
    {
        long begin = Stopwatch.GetTimestamp();
        while (!IsHit(server))
        {
            if (Stopwatch.GetElapsedTime(begin).TotalSeconds > 30)
            {
                throw new InvalidOperationException("a probe is not hit");
            }
        }
    }

    /// <summary>One slow turn may be the machine's; several in a row are a probe's.</summary>
    private static bool IsHit(Process server) => Enumerable.Range(0, Slices).All(_ => Ask(server, Few) > LeastNs);

    /// <summary>The median of the slices: those in which somebody else had the processor do not count.</summary>
    private static double Measure(Process server, int calls) => Build.Median(Enumerable.Range(0, Slices).Select(_ => Ask(server, calls / Slices)));

    private static double Ask(Process server, int calls)
    {
        server.StandardInput.WriteLine(calls);
        return double.Parse(server.StandardOutput.ReadLine()!, CultureInfo.InvariantCulture);
    }

    private sealed record Who(string Key, string Text, int Calls, Func<IDisposable> Attach)
    {
        public List<double> Figures { get; } = [];
    }

    private sealed class Disposables(params IDisposable[] all) : IDisposable
    {
        public void Dispose()
        {
            foreach (IDisposable one in all)
            {
                one.Dispose();
            }
        }
    }
}
