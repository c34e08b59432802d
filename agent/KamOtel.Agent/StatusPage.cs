using System.Collections.Frozen;
using System.Reflection;
using System.Security.Cryptography;
using System.Text.Json;

namespace KamOtel.Agent;

/// <summary>
/// The status page: its files, what it asks for, and the stream of server-sent events that keeps it up to date. A stream has
/// the latest state or nothing: whoever reads slowly skips states, and holds up nobody.
/// </summary>
internal sealed class StatusPage(AgentState state, StatusReports reports, IHostApplicationLifetime lifetime)
{
    /// <summary>More pages than people have open; the connections of <c>/metrics</c> are not theirs to use up.</summary>
    public const int MaxStreams = 16;

    /// <summary>Nothing is sent again sooner.</summary>
    private static readonly TimeSpan Apart = TimeSpan.FromMilliseconds(500);

    private static readonly FrozenDictionary<string, Asset> Assets = Load();

    private int _streams;

    /// <summary>Silence after which a sign of life is sent.</summary>
    public TimeSpan BeatEvery { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Answers with one of the page's files.</summary>
    public static async Task AnswerAsync(HttpContext context)
    {
        string name = context.Request.RouteValues["name"] as string ?? "index.html";
        if (!Assets.TryGetValue(name, out Asset? asset))
        {
            await Answer.RefuseAsync(context, StatusCodes.Status404NotFound, "there is no such file");
            return;
        }
        context.Response.Headers.ETag = asset.Tag;
        context.Response.Headers.CacheControl = "no-cache";
        if (context.Request.Headers.IfNoneMatch.Contains(asset.Tag))
        {
            context.Response.StatusCode = StatusCodes.Status304NotModified;
            return;
        }
        await Answer.SendAsync(context, asset.Type, asset.Bytes);
    }

    /// <summary>Answers with all servers.</summary>
    public Task AnswerFleetAsync(HttpContext context) => Answer.SendJsonAsync(context, reports.Fleet());

    /// <summary>Answers with one server.</summary>
    public Task AnswerInstanceAsync(HttpContext context)
    {
        string id = context.Request.RouteValues["id"] as string ?? "";
        return reports.Instance(id) is { } json ? Answer.SendJsonAsync(context, json)
            : Answer.RefuseAsync(context, StatusCodes.Status404NotFound, "no server is known by this id: it ended long ago, or the agent was restarted");
    }

    /// <summary>Tells all changes until the reader goes or the agent stops.</summary>
    public async Task StreamAsync(HttpContext context)
    {
        if (HttpMethods.IsHead(context.Request.Method))
        {
            // Somebody wants to know whether there is a stream: an answer to it has an end.
            Begin(context);
            return;
        }
        if (Interlocked.Increment(ref _streams) > MaxStreams)
        {
            _ = Interlocked.Decrement(ref _streams);
            // A refused page shall not keep a connection that Prometheus needs.
            context.Response.Headers.Connection = "close";
            await Answer.RefuseAsync(context, StatusCodes.Status503ServiceUnavailable, $"{MaxStreams} pages are open already, and no more are kept up to date at a time: close one");
            return;
        }
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.RequestAborted, lifetime.ApplicationStopping);
        try
        {
            Begin(context);
            await TellAsync(context, context.Request.Query["instance"].ToString(), ending.Token);
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The reader went, was too slow, or the agent stops.
            context.Abort();
        }
        finally
        {
            _ = Interlocked.Decrement(ref _streams);
        }
    }

    private static void Begin(HttpContext context)
    {
        context.Response.ContentType = "text/event-stream; charset=utf-8";
        context.Response.Headers.CacheControl = "no-store";
    }

    private async Task TellAsync(HttpContext context, string instance, CancellationToken ending)
    {
        byte[]? toldFleet = null;
        byte[]? toldInstance = null;
        bool gone = false;
        long quietSince = 0;
        await Answer.WriteAsync(context, "retry: 2000\n\n"u8.ToArray(), ending);
        while (true)
        {
            AgentSnapshot seen = state.Current;
            long now = Environment.TickCount64;
            bool sent = false;
            byte[] fleet = reports.Fleet();
            if (!ReferenceEquals(fleet, toldFleet))
            {
                await SendAsync(context, "fleet", toldFleet = fleet, ending);
                sent = true;
            }
            if (instance.Length > 0)
            {
                byte[]? one = reports.Instance(instance);
                if (one is null ? !gone : toldInstance is null || !one.AsSpan().SequenceEqual(toldInstance))
                {
                    gone = one is null;
                    await SendAsync(context, gone ? "gone" : "instance", one ?? JsonSerializer.SerializeToUtf8Bytes(new GoneReport(instance), ReportJson.Compact.GoneReport), ending);
                    sent = true;
                }
                toldInstance = one;
            }
            if (!sent && now - quietSince >= BeatEvery.TotalMilliseconds)
            {
                await SendAsync(context, "beat", JsonSerializer.SerializeToUtf8Bytes(new BeatReport(DateTimeOffset.UtcNow), ReportJson.Compact.BeatReport), ending);
                sent = true;
            }
            if (sent)
            {
                quietSince = now;
            }
            await Task.Delay(Apart, ending);
            TimeSpan beat = BeatEvery - TimeSpan.FromMilliseconds(Environment.TickCount64 - quietSince);
            if (beat > TimeSpan.Zero)
            {
                _ = await Task.WhenAny(state.Changed(seen), Task.Delay(beat, ending));
            }
            ending.ThrowIfCancellationRequested();
        }
    }

    private static async Task SendAsync(HttpContext context, string name, byte[] data, CancellationToken cancellation)
    {
        await Answer.WriteAsync(context, System.Text.Encoding.ASCII.GetBytes($"event: {name}\ndata: "), cancellation);
        await Answer.WriteAsync(context, data, cancellation);
        await Answer.WriteAsync(context, "\n\n"u8.ToArray(), cancellation);
    }

    private static FrozenDictionary<string, Asset> Load()
    {
        const string prefix = "page/";
        Assembly here = typeof(StatusPage).Assembly;
        return here.GetManifestResourceNames().Where(static n => n.StartsWith(prefix, StringComparison.Ordinal)).ToFrozenDictionary(static n => n[prefix.Length..], resource =>
        {
            using Stream stream = here.GetManifestResourceStream(resource)!;
            byte[] bytes = new byte[stream.Length];
            stream.ReadExactly(bytes);
            string type = Path.GetExtension(resource) switch
            {
                ".html" => "text/html; charset=utf-8",
                ".css" => "text/css; charset=utf-8",
                ".js" => "text/javascript; charset=utf-8",
                ".svg" => "image/svg+xml",
                string other => throw new InvalidOperationException($"no content type is known for {other}"),
            };
            return new Asset(bytes, type, $"\"{Convert.ToHexStringLower(SHA256.HashData(bytes).AsSpan(0, 12))}\"");
        }, StringComparer.Ordinal);
    }

    private sealed record Asset(byte[] Bytes, string Type, string Tag);
}
