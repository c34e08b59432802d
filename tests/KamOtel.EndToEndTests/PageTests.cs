using System.Globalization;
using System.Text.Json;
using Microsoft.Playwright;

namespace KamOtel.EndToEndTests;

/// <summary>The status page in a real browser.</summary>
public sealed class PageTests(PageBrowser browser) : IClassFixture<PageBrowser>
{
    [Fact]
    public async Task The_page_follows_a_server_from_its_start_to_its_end_and_says_when_the_agent_is_gone()
    {
        string name = ServerName.New();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using AgentProcess agent = await AgentProcess.Start(options: ["--watch", name]);
        await using ShownPage shown = await browser.Open(agent.Address);
        IPage page = shown.Page;
        await shown.Says(".empty", "No server is running");
        await shown.Says(".empty", name);
        await shown.ShouldBeAccessible("empty");

        int root = await server.StartAs(name);
        ILocator row = page.Locator("tr[data-verdict=hazard]", new() { HasTextString = server.Configuration });
        await row.WaitForAsync();
        await shown.Says("#say", $"{server.Configuration}: hazard");
        (await page.Locator(".empty").First.IsVisibleAsync()).ShouldBeFalse();
        await shown.Says("tr[data-verdict=hazard] .authors", "tls");

        await row.GetByRole(AriaRole.Link).ClickAsync();
        await shown.Says(".headline h1", server.Configuration);
        (await page.Locator(".headline .badge").InnerTextAsync()).ShouldBe("hazard");
        (await page.TitleAsync()).ShouldStartWith($"hazard: {server.Configuration}");
        int slots = await page.Locator(".slot").CountAsync();
        slots.ShouldBeGreaterThan(0);
        // Who shares is tied by a letter on its row and by a dot on the letter's lane.
        await page.Locator($".row[data-pid='{root}'] .chip[data-slot=A]").WaitForAsync();
        int holders = await page.Locator(".row .chip[data-slot=A]").CountAsync();
        holders.ShouldBe(1 + Proc.Descendants(root).Length);
        (await page.Locator(".lane[data-slot=A] circle").CountAsync()).ShouldBe(holders);
        (await page.Locator(".slot .path").First.InnerTextAsync()).ShouldContain("tls");
        (await page.Locator(".todo li").CountAsync()).ShouldBeGreaterThan(0);
        await page.Locator(".story [data-kind=ready]").WaitForAsync();
        await page.Locator(".story [data-kind=fork]").First.WaitForAsync();
        await shown.ShouldBeAccessible("hazard");

        // What somebody reads stays as it is while the server goes on: an open fold, the focus, the place.
        await page.Locator(".slot details summary").First.ClickAsync();
        await page.Locator(".slot button.pick").First.FocusAsync();
        double place = await page.EvaluateAsync<double>("scrollTo(0, 300), scrollY");
        _ = await server.Stop();
        await page.Locator(".headline .ended").WaitForAsync();
        await shown.Says(".story", "ended");
        (await page.Locator(".slot details").First.GetAttributeAsync("open")).ShouldNotBeNull();
        (await page.EvaluateAsync<bool>("document.activeElement.matches('button.pick')")).ShouldBeTrue();
        (await page.EvaluateAsync<double>("scrollY")).ShouldBe(place, 1);
        (await page.Locator(".headline .badge").InnerTextAsync()).ShouldBe("hazard");
        await shown.ShouldBeAccessible("ended");
        shown.ShouldBeInnocent();

        _ = await agent.Terminate();
        await shown.Says(".banner", "Connection lost since");
        await page.Locator("body[data-stale]").WaitForAsync();
        (await page.TitleAsync()).ShouldStartWith("Connection lost");
        await shown.ShouldBeAccessible("lost");
        await using RunningProgram again = AgentProcess.Launch(agent.Address.Port, options: ["--watch", name]);
        await page.Locator("#connection[data-state=live]").WaitForAsync();
        (await page.Locator(".banner").IsVisibleAsync()).ShouldBeFalse();
        (await page.Locator("body[data-stale]").CountAsync()).ShouldBe(0);
        // The new agent has never seen that server, and the page does not go on as if it had.
        await shown.Says(".one .empty", "not known any more");
        shown.Forgive();
        shown.ShouldBeInnocent();
        again.Send(Signal.Terminate);
        _ = await again.End();
    }

    [Fact]
    public async Task What_an_agent_cannot_read_is_unknown_and_does_not_look_safe()
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        string name = ServerName.New();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        _ = await server.StartAs(name);
        var address = new Uri($"http://127.0.0.1:{Scratch.FreePort()}");
        await using RunningProgram agent = RunningProgram.Start(
            "setpriv", ["--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace", "--", Requirements.Binary, "run", "--watch", name, "--listen", address.Authority]);
        using var client = new HttpClient { BaseAddress = address };
        await Until.True(
            "the agent to answer",
            async () =>
            {
                try
                {
                    return (await client.GetStringAsync(new Uri("/api/fleet", UriKind.Relative))).Contains($"\"target\":\"{name}\"", StringComparison.Ordinal);
                }
                catch (HttpRequestException)
                {
                    agent.Alive.ShouldBeTrue(agent.ToString());
                    return false;
                }
            },
            state: agent.ToString);
        await using ShownPage shown = await browser.Open(address, width: 390);

        ILocator row = shown.Page.Locator("tr", new() { HasTextString = name });
        await row.WaitForAsync();
        (await row.Locator(".badge").InnerTextAsync()).ShouldBe("unknown");
        (await row.Locator(".shared").InnerTextAsync()).ShouldContain("not known");
        (await row.Locator(".badge use").GetAttributeAsync("href")).ShouldBe("#unknown");
        await shown.ShouldBeAccessible("blind");
        await row.GetByRole(AriaRole.Link).ClickAsync();
        await shown.Says(".headline h1", name);
        await shown.Says(".row[data-holding=unknown]", "?");
        (await shown.Page.Locator(".gaps li").CountAsync()).ShouldBeGreaterThan(0);
        await shown.ShouldBeAccessible("blind-server");
        shown.ShouldBeInnocent();
        agent.Send(Signal.Terminate);
        _ = await agent.End();
    }

    [Fact]
    public async Task A_hundred_servers_are_found_by_word_and_verdict_and_a_hostile_name_is_only_text()
    {
        Requirements.Agent();
        using var scratch = new Scratch();
        FleetRecording.Write(scratch["fleet.kamotel"], 100);
        var address = new Uri($"http://127.0.0.1:{Scratch.FreePort()}");
        await using RunningProgram agent = RunningProgram.Start(Requirements.Binary, ["replay", scratch["fleet.kamotel"], "--listen", address.Authority]);
        await Until.True("the replay to be served", () => agent.Output.Contains("VERDICT", StringComparison.Ordinal), state: agent.ToString);
        await using ShownPage shown = await browser.Open(address, width: 320);
        IPage page = shown.Page;

        ILocator rows = page.Locator("tbody tr:visible");
        await rows.Nth(99).WaitForAsync();
        (await rows.CountAsync()).ShouldBe(100);
        await shown.Says(".notice", "A recording: fleet.kamotel");
        await shown.ShouldBeAccessible("hundred");
        int hazards = await page.Locator("tbody tr[data-verdict=hazard]").CountAsync();
        hazards.ShouldBeInRange(1, 99);
        (await page.Locator("tbody tr").First.GetAttributeAsync("data-verdict")).ShouldBe("hazard");
        ILocator count = page.Locator(".counts button", new() { HasTextString = "hazard" });
        (await count.InnerTextAsync()).ShouldContain(hazards.ToString(CultureInfo.InvariantCulture));
        await count.ClickAsync();
        (await rows.CountAsync()).ShouldBe(hazards);
        await page.GetByLabel("Filter").FillAsync("edge-07");
        (await rows.CountAsync()).ShouldBe(1);
        await page.GetByRole(AriaRole.Button, new() { Name = "Show all" }).ClickAsync();
        (await rows.CountAsync()).ShouldBe(100);

        await page.GetByLabel("Filter").FillAsync("onerror");
        (await rows.CountAsync()).ShouldBe(1);
        (await rows.GetByRole(AriaRole.Link).InnerTextAsync()).ShouldBe("<img src=x onerror=alert(1)>\\u{202e}gfc");
        await rows.GetByRole(AriaRole.Link).PressAsync("Enter");
        await shown.Says(".headline h1", "<img src=x");
        (await page.Locator("img").CountAsync()).ShouldBe(1, "only the brand's");
        await shown.ShouldBeAccessible("hostile");
        await page.GoBackAsync();
        (await rows.CountAsync()).ShouldBe(1, "the filter stays");
        shown.ShouldBeInnocent();

        await Measure(page);
        agent.Send(Signal.Terminate);
        _ = await agent.End();
    }

    /// <summary>How fast the page is with these servers, for people to read: speed depends on the machine and is no assertion.</summary>
    private static async Task Measure(IPage page)
    {
        await page.ReloadAsync();
        await page.Locator("tbody tr").Nth(99).WaitForAsync(new() { State = WaitForSelectorState.Attached });
        JsonElement figures = await page.EvaluateAsync<JsonElement>(
            """
            async () => {
              const paint = performance.getEntriesByType('paint').find((entry) => entry.name === 'first-contentful-paint');
              const { fleetView } = await import('/page/fleet.js');
              const fleet = await (await fetch('/api/fleet')).json();
              const view = fleetView();
              document.body.append(view.node);
              const cost = (act) => { const start = performance.now(); act(); view.node.getBoundingClientRect(); return performance.now() - start; };
              const first = cost(() => view.update(fleet));
              const same = cost(() => view.update(fleet));
              fleet.instances.forEach((one) => (one.reason += '.'));
              const changed = cost(() => view.update(fleet));
              view.node.remove();
              const bytes = performance.getEntriesByType('resource').filter((one) => one.name.includes('/page/')).reduce((sum, one) => sum + one.decodedBodySize, 0);
              return { servers: fleet.instances.length, firstContentfulPaintMs: paint?.startTime ?? null, buildMs: first, unchangedUpdateMs: same, changedUpdateMs: changed, pageBytes: bytes };
            }
            """);
        string folder = Path.Combine(Requirements.Repository, "out", "test-results");
        Directory.CreateDirectory(folder);
        await File.WriteAllTextAsync(Path.Combine(folder, "page.json"), figures.GetRawText(), TestContext.Current.CancellationToken);
    }
}
