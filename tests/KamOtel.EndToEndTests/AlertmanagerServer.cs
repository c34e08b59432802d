namespace KamOtel.EndToEndTests;

/// <summary>A real Alertmanager that tells a webhook of each alert, without waiting for others.</summary>
internal sealed class AlertmanagerServer : IAsyncDisposable
{
    private readonly Scratch _scratch = new();
    private RunningProgram? _program;

    private AlertmanagerServer(Uri address) => Address = address;

    /// <summary>Where it serves.</summary>
    public Uri Address { get; }

    /// <summary>Starts it and waits until it is ready.</summary>
    public static async Task<AlertmanagerServer> Start(Uri webhook)
    {
        Requirements.Program("prometheus-alertmanager");
        var server = new AlertmanagerServer(new Uri($"http://127.0.0.1:{Scratch.FreePort()}"));
        try
        {
            await File.WriteAllTextAsync(
                server._scratch["alertmanager.yml"],
                $"""
                route:
                  receiver: webhook
                  group_by: ['...']
                  group_wait: 0s
                  group_interval: 1s
                receivers:
                  - name: webhook
                    webhook_configs:
                      - url: {webhook}

                """);
            server._program = RunningProgram.Start(
                "prometheus-alertmanager",
                [
                    $"--config.file={server._scratch["alertmanager.yml"]}",
                    $"--storage.path={server._scratch["data"]}",
                    $"--web.listen-address={server.Address.Authority}",
                    "--cluster.listen-address=",
                    "--log.level=warn",
                ]);
            using var client = new HttpClient { BaseAddress = server.Address };
            await Until.True("Alertmanager to be ready", () => Ready(client), state: server._program.ToString);
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_program is not null)
        {
            await _program.DisposeAsync();
        }
        _scratch.Dispose();
    }

    private static async Task<bool> Ready(HttpClient client)
    {
        try
        {
            using HttpResponseMessage response = await client.GetAsync(new Uri("/-/ready", UriKind.Relative));
            return response.IsSuccessStatusCode;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
