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

/// <summary>What a confirm window costs the server: each call of CRYPTO_THREAD_get_local, with and without its probe.</summary>
internal static class ConfirmBench
{
    private const int Calls = 10_000;
    private const int Rounds = 7;

    /// <summary>Nanoseconds a call: bare, probed, and probed while nobody watches the process.</summary>
    public static JsonObject Run(Build build)
    {
        string name = $"kl{Environment.ProcessId}";
        string watched = build.Compile("loop.c", name);
        string other = build.Compile("loop.c", $"ko{Environment.ProcessId}");
        using Process server = Build.Start(watched, Build.Libcrypto, $"{Calls}");
        using Process stranger = Build.Start(other, Build.Libcrypto, $"{Calls}");
        _ = server.StandardOutput.ReadLine();
        _ = stranger.StandardOutput.ReadLine();
        try
        {
            string path = File.ReadLines($"/proc/{server.Id}/maps").First(static line => line.Contains("libcrypto.so", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[^1];
            using SafeFileHandle file = File.OpenHandle(path);
            ProcessId self = new ProcFs().ReadStat(server.Id).Value.Id;
            ulong offset = ElfFile.Open(file).Value.FindFunctions([KernelSide.ConfirmedFunction]).Value.Found[0].FileOffset;
            (double Server, double Stranger) Probed(bool? uprobeMulti)
            {
                using KernelSide kernel = KernelSide.Load(KernelSide.Embedded(), 1 << 16, NullLogger.Instance, uprobeMulti: uprobeMulti);
                kernel.AttachTracepoints();
                _ = kernel.WatchProcess(self, new InstanceId(self.Tgid, 1));
                using SafeHandle link = kernel.AttachConfirm(path, offset);
                return (Ask(server), Ask(stranger));
            }
            double bare = Ask(server);
            (double probed, double strange) = Probed(uprobeMulti: null);
            // The older kind of probe, which a kernel before 6.6 has, beside it.
            (double older, double olderStrange) = Probed(uprobeMulti: false);
            double after = Ask(server);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""

                {KernelSide.ConfirmedFunction}, ns a call
                  without a probe              {bare,8:0.0}
                  in the confirm window        {probed,8:0.0}   {probed / bare:0} x; at most {probed * Calls / 1e6:0} ms in all, as a window ends after {Calls} calls
                  of a process not watched     {strange,8:0.0}
                  the older kind of probe      {older,8:0.0}   {older / probed:0.00} of the newer; not watched {olderStrange:0.0}
                  after the window             {after,8:0.0}
                """));
            return new JsonObject
            {
                ["bareNs"] = Math.Round(bare, 1),
                ["probedNs"] = Math.Round(probed, 1),
                ["unwatchedNs"] = Math.Round(strange, 1),
                ["olderNs"] = Math.Round(older, 1),
                ["olderUnwatchedNs"] = Math.Round(olderStrange, 1),
                ["afterNs"] = Math.Round(after, 1),
                ["windowMs"] = Math.Round(probed * Calls / 1e6, 1),
            };
        }
        finally
        {
            server.StandardInput.Close();
            stranger.StandardInput.Close();
            server.WaitForExit();
            stranger.WaitForExit();
        }
    }

    private static double Ask(Process program)
    {
        var figures = new List<double>();
        for (int i = 0; i < Rounds; i++)
        {
            program.StandardInput.WriteLine("go");
            figures.Add(double.Parse(program.StandardOutput.ReadLine()!, CultureInfo.InvariantCulture));
        }
        return Build.Median(figures);
    }
}
