using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Bpf;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Benchmarks;

/// <summary>TLS handshakes a second with a real Kamailio: alone, with the agent, in a confirm window without its limit, under bpftrace.</summary>
internal static class HandshakeBench
{
    private const int Count = 1500;
    private const int Rounds = 5;

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
        _ = server.Handshakes(Count);
        var figures = new (string Name, Func<double> Measure)[]
        {
            ("without", () => server.Handshakes(Count)),
            ("with", () => With(Build.StartAndWait(agent, ["run", "--listen", "127.0.0.1:0", "--confirm", "0"], static l => l.Contains("listening on", StringComparison.Ordinal), onError: true), server)),
            ("confirm", () => Confirmed(server, path)),
            ("bpftrace", () => With(Build.StartAndWait("bpftrace", ["-e", Traced(path)], static l => l.Contains("Attaching", StringComparison.Ordinal), onError: false), server)),
        }.Select(static f => (f.Name, f.Measure, Figures: new List<double>())).ToArray();
        for (int round = 0; round < Rounds; round++)
        {
            foreach ((_, Func<double> measure, List<double> into) in figures)
            {
                into.Add(measure());
            }
        }
        double without = Build.Median(figures[0].Figures);
        var result = new JsonObject();
        Console.WriteLine("\nTLS handshakes a second of a real Kamailio, one after the other");
        foreach ((string name, _, List<double> all) in figures)
        {
            double median = Build.Median(all);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {name,-10} {median,8:0}   {median / without:0.000}   (of {all.Min():0} to {all.Max():0})"));
            result[name] = Math.Round(median, 1);
            result[$"{name}Ratio"] = Math.Round(median / without, 4);
        }
        return result;
    }

    /// <summary>What KamOtel sees, as bpftrace would be asked for it.</summary>
    public static string Traced(string library) =>
        $"uprobe:{library}:CRYPTO_THREAD_set_local {{ printf(\"%s %d %d %llu %llx\\n\", comm, pid, tid, *(uint32 *)arg0, arg1); }}";

    private static double With(Process other, TlsServer server)
    {
        try
        {
            return server.Handshakes(Count);
        }
        finally
        {
            Build.End(other);
        }
    }

    private static double Confirmed(TlsServer server, string path)
    {
        using KernelSide kernel = KernelSide.Load(1 << 22, NullLogger.Instance);
        kernel.WatchName("kamailio");
        kernel.AttachTracepoints();
        using SafeFileHandle file = File.OpenHandle(path);
        ElfFunction[] functions = [.. ElfFile.Open(file).Value.FindFunctions(["CRYPTO_THREAD_set_local", KernelSide.ConfirmedFunction]).Value.Found];
        using var set = kernel.Attach("CRYPTO_THREAD_set_local", path, functions.Single(static f => f.Name == "CRYPTO_THREAD_set_local").FileOffset);
        using var get = kernel.AttachConfirm(path, functions.Single(static f => f.Name == KernelSide.ConfirmedFunction).FileOffset);
        return server.Handshakes(Count);
    }
}
