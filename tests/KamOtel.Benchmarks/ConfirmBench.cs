using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using KamOtel.Bpf;
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
        using KernelSide kernel = KernelSide.Load(1 << 16, NullLogger.Instance);
        kernel.WatchName(name);
        kernel.AttachTracepoints();
        using Process server = Build.Start(watched, Build.Libcrypto, $"{Calls}");
        using Process stranger = Build.Start(other, Build.Libcrypto, $"{Calls}");
        _ = server.StandardOutput.ReadLine();
        _ = stranger.StandardOutput.ReadLine();
        try
        {
            string path = File.ReadLines($"/proc/{server.Id}/maps").First(static line => line.Contains("libcrypto.so", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[^1];
            using SafeFileHandle file = File.OpenHandle(path);
            ulong offset = ElfFile.Open(file).Value.FindFunctions([KernelSide.ConfirmedFunction]).Value.Found[0].FileOffset;
            double bare = Ask(server);
            double probed, strange;
            using (kernel.AttachConfirm(path, offset))
            {
                probed = Ask(server);
                strange = Ask(stranger);
            }
            double after = Ask(server);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"""

                {KernelSide.ConfirmedFunction}, ns a call
                  without a probe              {bare,8:0.0}
                  in the confirm window        {probed,8:0.0}   {probed / bare:0} x; at most {probed * Calls / 1e6:0} ms in all, as a window ends after {Calls} calls
                  of a process not watched     {strange,8:0.0}
                  after the window             {after,8:0.0}
                """));
            return new JsonObject
            {
                ["bareNs"] = Math.Round(bare, 1),
                ["probedNs"] = Math.Round(probed, 1),
                ["unwatchedNs"] = Math.Round(strange, 1),
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
