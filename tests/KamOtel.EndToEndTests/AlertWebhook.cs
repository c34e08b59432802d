using System.Collections.Concurrent;
using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;

namespace KamOtel.EndToEndTests;

/// <summary>An alert as Alertmanager told it.</summary>
/// <param name="Status"><c>firing</c> or <c>resolved</c>.</param>
/// <param name="Labels">Its labels, <c>alertname</c> among them.</param>
/// <param name="Annotations">Its annotations.</param>
internal sealed record ToldAlert(string Status, IReadOnlyDictionary<string, string> Labels, IReadOnlyDictionary<string, string> Annotations)
{
    /// <summary>For messages.</summary>
    public override string ToString() => $"{Status} {string.Join(' ', Labels.Select(static label => $"{label.Key}={label.Value}"))}";
}

/// <summary>What an operator's pager would be: it keeps each alert that Alertmanager tells, in order.</summary>
internal sealed class AlertWebhook : IAsyncDisposable
{
    private readonly WebApplication _application;
    private readonly ConcurrentQueue<ToldAlert> _told;

    private AlertWebhook(WebApplication application, ConcurrentQueue<ToldAlert> told)
    {
        _application = application;
        _told = told;
        Address = new Uri(application.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.Single());
    }

    /// <summary>Where it takes them.</summary>
    public Uri Address { get; }

    /// <summary>All so far.</summary>
    public ToldAlert[] Told => [.. _told];

    /// <summary>Starts it on a free port of loopback.</summary>
    public static async Task<AlertWebhook> Start()
    {
        WebApplicationBuilder builder = WebApplication.CreateSlimBuilder();
        _ = builder.Logging.ClearProviders();
        _ = builder.WebHost.ConfigureKestrel(static options => options.Listen(IPAddress.Loopback, 0));
        WebApplication application = builder.Build();
        var told = new ConcurrentQueue<ToldAlert>();
        _ = application.MapPost("/", async (HttpRequest request) =>
        {
            using JsonDocument message = await JsonDocument.ParseAsync(request.Body);
            foreach (JsonElement alert in message.RootElement.GetProperty("alerts").EnumerateArray())
            {
                told.Enqueue(new ToldAlert(alert.GetProperty("status").GetString()!, Texts(alert.GetProperty("labels")), Texts(alert.GetProperty("annotations"))));
            }
        });
        await application.StartAsync();
        return new AlertWebhook(application, told);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _application.DisposeAsync();

    private static Dictionary<string, string> Texts(JsonElement texts) =>
        texts.EnumerateObject().ToDictionary(static text => text.Name, static text => text.Value.GetString()!);
}
