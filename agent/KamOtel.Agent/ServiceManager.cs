using System.Globalization;
using System.Net.Sockets;
using System.Text;

namespace KamOtel.Agent;

/// <summary>Tells the service manager that started the agent how it is: systemd's notification protocol (sd_notify).</summary>
/// <param name="address">What NOTIFY_SOCKET names: a path, or with @ an abstract socket; null or empty: nobody listens.</param>
/// <param name="patience">After so long a silence it ends the agent and starts it anew (<c>WatchdogSec=</c>); null: it never does.</param>
internal sealed class ServiceManager(string? address, TimeSpan? patience = null)
{
    private long? _turned;

    /// <summary>The one that the environment names.</summary>
    /// <param name="variable">Looks a variable up: NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID.</param>
    /// <param name="pid">Our own process: another's watchdog is not ours, though its variables were inherited.</param>
    public static ServiceManager From(Func<string, string?> variable, int pid)
    {
        bool ours = variable("WATCHDOG_PID") is not { Length: > 0 } watched || watched == pid.ToString(CultureInfo.InvariantCulture);
        TimeSpan? patience = ours && long.TryParse(variable("WATCHDOG_USEC"), NumberStyles.None, CultureInfo.InvariantCulture, out long microseconds) && microseconds > 0
            ? TimeSpan.FromMicroseconds(microseconds)
            : null;
        return new(variable("NOTIFY_SOCKET"), patience);
    }

    /// <summary>It started: whoever waits for it (<c>Before=</c>) may go on.</summary>
    /// <param name="problem">What it cannot do, or null.</param>
    public void Ready(string? problem) => Tell($"READY=1\nSTATUS={(problem ?? "watching").ReplaceLineEndings(" ")}");

    /// <summary>The watch loop turned: nothing else counts as life. Told twice as often as it must be. Watch loop only.</summary>
    /// <param name="now">The time, in milliseconds.</param>
    public void Turned(long now)
    {
        if (patience is { } limit && (_turned is not { } last || now - last >= limit.TotalMilliseconds / 2))
        {
            _turned = now;
            Tell("WATCHDOG=1");
        }
    }

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
