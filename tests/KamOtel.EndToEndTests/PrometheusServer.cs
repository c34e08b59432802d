using System.Globalization;
using System.Text.Json;

namespace KamOtel.EndToEndTests;

/// <summary>A real Prometheus that scrapes one address every second, and evaluates rules as often where there are any.</summary>
internal sealed class PrometheusServer : IAsyncDisposable
{
    private readonly Scratch _scratch = new();
    private readonly HttpClient _client;
    private RunningProgram? _program;

    private PrometheusServer(int port) => _client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}") };

    /// <summary>Starts it and waits until it is ready.</summary>
    /// <param name="scraped">Whose /metrics it scrapes, as the job <c>kamotel</c>.</param>
    /// <param name="rules">The text of a rule file.</param>
    /// <param name="alertmanager">Where its alerts go.</param>
    /// <param name="access">How it gets in: lines of the scrape job, such as <c>basic_auth</c>.</param>
    public static async Task<PrometheusServer> Start(Uri scraped, string? rules = null, Uri? alertmanager = null, string access = "")
    {
        Requirements.Program("prometheus");
        int port = Scratch.FreePort();
        var server = new PrometheusServer(port);
        try
        {
            await File.WriteAllTextAsync(server._scratch["rules.yaml"], rules ?? "groups: []\n");
            await File.WriteAllTextAsync(
                server._scratch["prometheus.yml"],
                $"""
                global:
                  scrape_interval: 1s
                  evaluation_interval: 1s
                rule_files: [rules.yaml]
                alerting:
                  alertmanagers:
                    - static_configs:
                        - targets: [{(alertmanager is null ? "" : $"'{alertmanager.Authority}'")}]
                scrape_configs:
                  - job_name: kamotel
                    scheme: {scraped.Scheme}
                    static_configs:
                      - targets: ['{scraped.Authority}']

                """ + string.Concat(access.Split('\n').Select(static line => $"    {line}\n")));
            server._program = RunningProgram.Start(
                "prometheus",
                [
                    $"--config.file={server._scratch["prometheus.yml"]}",
                    $"--storage.tsdb.path={server._scratch["data"]}",
                    $"--web.listen-address=127.0.0.1:{port}",
                    "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                ]);
            await Until.True("Prometheus to be ready", server.Ready, state: () => $"{server._program}");
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>The latest value of every series that matches, without the labels that Prometheus adds.</summary>
    public async Task<Samples> Query(string query)
    {
        using JsonDocument document = await Ask("query", ("query", query));
        return new Samples([.. document.RootElement.GetProperty("data").GetProperty("result").EnumerateArray().Select(Read)]);
    }

    /// <summary>A series has a value now that is a number.</summary>
    public async Task<bool> HasValueNow(string query) => (await Query(query)).All.Any(static sample => double.IsFinite(sample.Value));

    /// <summary>A series has a value that is a number at some time of this range that ends now.</summary>
    public async Task<bool> HasValues(string query, TimeSpan range, TimeSpan step)
    {
        using JsonDocument document = await Ask("query_range", [("query", query), .. Times(range), ("step", Seconds(step.TotalSeconds))]);
        return document.RootElement.GetProperty("data").GetProperty("result").EnumerateArray()
            .SelectMany(static series => series.GetProperty("values").EnumerateArray()).Any(static value => double.IsFinite(Number(value)));
    }

    /// <summary>What Grafana calls <c>label_values(SELECTOR, LABEL)</c> is not empty.</summary>
    public async Task<bool> HasLabelValues(string labelValues, TimeSpan range)
    {
        int comma = labelValues.LastIndexOf(',');
        string selector = labelValues["label_values(".Length..comma];
        using JsonDocument document = await Ask($"label/{labelValues[(comma + 1)..].Trim(' ', ')')}/values", [("match[]", selector), .. Times(range)]);
        return document.RootElement.GetProperty("data").GetArrayLength() > 0;
    }

    /// <summary>One of the query's series has an exemplar that leads to a trace.</summary>
    public async Task<bool> HasExemplars(string query, TimeSpan range)
    {
        using JsonDocument document = await Ask("query_exemplars", [("query", query), .. Times(range)]);
        return document.RootElement.GetProperty("data").EnumerateArray().SelectMany(static series => series.GetProperty("exemplars").EnumerateArray())
            .Any(static exemplar => exemplar.GetProperty("labels").GetProperty("trace_id").GetString() is { Length: 32 });
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_program is not null)
        {
            await _program.DisposeAsync();
        }
        _client.Dispose();
        _scratch.Dispose();
    }

    private async Task<bool> Ready()
    {
        try
        {
            using HttpResponseMessage response = await _client.GetAsync(new Uri("/-/ready", UriKind.Relative));
            return response.IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }

    private async Task<JsonDocument> Ask(string what, params (string Name, string Value)[] parameters)
    {
        string query = string.Join('&', parameters.Select(static p => $"{Uri.EscapeDataString(p.Name)}={Uri.EscapeDataString(p.Value)}"));
        using HttpResponseMessage response = await _client.GetAsync(new Uri($"/api/v1/{what}?{query}", UriKind.Relative));
        string json = await response.Content.ReadAsStringAsync();
        response.IsSuccessStatusCode.ShouldBeTrue($"{string.Join(", ", parameters)}: {json}");
        return JsonDocument.Parse(json);
    }

    private static (string Name, string Value)[] Times(TimeSpan range)
    {
        double now = DateTimeOffset.UtcNow.ToUnixTimeMilliseconds() / 1e3;
        return [("start", Seconds(now - range.TotalSeconds)), ("end", Seconds(now))];
    }

    private static string Seconds(double seconds) => seconds.ToString("0.###", CultureInfo.InvariantCulture);

    private static double Number(JsonElement timeAndValue) => double.Parse(timeAndValue[1].GetString()!, NumberStyles.Float, CultureInfo.InvariantCulture);

    private static Sample Read(JsonElement result)
    {
        Dictionary<string, string> labels = result.GetProperty("metric").EnumerateObject()
            .ToDictionary(static label => label.Name, static label => label.Value.GetString()!);
        string name = labels.GetValueOrDefault("__name__", "");
        foreach (string added in new[] { "__name__", "job", "instance" })
        {
            _ = labels.Remove(added);
        }
        return new Sample(name, labels, Number(result.GetProperty("value")));
    }
}
