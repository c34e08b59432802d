using System.Net;
using System.Net.Sockets;
using KamOtel.Agent;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;

namespace KamOtel.Tests.Agent;

/// <summary>The pages, with nothing watched: a hand that moves what the watch loop would move.</summary>
[Collection("meters")]
public sealed class AgentHostTests
{
    [Fact]
    public async Task Readiness_says_what_is_missing()
    {
        await using WebApplication app = await Start();
        AgentState state = app.Services.GetRequiredService<AgentState>();
        using HttpClient client = Client(app);

        (await Get(client, "/healthz")).ShouldBe((HttpStatusCode.OK, "alive\n"));
        (await Get(client, "/readyz")).ShouldBe((HttpStatusCode.ServiceUnavailable, "the watch loop has not started\n"));
        state.SetNotReady(null);
        state.Turned();
        (await Get(client, "/readyz")).ShouldBe((HttpStatusCode.OK, "ready\n"));
        state.SetNotReady("the watch loop failed: disk on fire");
        (await Get(client, "/readyz")).ShouldBe((HttpStatusCode.ServiceUnavailable, "the watch loop failed: disk on fire\n"));
    }

    [Fact]
    public async Task A_loop_that_does_not_turn_is_not_ready()
    {
        await using WebApplication app = await Start();
        app.Services.GetRequiredService<AgentState>().SetNotReady(null); // Attached, and never turned.
        using HttpClient client = Client(app);
        (HttpStatusCode status, string body) = await Get(client, "/readyz");
        status.ShouldBe(HttpStatusCode.ServiceUnavailable);
        body.ShouldStartWith("the watch loop has not turned for ");
    }

    [Fact]
    public async Task The_other_pages_and_methods_are_not_there()
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        (await Get(client, "/metric")).Status.ShouldBe(HttpStatusCode.NotFound);
        using HttpResponseMessage posted = await client.PostAsync(new Uri("/metrics", UriKind.Relative), content: null, TestContext.Current.CancellationToken);
        posted.StatusCode.ShouldBe(HttpStatusCode.MethodNotAllowed);
        posted.Headers.Server.ToString().ShouldBe(AgentHost.ServerHeader, "and no version");
        (await Get(client, "/nothing")).Status.ShouldBe(HttpStatusCode.NotFound);
    }

    [Theory]
    [InlineData(null, "text/plain", false)]
    [InlineData("text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text/plain", false)]
    [InlineData("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/openmetrics-text", true)]
    public async Task Who_takes_OpenMetrics_gets_it(string? accept, string type, bool endMarked)
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri("/metrics", UriKind.Relative));
        if (accept is not null)
        {
            request.Headers.Add("Accept", accept);
        }
        using HttpResponseMessage response = await client.SendAsync(request, TestContext.Current.CancellationToken);
        response.Content.Headers.ContentType!.MediaType.ShouldBe(type);
        (await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken)).EndsWith("# EOF\n", StringComparison.Ordinal).ShouldBe(endMarked);
    }

    [Theory]
    [InlineData("/", HttpStatusCode.OK)]
    [InlineData("/metrics", HttpStatusCode.OK)]
    [InlineData("/healthz", HttpStatusCode.OK)]
    [InlineData("/readyz", HttpStatusCode.ServiceUnavailable)]
    public async Task Who_asks_only_for_the_head_gets_the_same_answer_without_a_body(string path, HttpStatusCode status)
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        using var request = new HttpRequestMessage(HttpMethod.Head, path);
        using HttpResponseMessage response = await client.SendAsync(request, TestContext.Current.CancellationToken);
        response.StatusCode.ShouldBe(status);
        (await response.Content.ReadAsByteArrayAsync(TestContext.Current.CancellationToken)).ShouldBeEmpty();
    }

    [Fact]
    public async Task Many_scrapes_at_once_agree()
    {
        await using WebApplication app = await Start();
        using HttpClient client = Client(app);
        (HttpStatusCode Status, string Body)[] scrapes = await Task.WhenAll(Enumerable.Range(0, 32).Select(_ => Get(client, "/metrics")));
        scrapes.ShouldAllBe(static s => s.Status == HttpStatusCode.OK && s.Body.Contains("kamotel_build_info{"));
    }

    [Fact]
    public async Task A_service_that_fails_the_start_ends_the_others_in_order()
    {
        using var taken = new TcpListener(IPAddress.Loopback, 0);
        taken.Start();
        var watched = new Watch();
        await using (WebApplication app = AgentHost.Build(
            new RunOptions { Listen = (IPEndPoint)taken.LocalEndpoint }, story: null, services => services.AddHostedService(_ => watched)))
        {
            _ = await Should.ThrowAsync<IOException>(() => app.StartAsync(TestContext.Current.CancellationToken));
        }
        watched.Disposed.ShouldBeTrue();
    }

    private static async Task<WebApplication> Start()
    {
        WebApplication app = AgentHost.Build(new RunOptions { Listen = new IPEndPoint(IPAddress.Loopback, 0) }, story: null, static _ => { });
        await app.StartAsync();
        return app;
    }

    private static HttpClient Client(WebApplication app) => new()
    {
        BaseAddress = new Uri(app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single()),
    };

    private static async Task<(HttpStatusCode Status, string Body)> Get(HttpClient client, string path)
    {
        using HttpResponseMessage response = await client.GetAsync(new Uri(path, UriKind.Relative), TestContext.Current.CancellationToken);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(TestContext.Current.CancellationToken));
    }

    private sealed class Watch : IHostedService, IDisposable
    {
        public bool Disposed { get; private set; }

        public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public void Dispose() => Disposed = true;
    }
}
