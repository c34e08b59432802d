using Deque.AxeCore.Commons;
using Deque.AxeCore.Playwright;
using Microsoft.Playwright;

namespace KamOtel.EndToEndTests;

/// <summary>Chromium, which shows the agent's status page; one for all tests of a class.</summary>
public sealed class PageBrowser : IAsyncLifetime
{
    private IPlaywright? _playwright;
    private IBrowser? _browser;

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        Requirements.Program("chromium");
        _playwright = await Playwright.CreateAsync();
        _browser = await _playwright.Chromium.LaunchAsync(new() { ExecutablePath = "/usr/bin/chromium", Args = ["--no-sandbox"] });
    }

    /// <summary>A page of its own, at the address of an agent.</summary>
    internal async Task<ShownPage> Open(Uri address, string hash = "", int width = 1280)
    {
        IBrowserContext context = await _browser!.NewContextAsync(new() { ViewportSize = new() { Width = width, Height = 900 } });
        var shown = new ShownPage(await context.NewPageAsync(), address);
        await shown.Page.GotoAsync(new Uri(address, hash).ToString());
        return shown;
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_browser is not null)
        {
            await _browser.DisposeAsync();
        }
        _playwright?.Dispose();
    }
}

/// <summary>One open page, and what it did that a page must not do.</summary>
internal sealed class ShownPage : IAsyncDisposable
{
    private readonly List<string> _wrongs = [];

    public ShownPage(IPage page, Uri agent)
    {
        Page = page;
        page.SetDefaultTimeout((float)Until.Patience.TotalMilliseconds);
        page.Console += (_, message) =>
        {
            if (message.Type is "error" or "warning")
            {
                Blame($"console: {message.Text}");
            }
        };
        page.PageError += (_, error) => Blame($"script: {error}");
        page.Request += (_, request) =>
        {
            if (!request.Url.StartsWith(agent.ToString(), StringComparison.Ordinal))
            {
                Blame($"asked elsewhere: {request.Url}");
            }
        };
    }

    /// <summary>The page.</summary>
    public IPage Page { get; }

    /// <summary>Errors in the console and requests to others so far: there are none.</summary>
    public void ShouldBeInnocent()
    {
        lock (_wrongs)
        {
            _wrongs.ShouldBeEmpty();
        }
    }

    /// <summary>An agent that does not answer, or refuses a stream, is an error in the console, and no fault of the page.</summary>
    /// <param name="what">What the browser says of it.</param>
    public void Forgive(string what)
    {
        lock (_wrongs)
        {
            _wrongs.RemoveAll(wrong => wrong.StartsWith("console: ", StringComparison.Ordinal) && wrong.Contains(what, StringComparison.Ordinal));
        }
    }

    /// <summary>
    /// Nothing reaches beyond the screen's width, on the narrowest phone either; axe finds nothing in light or dark; and a
    /// picture of each stays.
    /// </summary>
    /// <param name="name">Of the pictures in <c>out/screenshots</c>.</param>
    public async Task ShouldBeAccessible(string name)
    {
        PageViewportSizeResult own = Page.ViewportSize!;
        foreach (ColorScheme scheme in (ColorScheme[])[ColorScheme.Light, ColorScheme.Dark])
        {
            // Without motion the colours are there at once.
            await Page.EmulateMediaAsync(new() { ColorScheme = scheme, ReducedMotion = ReducedMotion.Reduce });
            string shade = scheme == ColorScheme.Dark ? "dark" : "light";
            await Page.SetViewportSizeAsync(320, 640);
            await ShouldFit(name);
            await Picture($"{name}-phone-{shade}");
            await Page.SetViewportSizeAsync(own.Width, own.Height);
            await ShouldFit(name);
            await Picture($"{name}-{shade}");
            AxeResult found = await Page.RunAxe();
            found.Violations.Select(static v => $"{v.Id}: {v.Help}: {string.Join(" | ", v.Nodes.Take(3).Select(static n => n.Html))}")
                .ShouldBeEmpty($"{name}, {shade}");
            found.Passes.ShouldNotBeEmpty();
        }
    }

    /// <summary>A picture for the README, which <c>make pictures</c> takes over: of one part, or of the top of the page.</summary>
    public async Task ReadmePicture(string name, int width, string? part = null)
    {
        await Page.SetViewportSizeAsync(width, 600);
        await Page.EmulateMediaAsync(new() { ColorScheme = ColorScheme.Light });
        var options = new PageScreenshotOptions { Path = PictureFile($"readme-{name}") };
        if (part is not null)
        {
            const float Margin = 12;
            LocatorBoundingBoxResult box = (await Page.Locator(part).BoundingBoxAsync())!;
            options.FullPage = true;
            options.Clip = new() { X = box.X - Margin, Y = box.Y - Margin, Width = box.Width + 2 * Margin, Height = box.Height + 2 * Margin };
        }
        _ = await Page.ScreenshotAsync(options);
    }

    /// <summary>Waits until some part of the page has this text.</summary>
    public Task Says(string part, string words) => Page.Locator(part, new() { HasTextString = words }).First.WaitForAsync();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await Page.Context.DisposeAsync();

    private static string PictureFile(string name) => Path.Combine(Requirements.Repository, "out", "screenshots", $"{name}.png");

    private async Task Picture(string name) => await Page.ScreenshotAsync(new() { Path = PictureFile(name), FullPage = true });

    private async Task ShouldFit(string name) =>
        (await Page.EvaluateAsync<int>("document.documentElement.scrollWidth - innerWidth")).ShouldBeLessThanOrEqualTo(0, $"{name} is wider than a screen of {Page.ViewportSize!.Width}");

    private void Blame(string what)
    {
        lock (_wrongs)
        {
            _wrongs.Add(what);
        }
    }
}
