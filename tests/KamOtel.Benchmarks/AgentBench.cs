using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;

namespace KamOtel.Benchmarks;

/// <summary>What the agent itself takes: its memory and CPU by the number of servers, under calls, and how soon it watches.</summary>
internal static class AgentBench
{
    private const int Starts = 7;
    private const int Processes = 8;
    private const long EventsPerSecond = 100_000;
    private const double ClockTicks = 100;
    private const string Received = "kamotel_events_received_total{kind=\"set_local\"}";
    private const string Lost = "kamotel_events_lost_total{kind=\"set_local\"}";
    private const string Delays = "kamotel_attach_delay_seconds_count";
    private const string DelaySum = "kamotel_attach_delay_seconds_sum";
    private static readonly TimeSpan Watch = TimeSpan.FromSeconds(10);

    private static string Agent => Path.Combine(Build.Repository, "out", "kamotel");

    /// <summary>Resident MiB and percent of a core by the number of servers; milliseconds from start to attached and from a mapping to its probes.</summary>
    public static JsonObject Run(Build build)
    {
        string name = $"ka{Environment.ProcessId}";
        string server = build.Compile("server.c", name);
        string loop = build.Compile("loop.c", $"kc{Environment.ProcessId}");
        var result = new JsonObject();
        var starts = new List<double>();
        for (int i = 0; i < Starts; i++)
        {
            long begin = Stopwatch.GetTimestamp();
            Process agent = Start(name, out _);
            starts.Add(Stopwatch.GetElapsedTime(begin).TotalMilliseconds);
            Build.End(agent);
        }
        result["startToAttachedMs"] = Math.Round(Build.Median(starts), 1);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"\nthe agent: {Build.Median(starts):0} ms from its start to all probes attached\n  servers   MiB resident   % of a core"));
        foreach (int servers in new[] { 0, 1, 10, 100 })
        {
            Process agent = Start(name, out _);
            Process[] running = [.. Enumerable.Range(0, servers).Select(_ => Build.Start(server, Build.Libcrypto, "shared", $"{Processes - 1}"))];
            foreach (Process one in running)
            {
                _ = one.StandardOutput.ReadLine();
            }
            // What the start of so many took is not what they take.
            Thread.Sleep(TimeSpan.FromSeconds(5));
            (double memory, double cpu) = Look(agent);
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {servers,7} {memory,14:0.0} {cpu,13:0.00}"));
            result[$"{servers}"] = new JsonObject { ["residentMiB"] = Math.Round(memory, 1), ["cpuPercent"] = Math.Round(cpu, 3) };
            foreach (Process one in running)
            {
                one.StandardInput.Close();
                one.WaitForExit();
                one.Dispose();
            }
            Build.End(agent);
        }
        result["residentMiB"] = result["10"]!["residentMiB"]!.DeepClone();
        result["idleCpuPercent"] = result["0"]!["cpuPercent"]!.DeepClone();
        result["calls"] = UnderCalls(loop);
        result["execToAttachedMs"] = Math.Round(Attach(build), 1);
        return result;
    }

    private static JsonObject UnderCalls(string loop)
    {
        Process agent = Start(Path.GetFileName(loop), out Uri metrics);
        using Process caller = Build.Start(loop, Build.Libcrypto, "1", "set");
        _ = caller.StandardOutput.ReadLine();
        bool ended = false;
        var pace = new Thread(() =>
        {
            long begin = Stopwatch.GetTimestamp();
            long made = 0;
            while (!Volatile.Read(ref ended))
            {
                // What it is behind by now; where it cannot keep up, the rate that is printed says so.
                long due = Math.Min((long)(Stopwatch.GetElapsedTime(begin).TotalSeconds * EventsPerSecond) - made, EventsPerSecond / 10);
                if (due > 0)
                {
                    caller.StandardInput.WriteLine(due);
                    _ = caller.StandardOutput.ReadLine();
                    made += due;
                }
                Thread.Sleep(1);
            }
        });
        pace.Start();
        Thread.Sleep(TimeSpan.FromSeconds(2));
        double before = Metric(metrics, Received);
        (double memory, double cpu) = Look(agent);
        double rate = (Metric(metrics, Received) - before) / Watch.TotalSeconds;
        double lost = Metric(metrics, Lost);
        Volatile.Write(ref ended, true);
        pace.Join();
        caller.StandardInput.Close();
        caller.WaitForExit();
        Build.End(agent);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {rate / 1000:0} k calls a second: {memory:0.0} MiB, {cpu:0} % of a core, {lost:0} lost"));
        return new JsonObject { ["eventsPerSecond"] = Math.Round(rate), ["residentMiB"] = Math.Round(memory, 1), ["cpuPercent"] = Math.Round(cpu, 1), ["lost"] = lost };
    }

    /// <summary>A libcrypto that only the server has: from its mapping to its probes.</summary>
    private static double Attach(Build build)
    {
        string name = $"kx{Environment.ProcessId}";
        string program = build.Compile("loop.c", name);
        Process agent = Start(name, out Uri metrics);
        const int Copies = 5;
        for (int i = 1; i <= Copies; i++)
        {
            string copy = build.Copy(Build.FindLibrary(), $"libcrypto.so.{i}");
            using Process server = Build.Start(program, copy, "1");
            _ = server.StandardOutput.ReadLine();
            for (int wait = 0; wait < 100 && Metric(metrics, Delays) < i; wait++)
            {
                Thread.Sleep(20);
            }
            server.StandardInput.Close();
            server.WaitForExit();
        }
        double count = Metric(metrics, Delays);
        double mean = Metric(metrics, DelaySum) / count * 1e3;
        Build.End(agent);
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"  {mean:0.0} ms from the mapping of a new libcrypto to its probes ({count:0} of {Copies})"));
        return mean;
    }

    private static Process Start(string name, out Uri metrics)
    {
        if (!File.Exists(Agent))
        {
            throw new InvalidOperationException("out/kamotel is missing: `make build`");
        }
        string address = "";
        Process agent = Build.StartAndWait(
            Agent,
            ["run", "--listen", "127.0.0.1:0", "--watch", name],
            line => line.Contains("listening on", StringComparison.Ordinal) && (address = line[line.IndexOf("http", StringComparison.Ordinal)..].Trim()).Length > 0,
            onError: true);
        metrics = new Uri(new Uri(address), "metrics");
        return agent;
    }

    private static (double MiB, double CpuPercent) Look(Process agent)
    {
        double before = Ticks(agent);
        Thread.Sleep(Watch);
        double used = (Ticks(agent) - before) / ClockTicks / Watch.TotalSeconds * 100;
        string resident = File.ReadLines($"/proc/{agent.Id}/status").First(static l => l.StartsWith("VmRSS:", StringComparison.Ordinal));
        return (double.Parse(resident.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^2], CultureInfo.InvariantCulture) / 1024, used);
    }

    private static double Ticks(Process agent)
    {
        string stat = File.ReadAllText($"/proc/{agent.Id}/stat");
        string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
        return double.Parse(fields[11], CultureInfo.InvariantCulture) + double.Parse(fields[12], CultureInfo.InvariantCulture);
    }

    /// <summary>The sum of the series that begin so.</summary>
    private static double Metric(Uri metrics, string series)
    {
        using var client = new HttpClient();
        return client.GetStringAsync(metrics).GetAwaiter().GetResult().Split('\n').Where(line => line.StartsWith(series, StringComparison.Ordinal))
            .Sum(static line => double.Parse(line.Split(' ')[^1], CultureInfo.InvariantCulture));
    }
}
