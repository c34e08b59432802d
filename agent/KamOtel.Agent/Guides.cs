using System.Collections.Concurrent;
using System.Net;
using System.Reflection;
using System.Text;
using Markdig;
using Markdig.Syntax;
using Markdig.Syntax.Inlines;

namespace KamOtel.Agent;

/// <summary>
/// The documentation of this very version, as pages: an alert's runbook is there wherever the agent is, also without a way
/// to the internet. Their paths are those of the repository: <c>docs/runbooks/hazard.md</c>.
/// </summary>
internal static class Guides
{
    private const string Prefix = "docs/";

    private static readonly Assembly Here = typeof(Guides).Assembly;

    private static readonly MarkdownPipeline Pipeline = new MarkdownPipelineBuilder().UsePipeTables().UseAutoIdentifiers(Markdig.Extensions.AutoIdentifiers.AutoIdentifierOptions.GitHub).Build();

    /// <summary>A page is made when it is asked for first.</summary>
    private static readonly ConcurrentDictionary<string, string> Pages = new(StringComparer.Ordinal);

    /// <summary>The paths of all of them, ordered: <c>docs/advice.md</c>, ….</summary>
    public static IReadOnlyList<string> Paths { get; } =
        [.. Here.GetManifestResourceNames().Where(static n => n.StartsWith(Prefix, StringComparison.Ordinal)).Order(StringComparer.Ordinal)];

    /// <summary>One of <see cref="Paths"/> as it is in the repository.</summary>
    public static string Text(string path)
    {
        using var reader = new StreamReader(Here.GetManifestResourceStream(path) ?? throw new ArgumentException($"there is no {path}", nameof(path)));
        return reader.ReadToEnd();
    }

    /// <summary>A guide as a page, or a list of them all for <c>docs/</c>; null when there is none at this path.</summary>
    public static string? Page(string path) =>
        path == Prefix ? Pages.GetOrAdd(path, static _ => Page(Contents(), Prefix))
        : path.EndsWith(".md", StringComparison.Ordinal) && Paths.Contains(path) ? Pages.GetOrAdd(path, static p => Page(Text(p), p))
        : null;

    /// <summary>Answers a request for one of them; a schema is answered as it is.</summary>
    public static Task AnswerAsync(HttpContext context)
    {
        string path = context.Request.Path.Value?.TrimStart('/') ?? "";
        if (path == "docs")
        {
            context.Response.Redirect("/docs/", permanent: true);
            return Task.CompletedTask;
        }
        if (Page(path) is { } page)
        {
            return Answer.SendAsync(context, "text/html; charset=utf-8", Encoding.UTF8.GetBytes(page));
        }
        if (Paths.Contains(path))
        {
            return Answer.SendAsync(context, "application/schema+json", Encoding.UTF8.GetBytes(Text(path)));
        }
        return Answer.RefuseAsync(context, StatusCodes.Status404NotFound, "there is no such guide; /docs/ lists them");
    }

    private static string Page(string text, string path)
    {
        MarkdownDocument document = Markdown.Parse(text, Pipeline);
        foreach (LinkInline link in document.Descendants<LinkInline>().ToArray())
        {
            // What is only in the repository cannot be followed here.
            if (link.Url is { } url && !IsHere(url, path))
            {
                _ = link.ReplaceBy(new EmphasisInline { DelimiterChar = '*', DelimiterCount = 1 }, copyChildren: true);
            }
        }
        string title = document.Descendants<HeadingBlock>().FirstOrDefault()?.Inline?.Descendants<LeafInline>() is { } words ? string.Concat(words.Select(Word)) : path;
        return $"""
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width, initial-scale=1">
            <meta name="color-scheme" content="light dark">
            <title>{WebUtility.HtmlEncode(title)} · KamOtel</title>
            <link rel="icon" href="/page/icon.svg">
            <link rel="stylesheet" href="/page/guide.css">
            </head>
            <body>
            <nav aria-label="KamOtel"><a href="/">Servers</a> <a href="/docs/">Guides</a></nav>
            <main>
            {document.ToHtml(Pipeline)}</main>
            </body>
            </html>

            """;
    }

    private static string Word(LeafInline word) => word switch
    {
        LiteralInline literal => literal.Content.ToString(),
        CodeInline code => code.Content,
        _ => "",
    };

    /// <summary>Another site, a place on this page, or another guide.</summary>
    private static bool IsHere(string url, string path)
    {
        var to = new Uri(new Uri("http://localhost/" + path), url);
        return to.Host != "localhost" || to.AbsolutePath == "/" + path || to.AbsolutePath == "/" || Paths.Contains(to.AbsolutePath[1..]);
    }

    private static string Contents() =>
        "# Guides\n\nRunbooks: what to do when an alert fires.\n\n" + List(static p => p.StartsWith("docs/runbooks/", StringComparison.Ordinal))
        + "\nAll else:\n\n" + List(static p => !p.StartsWith("docs/runbooks/", StringComparison.Ordinal));

    private static string List(Func<string, bool> which) =>
        string.Concat(Paths.Where(static p => p.EndsWith(".md", StringComparison.Ordinal)).Where(which).Select(static p => $"- [{Text(p).Split('\n')[0].TrimStart('#', ' ')}](/{p})\n"));
}
