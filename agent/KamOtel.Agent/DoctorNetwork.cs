using System.Net;
using System.Net.Sockets;
using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>The doctor at addresses: the one to listen on, and those that OTLP goes to.</summary>
internal sealed class DoctorNetwork(RunOptions options, Func<string, string?> environment, Capabilities own)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMilliseconds(500);

    private static readonly string[] RunAndMetrics = [DoctorFeature.Watching, DoctorFeature.Metrics];

    /// <summary>Is the address free? Bound for a moment; nobody can connect to it meanwhile.</summary>
    public async Task<Finding> Listen()
    {
        IPEndPoint address = options.Listen!;
        const string Means = "/metrics, /healthz and /readyz are served there";
        try
        {
            using var socket = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
            socket.Bind(address);
            return Finding.Ok("listen", $"{address} is free", Means);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            return await IsAgent(address)
                ? Finding.Note("listen", $"{address} is served by an agent that runs", "another one beside it would need another --listen")
                : Finding.Failed("listen", $"{address} is taken by another program", $"{Means}; `kamotel run` does not start", "choose another address with --listen, or end that program", RunAndMetrics);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AccessDenied)
        {
            return Finding.Failed("listen", $"{address}: {e.Message}", $"{Means}; `kamotel run` does not start", $"choose a port from 1024 on with --listen, or {DoctorPrivileges.Remedy("listen", own)}", RunAndMetrics);
        }
        catch (SocketException e)
        {
            return Finding.Failed("listen", $"{address}: {e.Message}", $"{Means}; `kamotel run` does not start", "choose an address of this machine with --listen", RunAndMetrics);
        }
    }

    /// <summary>Can the certificate, its key and the passwords be used, and who is served with them?</summary>
    public IEnumerable<Finding> Access()
    {
        HttpAccess access;
        try
        {
            access = HttpAccess.Load(options);
        }
        catch (Exception e) when (e is UsageException or IOException)
        {
            return [Finding.Failed("access", e.Message, "`kamotel run` does not start", "mend the file or the setting", RunAndMetrics)];
        }
        using (access)
        {
            string seen = $"{(access.IsTls ? "HTTPS" : "HTTP")}; {(options.TlsClientCa.Length > 0 ? "a client's certificate is asked for; " : "")}{(options.BasicAuth.Length > 0 ? "a password is asked for" : "no password is asked for")}";
            return
            [
                Finding.Ok("access", seen, "how /metrics and the status page are served, and to whom"),
                .. access.Warnings().Select(static warning => Finding.Warning("access", warning.Seen, "what is served may reach whom it is not for, or not reach whom it is for", warning.Remedy)),
            ];
        }
    }

    /// <summary>Does somebody take connections where OTLP goes? Nothing is sent.</summary>
    public async Task<Finding> Otlp()
    {
        const string Means = "metrics, spans and logs are exported there";
        OtlpSettings settings;
        try
        {
            settings = OtlpSettings.FromEnvironment(environment);
        }
        catch (UsageException e)
        {
            return Finding.Failed("otlp", e.Message, "`kamotel run` does not start", "set the variable right, or unset it", DoctorFeature.Watching, DoctorFeature.Otlp);
        }
        if (!settings.Any)
        {
            return Finding.Ok("otlp", "no endpoint is set", "nothing is exported by OTLP; OTEL_EXPORTER_OTLP_ENDPOINT switches it on");
        }
        Uri[] endpoints =
        [
            .. new[] { (settings.Logs, "LOGS"), (settings.Traces, "TRACES"), (settings.Metrics, "METRICS") }
                .Where(static s => s.Item1).Select(s => settings.For(s.Item2).Endpoint).DistinctBy(static u => u.Authority),
        ];
        string?[] problems = await Task.WhenAll(endpoints.Select(Connect));
        string seen = string.Join(", ", endpoints.Select((endpoint, i) => $"{endpoint.Scheme}://{endpoint.Authority} {(problems[i] is { } problem ? $"cannot be reached: {problem}" : "takes connections")}"));
        return problems.All(static p => p is null)
            ? Finding.Ok("otlp", seen, Means)
            : Finding.Failed("otlp", seen, $"{Means}; while it cannot be reached they are dropped, and counted", "start the collector, open the firewall, or mend OTEL_EXPORTER_OTLP_ENDPOINT", DoctorFeature.Otlp);
    }

    private static async Task<string?> Connect(Uri endpoint)
    {
        using var client = new TcpClient();
        using var limit = new CancellationTokenSource(Patience);
        try
        {
            await client.ConnectAsync(endpoint.Host, endpoint.Port, limit.Token);
            return null;
        }
        catch (SocketException e)
        {
            return e.Message;
        }
        catch (OperationCanceledException)
        {
            return $"no answer within {Patience.TotalMilliseconds:0} ms";
        }
    }

    private static async Task<bool> IsAgent(IPEndPoint address)
    {
        IPAddress host = address.Address.Equals(IPAddress.Any) ? IPAddress.Loopback : address.Address.Equals(IPAddress.IPv6Any) ? IPAddress.IPv6Loopback : address.Address;
#pragma warning disable CA5359, MA0039 // Nothing is sent, and nothing that is read is relied on: an agent is told from another program, whoever signed its certificate.
        using var handler = new SocketsHttpHandler { SslOptions = { RemoteCertificateValidationCallback = static (_, _, _, _) => true } };
#pragma warning restore CA5359, MA0039
        using var client = new HttpClient(handler) { Timeout = Patience, MaxResponseContentBufferSize = 4096 };
        foreach (string scheme in (string[])["http", "https"])
        {
            try
            {
                using HttpResponseMessage answer = await client.GetAsync(new Uri($"{scheme}://{new IPEndPoint(host, address.Port)}/healthz"));
                return answer.Headers.Server.ToString() == AgentHost.ServerHeader;
            }
            catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
            {
                // Nobody, or nobody who speaks it.
            }
        }
        return false;
    }
}
