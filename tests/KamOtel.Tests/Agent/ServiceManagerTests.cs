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
