using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;

namespace KamOtel.Benchmarks;

/// <summary>
/// A real Kamailio with TLS. One worker of each kind: where Debian's version has a hazard, a second one at the same time would be
/// its end.
/// </summary>
internal sealed class TlsServer : IDisposable
{
    private readonly string _folder;
    private readonly Process _kamailio;
    private readonly int _port;

    public TlsServer()
    {
        _folder = Path.Combine(Path.GetTempPath(), $"kamotel-bench-server-{Environment.ProcessId}");
        string prepared = Run("prepare", _folder, "--with", "tls", "--workers", "1");
        _port = int.Parse(prepared.Split('\n').First(static l => l.StartsWith("tls_port=", StringComparison.Ordinal))["tls_port=".Length..], System.Globalization.CultureInfo.InvariantCulture);
        _kamailio = Process.Start(new ProcessStartInfo("/bin/sh", ["-c", "exec \"$0\" exec \"$1\" >/dev/null 2>&1", Script, _folder]) { UseShellExecute = false })!;
        _ = Run("wait", _folder);
    }

    private static string Script => Path.Combine(Build.Repository, "demo", "server");

    /// <summary>Does full handshakes for so long, one after the other, and returns how many a second that was.</summary>
    public double Handshakes(TimeSpan time)
    {
        long begin = Stopwatch.GetTimestamp();
        int count = 0;
        for (; Stopwatch.GetElapsedTime(begin) < time; count++)
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
            socket.Connect(IPAddress.Loopback, _port);
            using var stream = new SslStream(new NetworkStream(socket));
            stream.AuthenticateAsClient(new SslClientAuthenticationOptions
            {
                TargetHost = "localhost",
                AllowTlsResume = false,
                // The certificate is the demo's own.
#pragma warning disable CA5359
                RemoteCertificateValidationCallback = static (_, _, _, _) => true,
#pragma warning restore CA5359
            });
        }
        double seconds = Stopwatch.GetElapsedTime(begin).TotalSeconds;
        return !_kamailio.HasExited ? count / seconds : throw new InvalidOperationException("Kamailio ended under the handshakes");
    }

    public void Dispose()
    {
        _ = Run("stop", _folder);
        _kamailio.WaitForExit();
        _kamailio.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static string Run(params string[] arguments)
    {
        using Process process = Build.Start(Script, arguments);
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? output : throw new InvalidOperationException($"demo/server {arguments[0]} ended with {process.ExitCode}");
    }
}
