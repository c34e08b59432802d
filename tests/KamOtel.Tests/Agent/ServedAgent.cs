using System.Net;
using System.Net.Sockets;
using System.Text;
using KamOtel.Agent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KamOtel.Tests.Agent;

/// <summary>The agent's real host on a free port, with a watch loop that only turns.</summary>
internal sealed class ServedAgent : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly Loop _loop;

    private ServedAgent(WebApplication app, Loop loop) => (_app, _loop) = (app, loop);

    public AgentState State => _app.Services.GetRequiredService<AgentState>();

    /// <summary>Turns of the watch loop so far.</summary>
    public int Turns => _loop.Turns;

    public Uri Address => new(_app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single());

    public static async Task<ServedAgent> Start(Action<RunOptions>? set = null, Action<IServiceCollection>? services = null)
    {
        var options = new RunOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) };
        set?.Invoke(options);
        Loop? loop = null;
        WebApplication app = AgentHost.Build(options, story: null, s =>
        {
            _ = s.AddHostedService(p => loop = new Loop(p.GetRequiredService<AgentState>()));
            services?.Invoke(s);
        });
        await app.StartAsync(TestContext.Current.CancellationToken);
        return new ServedAgent(app, loop!);
    }

    /// <summary>Opens a connection, from one of this machine's own addresses, and says something.</summary>
    public async Task<Socket> Connect(string says = "", string from = "127.0.0.1", int receiveBuffer = 0)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        if (receiveBuffer > 0)
        {
            socket.ReceiveBufferSize = receiveBuffer;
        }
        socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
        await socket.ConnectAsync(IPAddress.Loopback, Address.Port, TestContext.Current.CancellationToken);
        if (says.Length > 0)
        {
            _ = await socket.SendAsync(Encoding.UTF8.GetBytes(says), TestContext.Current.CancellationToken);
        }
        return socket;
    }

    /// <summary>All that comes on a connection until it ends.</summary>
    public static async Task<string> ReadToEnd(Socket socket)
    {
        var text = new StringBuilder();
        byte[] buffer = new byte[16 * 1024];
        try
        {
            while (await socket.ReceiveAsync(buffer, TestContext.Current.CancellationToken).AsTask().WaitAsync(TimeSpan.FromSeconds(60), TestContext.Current.CancellationToken) is > 0 and var read)
            {
                _ = text.Append(Encoding.UTF8.GetString(buffer, 0, read));
            }
        }
        catch (SocketException)
        {
            // Reset is an end as well.
        }
        return text.ToString();
    }

    /// <summary>Says something and hears the answer, by a connection of its own.</summary>
    public async Task<string> Say(string request, string from = "127.0.0.1")
    {
        try
        {
            using Socket socket = await Connect(request, from);
            return await ReadToEnd(socket);
        }
        catch (SocketException)
        {
            // It was ended before all was said.
            return "";
        }
    }

    /// <summary>What one must be able to say after each attack: the loop goes on, and Prometheus gets an answer.</summary>
    public async Task ShouldGoOn(string from = "127.0.0.1")
    {
        int turns = Turns;
        for (int left = 600; Turns < turns + 2; left--)
        {
            left.ShouldBePositive("the watch loop does not turn any more");
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
        (await Say("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", from)).ShouldStartWith("HTTP/1.1 200 OK");
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();

    private sealed class Loop(AgentState state) : BackgroundService
    {
        private int _turns;

        public int Turns => Volatile.Read(ref _turns);

        protected override async Task ExecuteAsync(CancellationToken stoppingToken)
        {
            while (!stoppingToken.IsCancellationRequested)
            {
                state.SetNotReady(null);
                state.Turned();
                state.Publish(state.Current with { Time = DateTimeOffset.UtcNow });
                _ = Interlocked.Increment(ref _turns);
                await Task.Delay(20, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }
        }
    }
}
