using System.Net;
using Microsoft.Extensions.Primitives;

namespace KamOtel.Agent;

/// <summary>Every request comes by here before any page: who asks, for whom, and by which name.</summary>
internal sealed class RequestGuard(RunOptions options, HttpAccess access)
{
    /// <summary>Answers it, or has it answered by <paramref name="next"/>.</summary>
    public async Task PassAsync(HttpContext context, RequestDelegate next)
    {
        context.Response.Headers.Server = AgentHost.ServerHeader;
        Answer.Secure(context);
        if (IsProbe(context.Request.Path))
        {
            await next(context);
        }
        else if (OtherName(context.Request) is { } name)
        {
            await Answer.RefuseAsync(context, StatusCodes.Status421MisdirectedRequest, name);
        }
        else if (IsOfAnotherSite(context.Request))
        {
            await Answer.RefuseAsync(context, StatusCodes.Status403Forbidden, "another web site's page may lead here, and may ask for nothing by itself");
        }
        else if (await access.RefusalAsync(context) is var (status, why))
        {
            await Answer.RefuseAsync(context, status, why);
        }
        else
        {
            await next(context);
        }
        if (context.Response is { HasStarted: false, ContentLength: null, StatusCode: StatusCodes.Status404NotFound })
        {
            await Answer.RefuseAsync(context, StatusCodes.Status404NotFound, "there is nothing at this path; there are / (the status page), /docs/, /metrics, /healthz, /readyz, /api/fleet, /api/instances/ID and /api/events");
        }
        else if (context.Response is { HasStarted: false, ContentLength: null, StatusCode: StatusCodes.Status405MethodNotAllowed })
        {
            await Answer.RefuseAsync(context, StatusCodes.Status405MethodNotAllowed, $"the agent can be looked at, and not be told anything: {context.Response.Headers.Allow} are taken");
        }
    }

    /// <summary>Whoever asks for these has neither a name for the agent nor a password: systemd, the kubelet, a load balancer.</summary>
    private static bool IsProbe(PathString path) => path == "/healthz" || path == "/readyz";

    /// <summary>
    /// A web site's own name may be made to lead to 127.0.0.1, and its scripts would read what this machine alone shall see. With
    /// an address for a name that cannot be done.
    /// </summary>
    private string? OtherName(HttpRequest request)
    {
        string host = request.Host.Host;
        return options.Listen is not { } listen || !IPAddress.IsLoopback(listen.Address) || host == "localhost" || IPAddress.TryParse(host.Trim('[', ']'), out _)
            ? null
            : $"this agent is for its own machine: ask for localhost or 127.0.0.1, not for {host}; or have it listen elsewhere with --listen";
    }

    /// <summary>
    /// Another site's page can have a browser ask, though not read the answer: it could take up all streams. Browsers say so to
    /// localhost and by HTTPS; elsewhere at least a script's request has its origin.
    /// </summary>
    private static bool IsOfAnotherSite(HttpRequest request)
    {
        bool isApi = request.Path.StartsWithSegments("/api", StringComparison.Ordinal);
        bool isVisit = request.Headers["Sec-Fetch-Mode"] == "navigate" && request.Headers["Sec-Fetch-Dest"] == "document";
        return (request.Headers["Sec-Fetch-Site"].ToString() is "cross-site" or "same-site" && (isApi || !isVisit))
            || (request.Headers.Origin is [{ } origin] && !(Uri.TryCreate(origin, UriKind.Absolute, out Uri? from) && from.Authority == request.Host.Value));
    }
}
