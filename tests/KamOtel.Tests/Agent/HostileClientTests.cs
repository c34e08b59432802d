using System.Net;
using System.Net.Sockets;
using System.Text;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;

namespace KamOtel.Tests.Agent;

/// <summary>Whoever reaches the address does what they like; the watch loop goes on, and Prometheus gets its answers.</summary>
[Collection("meters")]
public sealed class HostileClientTests
{
    private const string Metrics = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

    [Fact]
    public async Task One_who_asks_and_never_reads_holds_up_nobody()
    {
        await using ServedAgent agent = await ServedAgent.Start();
        var sockets = new List<Socket>();
        // More answers than all buffers between here and there hold.
        string asked = string.Concat(Enumerable.Repeat(Metrics, 400));
        for (int i = 0; i < 8; i++)
        {
            sockets.Add(await agent.Connect(asked, receiveBuffer: 4096));
        }
        for (int i = 0; i < 20; i++)
        {
            await agent.ShouldGoOn();
        }
        sockets.ForEach(static s => s.Dispose());
    }

    [Fact]
    public async Task One_who_never_finishes_asking_is_ended()
    {
        // The real patience is seconds; it is there, and it works with less.
        var real = new KestrelServerOptions();
        KamOtel.Agent.HttpAccess.Load(new()).Configure(real);
        real.Limits.RequestHeadersTimeout.ShouldBe(TimeSpan.FromSeconds(5));

        await using ServedAgent agent = await ServedAgent.Start(services: static s => s.Configure<KestrelServerOptions>(static k => k.Limits.RequestHeadersTimeout = TimeSpan.FromMilliseconds(200)));
        using Socket socket = await agent.Connect("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
        Task<string> answer = ServedAgent.ReadToEnd(socket);
        while (!answer.IsCompleted)
        {
            try
            {
                _ = await socket.SendAsync("x"u8.ToArray(), TestContext.Current.CancellationToken);
            }
            catch (SocketException)
            {
                break;
            }
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
        (await answer).ShouldStartWith("HTTP/1.1 408 Request Timeout");
        await agent.ShouldGoOn();
    }

    [Fact]
    public async Task A_thousand_connections_of_one_address_leave_room_for_others()
    {
        await using ServedAgent agent = await ServedAgent.Start();
        var sockets = new List<Socket>();
        for (int i = 0; i < 1000; i++)
        {
            try
            {
                sockets.Add(await agent.Connect());
            }
            catch (SocketException)
            {
                // Refused so soon.
            }
        }
        await agent.ShouldGoOn(from: "127.0.0.2");
        sockets.ForEach(static s => s.Dispose());
        // And for the same one, when they are gone.
        for (int left = 200; !(await agent.Say("GET /healthz HTTP/1.0\r\n\r\n")).Contains("alive", StringComparison.Ordinal); left--)
        {
            left.ShouldBePositive("the connections are not given back");
            await Task.Delay(20, TestContext.Current.CancellationToken);
        }
    }

    [Theory]
    [InlineData("BREW /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405)]
    [InlineData("OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405)]
    [InlineData("TRACE /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 405)]
    [InlineData("CONNECT other.example:443 HTTP/1.1\r\nHost: other.example:443\r\nConnection: close\r\n\r\n", 421)]
    [InlineData("GET http://other.example/metrics HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n", 421)]
    [InlineData("POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n", 405)]
    [InlineData("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", 400)]
    [InlineData("GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: other.example\r\nConnection: close\r\n\r\n", 400)]
    [InlineData("GET /metrics HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n", 400)]
    [InlineData("GET /metrics HTTP/9.9\r\nHost: localhost\r\nConnection: close\r\n\r\n", 505)]
    [InlineData("\u0016\u0003\u0001\u0000\u0005hello", 400)]
    [InlineData("GET /metrics\r\n\r\n", 400)]
    [InlineData("GET /\u0000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400)]
    public async Task What_is_no_request_for_a_page_is_refused(string request, int status)
    {
        await using ServedAgent agent = await ServedAgent.Start();
        (await agent.Say(request)).ShouldStartWith($"HTTP/1.1 {status} ");
        await agent.ShouldGoOn();
    }

    [Fact]
    public async Task Huge_requests_are_refused()
    {
        await using ServedAgent agent = await ServedAgent.Start();
        string much = new('x', 200_000);
        (await agent.Say($"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Much: {much}\r\n\r\n")).ShouldStartWith("HTTP/1.1 431 ");
        (await agent.Say($"GET /{much} HTTP/1.1\r\nHost: localhost\r\n\r\n")).ShouldStartWith("HTTP/1.1 414 ");
        string many = string.Concat(Enumerable.Range(0, 1000).Select(static i => $"X-{i}: y\r\n"));
        (await agent.Say($"GET /metrics HTTP/1.1\r\nHost: localhost\r\n{many}\r\n")).ShouldStartWith("HTTP/1.1 431 ");
        await agent.ShouldGoOn();
    }

    [Theory]
    [InlineData("/docs/../../etc/passwd")]
    [InlineData("/docs/%2e%2e/%2e%2e/etc/passwd")]
    [InlineData("/docs/..%2f..%2fetc%2fpasswd")]
    [InlineData("/docs//etc/passwd")]
    [InlineData("/docs/..%5c..%5cetc%5cpasswd")]
    [InlineData("/docs/file:///etc/passwd")]
    [InlineData("/page/../../../etc/passwd")]
    [InlineData("/page/..%2f..%2fetc%2fpasswd")]
    [InlineData("/page/%2fetc%2fpasswd")]
    [InlineData("/page/page.js%00.html")]
    [InlineData("/api/instances/..%2f..%2fetc%2fpasswd")]
    public async Task No_path_leads_to_a_file_of_this_machine(string path)
    {
        await using ServedAgent agent = await ServedAgent.Start();
        string answer = await agent.Say($"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        answer.Split(' ')[1].ShouldBeOneOf("400", "404");
        answer.ShouldNotContain("root:");
    }

    [Fact]
    public async Task Guessing_passwords_is_answered_without_trying_them_and_prometheus_goes_on()
    {
        string users = Path.GetTempFileName();
        await File.WriteAllTextAsync(users, $"prometheus:{BCrypt.Net.BCrypt.HashPassword("right", 4)}\n", TestContext.Current.CancellationToken);
        await using ServedAgent agent = await ServedAgent.Start(o => o.BasicAuth = users);
        (await Ask("right")).ShouldStartWith("HTTP/1.1 200 ");
        string[] guesses = await Task.WhenAll(Enumerable.Range(0, 30).Select(i => Ask($"guess {i}", "127.0.0.3")));
        guesses.Count(static g => g.StartsWith("HTTP/1.1 401 ", StringComparison.Ordinal)).ShouldBe(1, "the first is tried, and the address has to wait");
        guesses.Count(static g => g.StartsWith("HTTP/1.1 429 ", StringComparison.Ordinal)).ShouldBe(29);
        guesses.ShouldAllBe(static g => !g.Contains("kamotel_", StringComparison.Ordinal));
        (await Ask("right", "127.0.0.3")).ShouldStartWith("HTTP/1.1 200 ");
        File.Delete(users);

        Task<string> Ask(string password, string from = "127.0.0.1") =>
            agent.Say($"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {Convert.ToBase64String(Encoding.UTF8.GetBytes($"prometheus:{password}"))}\r\nConnection: close\r\n\r\n", from);
    }
}
