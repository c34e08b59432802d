using System.Net.Sockets;
using System.Text;

namespace KamOtel.Agent;

/// <summary>Tells the service manager that started the agent how it is: systemd's notification protocol (sd_notify).</summary>
/// <param name="address">What NOTIFY_SOCKET names: a path, or with @ an abstract socket; null or empty: nobody listens.</param>
internal sealed class ServiceManager(string? address)
{
    /// <summary>It started: whoever waits for it (<c>Before=</c>) may go on.</summary>
    /// <param name="problem">What it cannot do, or null.</param>
    public void Ready(string? problem) => Tell($"READY=1\nSTATUS={(problem ?? "watching").ReplaceLineEndings(" ")}");

    /// <summary>It ends.</summary>
    public void Stopping() => Tell("STOPPING=1");

    private void Tell(string state)
    {
        if (address is not ['/' or '@', _, ..])
        {
            return;
        }
        try
        {
            using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
            _ = socket.SendTo(Encoding.UTF8.GetBytes(state), new UnixDomainSocketEndPoint(address[0] == '@' ? $"\0{address[1..]}" : address));
        }
        catch (Exception e) when (e is SocketException or ArgumentException)
        {
            // Nobody listens there (or the name is too long): the agent's work does not depend on it.
        }
    }
}
