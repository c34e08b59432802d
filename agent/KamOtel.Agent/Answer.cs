using System.Text.Json;

namespace KamOtel.Agent;

/// <summary>How an answer is written: in pieces, so that a slow reader holds little memory, and not for long.</summary>
internal static class Answer
{
    /// <summary>The most that is written before it is waited for; the server copies what it is given at once.</summary>
    public const int PieceBytes = 16 * 1024;

    private const string Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /// <summary>A reader that has not taken a piece by then is gone.</summary>
    private static readonly TimeSpan PieceWithin = TimeSpan.FromSeconds(10);

    /// <summary>Nothing that is served may be run, framed or read by another site.</summary>
    public static void Secure(HttpContext context)
    {
        IHeaderDictionary headers = context.Response.Headers;
        headers.ContentSecurityPolicy = Policy;
        headers.XContentTypeOptions = "nosniff";
        headers["Referrer-Policy"] = "no-referrer";
        headers["Cross-Origin-Resource-Policy"] = "same-origin";
    }

    /// <summary>The whole answer.</summary>
    public static async Task SendAsync(HttpContext context, string type, ReadOnlyMemory<byte> body)
    {
        context.Response.ContentType = type;
        context.Response.ContentLength = body.Length;
        if (HttpMethods.IsHead(context.Request.Method))
        {
            return;
        }
        try
        {
            await WriteAsync(context, body, context.RequestAborted);
        }
        catch (OperationCanceledException)
        {
            // The reader went, or was too slow.
            context.Abort();
        }
    }

    /// <summary>The whole answer, as JSON of this moment.</summary>
    public static Task SendJsonAsync(HttpContext context, ReadOnlyMemory<byte> json)
    {
        context.Response.Headers.CacheControl = "no-store";
        return SendAsync(context, "application/json; charset=utf-8", json);
    }

    /// <summary>A part of the answer.</summary>
    /// <exception cref="OperationCanceledException">The reader does not take it.</exception>
    public static Task WriteAsync(HttpContext context, ReadOnlyMemory<byte> bytes, CancellationToken cancellation) =>
        WriteAsync(context.Response.Body, bytes, PieceWithin, cancellation);

    /// <summary>Writes piece by piece: a reader that takes each of them <paramref name="within"/> this time gets all, however long it takes.</summary>
    /// <exception cref="OperationCanceledException">The reader does not take it.</exception>
    public static async Task WriteAsync(Stream to, ReadOnlyMemory<byte> bytes, TimeSpan within, CancellationToken cancellation)
    {
        while (bytes.Length > 0)
        {
            ReadOnlyMemory<byte> piece = bytes[..Math.Min(bytes.Length, PieceBytes)];
            using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            ending.CancelAfter(within);
            // The server's stream flushes, and waits for the reader where much is waiting already.
            await to.WriteAsync(piece, ending.Token);
            bytes = bytes[piece.Length..];
        }
    }

    /// <summary>Says why not: to a program as JSON, to others as text.</summary>
    public static Task RefuseAsync(HttpContext context, int status, string why)
    {
        context.Response.StatusCode = status;
        return context.Request.Path.StartsWithSegments("/api", StringComparison.Ordinal)
            ? SendJsonAsync(context, JsonSerializer.SerializeToUtf8Bytes(new ErrorReport(why), ReportJson.Compact.ErrorReport))
            : SendAsync(context, "text/plain; charset=utf-8", System.Text.Encoding.UTF8.GetBytes(why + "\n"));
    }
}
