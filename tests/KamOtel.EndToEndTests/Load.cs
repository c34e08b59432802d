using System.Collections.Concurrent;
using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace KamOtel.EndToEndTests;

/// <summary>What a client of the load does, again and again, each time on a new connection.</summary>
internal enum LoadClient
{
    /// <summary>A TLS handshake and a SIP request through it.</summary>
    Request,

    /// <summary>A record that looks like a handshake and is none.</summary>
    Garbage,

    /// <summary>SIP without TLS.</summary>
    PlainText,

    /// <summary>A real ClientHello, and a reset instead of the rest.</summary>
    Aborted,
}

/// <summary>What came of a load.</summary>
/// <param name="Connections">How many connections were made, by what the clients did.</param>
/// <param name="Answers">How many requests were answered.</param>
/// <param name="Elapsed">How long it took.</param>
/// <param name="Stopped">The condition that it was to stop at came true.</param>
internal sealed record LoadResult(IReadOnlyDictionary<LoadClient, int> Connections, int Answers, TimeSpan Elapsed, bool Stopped)
{
    /// <summary>For messages.</summary>
    public override string ToString() =>
        $"{string.Join(", ", Connections.Select(static kind => $"{kind.Value} x {kind.Key}"))} in {Elapsed.TotalSeconds:0.0} s, {Answers} requests answered";
}

/// <summary>A load of TLS connections, good and bad ones at once, with bounds.</summary>
internal sealed class Load
{
    /// <summary>
    /// What kills a Kamailio with eight workers for TLS whose workers share OpenSSL's error state: bad handshakes fill
    /// and free that state, and the more workers do it at once, the sooner. Measured: in seconds.
    /// </summary>
    public static readonly LoadClient[] Deadly =
    [
        .. Enumerable.Repeat(LoadClient.Garbage, 10), LoadClient.PlainText, LoadClient.PlainText,
        LoadClient.Aborted, LoadClient.Aborted, LoadClient.Request, LoadClient.Request,
    ];

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private readonly IPEndPoint _server;
    private readonly SslClientAuthenticationOptions _tls;
    private readonly ConcurrentDictionary<LoadClient, int> _connections = new();
    private byte[] _clientHello = [];
    private int _budget;
    private int _answers;

    private Load(int port, X509Certificate2 certificate, int count)
    {
        _server = new IPEndPoint(IPAddress.Loopback, port);
        _tls = new SslClientAuthenticationOptions
        {
            TargetHost = "localhost",
            CertificateChainPolicy = new X509ChainPolicy
            {
                TrustMode = X509ChainTrustMode.CustomRootTrust,
                CustomTrustStore = { certificate },
                RevocationMode = X509RevocationMode.NoCheck,
            },
        };
        _budget = count;
    }

    /// <summary>Runs all clients at once until the condition is true, the time is over or the connections are used up.</summary>
    /// <param name="server">The server, which has TLS.</param>
    /// <param name="clients">One client each.</param>
    /// <param name="stop">The condition.</param>
    /// <param name="limit">The time.</param>
    /// <param name="count">How many connections at most.</param>
    public static async Task<LoadResult> Run(
        KamailioServer server, IReadOnlyList<LoadClient> clients, Func<bool> stop, TimeSpan limit, int count = int.MaxValue)
    {
        using X509Certificate2 certificate = X509CertificateLoader.LoadCertificateFromFile(server.Certificate);
        var load = new Load(await server.TlsPort(), certificate, count);
        load._clientHello = await load.ClientHello();
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        ending.CancelAfter(limit);
        var watch = Stopwatch.StartNew();
        Task all = Task.WhenAll(clients.Select((kind, number) => Task.Run(() => load.Repeat(kind, new Random(number), ending.Token))));
        bool stopped;
        while (!(stopped = stop()) && !all.IsCompleted)
        {
            _ = await Task.WhenAny(all, Task.Delay(10));
        }
        TimeSpan elapsed = watch.Elapsed;
        await ending.CancelAsync();
        await all;
        return new LoadResult(load._connections, load._answers, elapsed, stopped);
    }

    private async Task Repeat(LoadClient kind, Random random, CancellationToken ending)
    {
        while (!ending.IsCancellationRequested && Interlocked.Decrement(ref _budget) >= 0)
        {
            using var patience = CancellationTokenSource.CreateLinkedTokenSource(ending);
            patience.CancelAfter(Patience);
            try
            {
                using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
                await socket.ConnectAsync(_server, patience.Token);
                _ = _connections.AddOrUpdate(kind, 1, static (_, number) => number + 1);
                await Act(kind, socket, random, patience.Token);
            }
            catch (Exception e) when (e is IOException or SocketException or AuthenticationException or OperationCanceledException)
            {
                // A bad connection is meant to end badly, and a dying server refuses or hangs.
                await Task.Delay(1, CancellationToken.None);
            }
        }
    }

    private async Task Act(LoadClient kind, Socket socket, Random random, CancellationToken patience)
    {
        await using var stream = new NetworkStream(socket);
        switch (kind)
        {
            case LoadClient.Request:
                await using (var tls = new SslStream(stream))
                {
                    await tls.AuthenticateAsClientAsync(_tls, patience);
                    await tls.WriteAsync(Options("TLS", random), patience);
                    byte[] answer = new byte[4096];
                    int length = await tls.ReadAsync(answer, patience);
                    if (Encoding.ASCII.GetString(answer, 0, length).StartsWith("SIP/2.0 200", StringComparison.Ordinal))
                    {
                        _ = Interlocked.Increment(ref _answers);
                    }
                }
                break;
            case LoadClient.Garbage:
                byte[] record = new byte[53];
                random.NextBytes(record);
                // Handshake, TLS 1.0, 48 bytes.
                ((byte[])[0x16, 3, 1, 0, 48]).CopyTo(record, 0);
                await SendAndListen(stream, record, patience);
                break;
            case LoadClient.PlainText:
                await SendAndListen(stream, Options("TCP", random), patience);
                break;
            case LoadClient.Aborted:
                await stream.WriteAsync(_clientHello, patience);
                _ = await stream.ReadAsync(new byte[64], patience);
                socket.LingerState = new LingerOption(true, 0);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(kind));
        }
    }

    private static async Task SendAndListen(NetworkStream stream, byte[] bytes, CancellationToken patience)
    {
        await stream.WriteAsync(bytes, patience);
        byte[] answer = new byte[1024];
        while (await stream.ReadAsync(answer, patience) > 0)
        {
        }
    }

    private static byte[] Options(string transport, Random random)
    {
        string id = $"{random.NextInt64():x}";
        return Encoding.ASCII.GetBytes(string.Join("\r\n",
            "OPTIONS sip:load@127.0.0.1 SIP/2.0",
            $"Via: SIP/2.0/{transport} 127.0.0.1:9;rport;branch=z9hG4bK{id}",
            "From: <sip:load@127.0.0.1>;tag=1",
            "To: <sip:load@127.0.0.1>",
            $"Call-ID: {id}@127.0.0.1",
            "CSeq: 1 OPTIONS",
            "Max-Forwards: 10",
            "Content-Length: 0",
            "",
            ""));
    }

    // What a client says first, taken from a handshake with nobody.
    private async Task<byte[]> ClientHello()
    {
        await using var nobody = new Silence();
        await using var tls = new SslStream(nobody);
        try
        {
            await tls.AuthenticateAsClientAsync(_tls);
        }
        catch (Exception e) when (e is IOException or AuthenticationException)
        {
            // Nobody answers.
        }
        return nobody.Heard;
    }

    /// <summary>Takes what is written, and ends at the first read.</summary>
    private sealed class Silence : MemoryStream
    {
        public byte[] Heard => ToArray();

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.FromResult(0);

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) => Task.FromResult(0);

        public override int Read(byte[] buffer, int offset, int count) => 0;
    }
}
