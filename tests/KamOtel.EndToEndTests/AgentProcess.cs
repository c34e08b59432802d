using System.Globalization;
using System.Net;

namespace KamOtel.EndToEndTests;

/// <summary>The agent's binary, running.</summary>
internal sealed class AgentProcess : IAsyncDisposable
{
    private readonly Scratch _scratch;
    private readonly HttpClient _client;

    private AgentProcess(Scratch scratch, RunningProgram program, int port)
    {
        _scratch = scratch;
        Program = program;
        Address = new Uri($"http://127.0.0.1:{port}");
        _client = new HttpClient { BaseAddress = Address, Timeout = TimeSpan.FromSeconds(10) };
    }

    /// <summary>Where it serves.</summary>
    public Uri Address { get; }

    /// <summary>The process.</summary>
    public RunningProgram Program { get; }

    /// <summary>Its process identifier.</summary>
    public int Pid => Program.Pid;

    /// <summary>The folder that it finds in TMPDIR; nobody else writes there.</summary>
    public string TemporaryFolder => _scratch.Folder;

    /// <summary>Starts <c>kamotel run --follow</c> on a free port and waits until it is ready.</summary>
    /// <param name="environment">Added to its environment: OTEL_*, KAMOTEL_*.</param>
    /// <param name="options">Added to its command line.</param>
    public static Task<AgentProcess> Start(
        IReadOnlyDictionary<string, string?>? environment = null, params string[] options) =>
        Start(["run"], environment, options);

    /// <summary>Starts <c>kamotel record FILE --follow</c> in its place, which does the same and writes it down.</summary>
    public static Task<AgentProcess> Record(string file, IReadOnlyDictionary<string, string?>? environment = null, params string[] options) =>
        Start(["record", file], environment, options);

    private static async Task<AgentProcess> Start(string[] command, IReadOnlyDictionary<string, string?>? environment, string[] options)
    {
        Requirements.Bpf();
        var scratch = new Scratch();
        int port = Scratch.FreePort();
        var own = new Dictionary<string, string?>(environment ?? new Dictionary<string, string?>()) { ["TMPDIR"] = scratch.Folder };
        var agent = new AgentProcess(scratch, Launch(command, port, own, options), port);
        try
        {
            await Until.True(
                "the agent to be ready",
                async () =>
                {
                    agent.Program.Alive.ShouldBeTrue($"the agent ended\n{agent.Program}");
                    return await agent.Status("/readyz") == HttpStatusCode.OK;
                },
                state: agent.Program.ToString);
            return agent;
        }
        catch
        {
            await agent.DisposeAsync();
            throw;
        }
    }

    /// <summary>Starts <c>kamotel run --follow</c> and waits for nothing.</summary>
    public static RunningProgram Launch(int port, IReadOnlyDictionary<string, string?>? environment = null, params string[] options) =>
        Launch(["run"], port, environment, options);

    private static RunningProgram Launch(string[] command, int port, IReadOnlyDictionary<string, string?>? environment, string[] options) =>
        RunningProgram.Start(
            Requirements.Binary, [.. command, "--follow", "--listen", $"127.0.0.1:{port}", "--watch", "kamailio", .. options], environment);

    /// <summary>Environment for exporting to a receiver, quickly.</summary>
    public static Dictionary<string, string?> ExportTo(OtlpReceiver receiver, bool http = false) =>
        ExportTo(http ? receiver.Http : receiver.Grpc, http);

    /// <summary>Environment for exporting to an address, quickly.</summary>
    public static Dictionary<string, string?> ExportTo(Uri endpoint, bool http = false) => new()
    {
        ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint.ToString(),
        ["OTEL_EXPORTER_OTLP_PROTOCOL"] = http ? "http/protobuf" : "grpc",
        ["OTEL_EXPORTER_OTLP_TIMEOUT"] = "1000",
        ["OTEL_METRIC_EXPORT_INTERVAL"] = "500",
        ["OTEL_METRIC_EXPORT_TIMEOUT"] = "1000",
        ["OTEL_BLRP_SCHEDULE_DELAY"] = "200",
        ["OTEL_BSP_SCHEDULE_DELAY"] = "200",
    };

    /// <summary>The status of a page, or null when nobody answers.</summary>
    public async Task<HttpStatusCode?> Status(string path)
    {
        try
        {
            using HttpResponseMessage response = await _client.GetAsync(path);
            return response.StatusCode;
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return null;
        }
    }

    /// <summary>The text of /metrics.</summary>
    public Task<string> MetricsText() => _client.GetStringAsync(new Uri("/metrics", UriKind.Relative));

    /// <summary>The text of /metrics as Prometheus asks for it.</summary>
    public async Task<string> OpenMetricsText()
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri("/metrics", UriKind.Relative));
        request.Headers.Add("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
        using HttpResponseMessage response = await _client.SendAsync(request);
        return await response.Content.ReadAsStringAsync();
    }

    /// <summary>What /metrics says now.</summary>
    public async Task<Samples> Metrics() => Samples.Parse(await MetricsText());

    /// <summary>Waits until /metrics says so.</summary>
    public async Task<Samples> MetricsWhen(string what, Func<Samples, bool> condition)
    {
        string last = "";
        return await Until.Found(
            what,
            async () =>
            {
                last = await MetricsText();
                var samples = Samples.Parse(last);
                return condition(samples) ? samples : null;
            },
            state: () => $"-- /metrics\n{last}\n{Program}");
    }

    /// <summary>Waits until the server's start is over and everything it does at rest is counted.</summary>
    public Task<Samples> AtRest(string target) =>
        Until.Found(
            $"{target} to come to rest",
            async () =>
            {
                Samples before = await Metrics();
                await Task.Delay(1500);
                Samples after = await Metrics();
                // Mappings are those of the whole machine.
                static double Events(Samples samples) =>
                    samples.Sum("kamotel_events_received_total") - samples.Sum("kamotel_events_received_total", ("kind", "mapping"));
                return before.Count("kamotel_instance_verdict", ("target", target)) > 0 && Events(before) == Events(after)
                    ? after
                    : null;
            },
            state: Program.ToString);

    /// <summary>SIGTERM, and the end.</summary>
    public async Task<Ended> Terminate()
    {
        Program.Send(Signal.Terminate);
        return await Program.End();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (Program.Alive && Libc.Send(Pid, Signal.Terminate))
        {
            // Killed, it stays for seconds, while the kernel takes away one probe after the other.
            using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(10));
            while (Program.Alive && !patience.IsCancellationRequested)
            {
                await Task.Delay(10);
            }
        }
        await Program.DisposeAsync();
        _client.Dispose();
        _scratch.Dispose();
    }
}

/// <summary>One line of the text format.</summary>
/// <param name="Name">The series' name.</param>
/// <param name="Labels">Its labels.</param>
/// <param name="Value">Its value.</param>
internal sealed record Sample(string Name, IReadOnlyDictionary<string, string> Labels, double Value)
{
    /// <summary>Name and sorted labels: what makes two series the same.</summary>
    public string Series { get; } =
        $"{Name}{{{string.Join(',', Labels.OrderBy(static label => label.Key, StringComparer.Ordinal).Select(static label => $"{label.Key}={label.Value}"))}}}";

    /// <summary>It carries all of these labels.</summary>
    public bool Has(ReadOnlySpan<(string Name, string Value)> labels)
    {
        foreach ((string name, string value) in labels)
        {
            if (!Labels.TryGetValue(name, out string? own) || own != value)
            {
                return false;
            }
        }
        return true;
    }
}

/// <summary>A scrape.</summary>
internal sealed class Samples(IReadOnlyList<Sample> all)
{
    /// <summary>All of it.</summary>
    public IReadOnlyList<Sample> All { get; } = all;

    /// <summary>Reads Prometheus's text format.</summary>
    public static Samples Parse(string text) =>
        new([.. text.Split('\n').Where(static line => line.Length > 0 && line[0] != '#').Select(ParseLine)]);

    /// <summary>The sum of the series with this name and these labels.</summary>
    public double Sum(string name, params ReadOnlySpan<(string Name, string Value)> labels)
    {
        double sum = 0;
        foreach (Sample sample in All)
        {
            sum += sample.Name == name && sample.Has(labels) ? sample.Value : 0;
        }
        return sum;
    }

    /// <summary>How many series have this name and these labels.</summary>
    public int Count(string name, params ReadOnlySpan<(string Name, string Value)> labels)
    {
        int count = 0;
        foreach (Sample sample in All)
        {
            count += sample.Name == name && sample.Has(labels) ? 1 : 0;
        }
        return count;
    }

    /// <summary>The verdict of a target: the one whose series is 1.</summary>
    public string? Verdict(string target) =>
        All.SingleOrDefault(sample => sample is { Name: "kamotel_instance_verdict", Value: 1 } && sample.Labels["target"] == target)
            ?.Labels["verdict"];

    private static Sample ParseLine(string line)
    {
        var labels = new Dictionary<string, string>(StringComparer.Ordinal);
        int at = line.IndexOfAny(['{', ' ']);
        string name = line[..at];
        if (line[at] == '{')
        {
            at++;
            while (line[at] != '}')
            {
                int equals = line.IndexOf('=', at);
                string label = line[at..equals];
                var value = new System.Text.StringBuilder();
                for (at = equals + 2; line[at] != '"'; at++)
                {
                    _ = value.Append(line[at] != '\\' ? line[at] : line[++at] == 'n' ? '\n' : line[at]);
                }
                labels[label] = value.ToString();
                at += line[at + 1] == ',' ? 2 : 1;
            }
            at++;
        }
        string number = line[at..].Trim().Split(' ')[0];
        double parsed = number switch
        {
            "+Inf" => double.PositiveInfinity,
            "-Inf" => double.NegativeInfinity,
            _ => double.Parse(number, NumberStyles.Float, CultureInfo.InvariantCulture),
        };
        return new Sample(name, labels, parsed);
    }
}
