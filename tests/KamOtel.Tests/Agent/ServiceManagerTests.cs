using System.Net.Sockets;
using System.Text;
using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

/// <summary>What the service manager is told, by a socket as it has one.</summary>
public sealed class ServiceManagerTests
{
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void It_hears_of_the_start_and_of_the_end(bool isAbstract)
    {
        string name = Path.Combine(Path.GetTempPath(), $"kamotel-notify.{Guid.NewGuid():N}");
        using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { ReceiveTimeout = 5000 };
        socket.Bind(new UnixDomainSocketEndPoint(isAbstract ? $"\0{name}" : name));
        try
        {
            var manager = new ServiceManager(isAbstract ? $"@{name}" : name);
            manager.Ready(problem: null);
            Received(socket).ShouldBe("READY=1\nSTATUS=watching");
            manager.Ready("no probe\ncould be attached");
            Received(socket).ShouldBe("READY=1\nSTATUS=no probe could be attached");
            manager.Stopping();
            Received(socket).ShouldBe("STOPPING=1");
        }
        finally
        {
            File.Delete(name);
        }
    }

    [Fact]
    public void The_watchdog_hears_of_the_loop_in_half_its_time_and_only_when_it_turns()
    {
        string name = $"kamotel-watchdog.{Guid.NewGuid():N}";
        using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified) { Blocking = false };
        socket.Bind(new UnixDomainSocketEndPoint($"\0{name}"));
        ServiceManager manager = Manager(("NOTIFY_SOCKET", $"@{name}"), ("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7"));
        var heard = new List<long>();
        foreach (long now in (long[])[0, 1, 14_999, 15_000, 29_999, 45_000])
        {
            manager.Turned(now);
            if (socket.Available > 0)
            {
                Received(socket).ShouldBe("WATCHDOG=1");
                heard.Add(now);
            }
        }
        heard.ShouldBe([0, 15_000, 45_000]);
    }

    [Theory]
    [InlineData(null, null)]
    [InlineData("", "7")]
    [InlineData("0", "7")]
    [InlineData("-1", "7")]
    [InlineData("soon", "7")]
    [InlineData("30000000", "8")]
    public void Without_a_watchdog_of_its_own_it_tells_nothing(string? microseconds, string? pid)
    {
        string name = $"kamotel-watchdog.{Guid.NewGuid():N}";
        using var socket = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        socket.Bind(new UnixDomainSocketEndPoint($"\0{name}"));
        Manager(("NOTIFY_SOCKET", $"@{name}"), ("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", pid)).Turned(0);
        socket.Available.ShouldBe(0);
    }

    private static ServiceManager Manager(params (string Name, string? Value)[] variables) =>
        ServiceManager.From(name => variables.FirstOrDefault(v => v.Name == name).Value, pid: 7);

    [Theory]
    [InlineData(null)]
    [InlineData("")]
    [InlineData("@")]
    [InlineData("vsock:2:1234")]
    [InlineData("/nonexistent/socket")]
    public void Nobody_need_listen(string? address)
    {
        new ServiceManager(address).Ready(problem: null);
        new ServiceManager(address).Stopping();
    }

    [Fact]
    public void A_name_that_no_socket_can_have_does_no_harm() => new ServiceManager($"/{new string('x', 200)}").Stopping();

    private static string Received(Socket socket)
    {
        byte[] buffer = new byte[1024];
        return Encoding.UTF8.GetString(buffer, 0, socket.Receive(buffer));
    }
}
