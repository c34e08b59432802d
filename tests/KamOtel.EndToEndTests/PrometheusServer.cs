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
    public static async Task<PrometheusServer> Start(Uri scraped, string? rules = null, Uri? alertmanager = null)
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
                    static_configs:
                      - targets: ['{scraped.Authority}']

                """);
            server._program = RunningProgram.Start(
                "prometheus",
                [
                    $"--config.file={server._scratch["prometheus.yml"]}",
                    $"--storage.tsdb.path={server._scratch["data"]}",
                    $"--web.listen-address=127.0.0.1:{port}",
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
        string json = await _client.GetStringAsync(new Uri($"/api/v1/query?query={Uri.EscapeDataString(query)}", UriKind.Relative));
        using JsonDocument document = JsonDocument.Parse(json);
        document.RootElement.GetProperty("status").GetString().ShouldBe("success", json);
        return new Samples([.. document.RootElement.GetProperty("data").GetProperty("result").EnumerateArray().Select(Read)]);
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

    private static Sample Read(JsonElement result)
    {
        Dictionary<string, string> labels = result.GetProperty("metric").EnumerateObject()
            .ToDictionary(static label => label.Name, static label => label.Value.GetString()!);
        string name = labels.GetValueOrDefault("__name__", "");
        foreach (string added in new[] { "__name__", "job", "instance" })
        {
            _ = labels.Remove(added);
        }
        return new Sample(name, labels, double.Parse(result.GetProperty("value")[1].GetString()!, NumberStyles.Float, CultureInfo.InvariantCulture));
    }
}
