using System.Net;
using System.Net.Sockets;

namespace KamOtel.EndToEndTests;

/// <summary>An empty folder that goes away with the test.</summary>
internal sealed class Scratch : IDisposable
{
    /// <summary>Makes it. Other users may pass through it: databases do not run as root.</summary>
    public Scratch()
    {
        Folder = Directory.CreateTempSubdirectory("kamotel-e2e.").FullName;
        File.SetUnixFileMode(Folder, (UnixFileMode)Convert.ToInt32("711", 8));
    }

    /// <summary>Its path.</summary>
    public string Folder { get; }

    /// <summary>A path inside.</summary>
    public string this[string name] => Path.Combine(Folder, name);

    /// <summary>A TCP port on loopback that nobody used a moment ago.</summary>
    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
