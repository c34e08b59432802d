using System.Globalization;
using System.Net;
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
        shown.Forgive("net::ERR_");
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
        Uri address = FreeAddress();
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
        Uri address = FreeAddress();
        await using RunningProgram agent = await Replay(scratch["fleet.kamotel"], address);
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
        (await rows.GetByRole(AriaRole.Link).InnerTextAsync()).ShouldBe("<img src=x onerror=alert(1)>?gfc");
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

    [Fact]
    public async Task Before_the_agent_is_ready_and_while_too_many_pages_are_open_the_page_says_so_and_then_comes_alive()
    {
        Requirements.Agent();
        using var scratch = new Scratch();
        FleetRecording.Write(scratch["fleet.kamotel"], 40);
        Uri address = FreeAddress();
        using var client = new HttpClient { BaseAddress = address };
        // Nobody reads the story yet, so the replay waits in its middle.
        (await RunningProgram.Run("mkfifo", [scratch["story"]])).Code.ShouldBe(0);
        await using RunningProgram agent = RunningProgram.Start(
            "sh", ["-c", "exec \"$@\" > \"$0\"", scratch["story"], Requirements.Binary, "replay", scratch["fleet.kamotel"], "--follow", "--listen", address.Authority]);
        // Not disposed of while somebody writes there: a read that waits would hold that up for ever.
        FileStream story = await Task.Run(() => File.OpenRead(scratch["story"]), TestContext.Current.CancellationToken);
        string reason = await Until.Found("a reason why it is not ready", () => NotReady(client), state: agent.ToString);
        await using ShownPage shown = await browser.Open(address);
        await shown.Says(".notice[data-kind=error]", $"KamOtel is not ready: {reason}.");
        await shown.Says(".empty", "KamOtel is not ready");
        (await shown.Page.TitleAsync()).ShouldStartWith("not ready");
        await shown.ShouldBeAccessible("not-ready");

        _ = story.CopyToAsync(Stream.Null, TestContext.Current.CancellationToken);
        await shown.Page.Locator("tbody tr").Nth(39).WaitForAsync();
        (await shown.Page.Locator(".notice[data-kind=error]:visible").CountAsync()).ShouldBe(0);
        (await shown.Page.TitleAsync()).ShouldContain("hazard of 40");
        await shown.ReadmePicture("fleet", 1100);

        // This page has one stream, others take the rest.
        var others = new List<HttpResponseMessage>();
        try
        {
            while (others.Count < 15)
            {
                others.Add(await client.GetAsync(new Uri("/api/events", UriKind.Relative), HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken));
                others[^1].StatusCode.ShouldBe(HttpStatusCode.OK);
            }
            await using ShownPage late = await browser.Open(address, width: 390);
            await late.Says(".banner", "16 pages are open already");
            await late.Page.Locator("#connection[data-state=full]").WaitForAsync();
            await late.Says("#connection", "every 5 s");
            await late.Page.Locator("tbody tr").Nth(39).WaitForAsync();
            await late.ShouldBeAccessible("full");
            others[0].Dispose();
            await late.Page.Locator("#connection[data-state=live]").WaitForAsync();
            (await late.Page.Locator(".banner").IsVisibleAsync()).ShouldBeFalse();
            late.Forgive("status of 503");
            late.ShouldBeInnocent();
        }
        finally
        {
            others.ForEach(static one => one.Dispose());
        }
        shown.ShouldBeInnocent();
        agent.Send(Signal.Terminate);
        _ = await agent.End();
    }

    [Fact]
    public async Task Keys_alone_lead_to_a_server_and_back_and_every_link_leads_somewhere()
    {
        Requirements.Agent();
        Uri address = FreeAddress();
        await using RunningProgram agent = await Replay(Path.Combine(Requirements.Repository, "tests", "corpus", "db_postgres_tls_first.kamotel"), address);
        await using ShownPage shown = await browser.Open(address, width: 1000);
        IPage page = shown.Page;
        await page.Locator("tbody tr").WaitForAsync();

        await Press(page, "Tab", ".skip");
        await Press(page, "Tab", ".brand");
        await Press(page, "Tab", "a.name");
        await page.Keyboard.PressAsync("Enter");
        await shown.Says(".headline h1", "/etc/kamailio/kamailio.cfg");
        string deep = new Uri(page.Url).Fragment;
        deep.ShouldStartWith("#/instance/");
        await Press(page, "Tab", "a.back");
        await page.Keyboard.PressAsync("Enter");
        await page.Locator("a.name:focus").WaitForAsync();
        await page.Keyboard.PressAsync("Enter");
        await page.Locator(".slot").First.WaitForAsync();
        await page.GoBackAsync();
        await page.Locator("a.name:focus").WaitForAsync();

        // An address that somebody sent leads to the server itself.
        await using ShownPage sent = await browser.Open(address, hash: deep, width: 1000);
        await sent.Says(".headline h1", "/etc/kamailio/kamailio.cfg");
        await sent.Says(".slot .who", "Set by db_postgres, asked by htable");
        await sent.ShouldBeAccessible("recorded");
        await sent.ReadmePicture("server", 1100, ".ties");
        await sent.Page.GotoAsync(new Uri(address, "#/instance/1-1").ToString());
        await sent.Says(".one .empty", "not known any more");
        sent.ShouldBeInnocent();

        await page.GotoAsync(new Uri(address, deep).ToString());
        await page.Locator(".todo a").First.WaitForAsync();
        string[] links = await page.EvaluateAsync<string[]>("[...document.querySelectorAll('a[href^=\"/\"]')].map((link) => link.href)");
        links.ShouldContain(new Uri(address, "/docs/").ToString());
        links.ShouldContain(static link => link.Contains("/docs/runbooks/", StringComparison.Ordinal));
        using var client = new HttpClient();
        foreach (Uri link in links.Distinct().Select(static link => new Uri(link)))
        {
            string there = await client.GetStringAsync(link, TestContext.Current.CancellationToken);
            (link.Fragment.Length == 0 || there.Contains($"id=\"{link.Fragment[1..]}\"", StringComparison.Ordinal)).ShouldBeTrue($"{link} is no place there");
        }
        shown.ShouldBeInnocent();
        agent.Send(Signal.Terminate);
        _ = await agent.End();
    }

    [Fact]
    public async Task A_fold_that_was_opened_stays_with_its_entries_when_old_ones_go()
    {
        Requirements.Agent();
        Uri address = FreeAddress();
        await using RunningProgram agent = await Replay(Path.Combine(Requirements.Repository, "tests", "corpus", "none.kamotel"), address);
        await using ShownPage shown = await browser.Open(address);
        string told = await shown.Page.EvaluateAsync<string>(
            """
            async () => {
              const { timelineView } = await import('/page/timeline.js');
              const view = timelineView();
              document.body.append(view.node);
              const entry = (kind, n) => ({ kind, severity: 'info', atMs: n, durationMs: null, pid: n, module: null, text: `${kind} ${n}` });
              const many = (kind, from) => Array.from({ length: 8 }, (_, i) => entry(kind, from + i));
              const story = [...many('fork', 0), entry('ready', 50), ...many('fork', 100), entry('verdict', 150), ...many('exit', 200)];
              const update = (timeline) => view.update({ timeline, timelineLeftOut: 0 });
              update(story);
              view.node.querySelectorAll('details')[1].open = true;
              // The first fold, what follows it and two of the opened fold go; the opened one grows.
              update([...story.slice(11, 17), entry('fork', 110), ...story.slice(17)]);
              const open = [...view.node.querySelectorAll('details[open]')].map((fold) => [...fold.lastElementChild.querySelectorAll('.text')].map((one) => one.textContent).join());
              view.node.remove();
              return open.join(' and ');
            }
            """);
        told.ShouldBe("fork 102,fork 103,fork 104,fork 105,fork 106,fork 107,fork 110");
        shown.ShouldBeInnocent();
        agent.Send(Signal.Terminate);
        _ = await agent.End();
    }

    private static Uri FreeAddress() => new($"http://127.0.0.1:{Scratch.FreePort()}");

    /// <summary>A recording, replayed to its end and served.</summary>
    private static async Task<RunningProgram> Replay(string file, Uri address)
    {
        RunningProgram agent = RunningProgram.Start(Requirements.Binary, ["replay", file, "--listen", address.Authority]);
        await Until.True("the replay to be served", () => agent.Output.Contains("VERDICT", StringComparison.Ordinal), state: agent.ToString);
        return agent;
    }

    /// <summary>Why <c>/readyz</c> says that the agent is not ready; null when nobody answers.</summary>
    private static async Task<string?> NotReady(HttpClient client)
    {
        try
        {
            using HttpResponseMessage response = await client.GetAsync(new Uri("/readyz", UriKind.Relative));
            response.StatusCode.ShouldBe(HttpStatusCode.ServiceUnavailable);
            return (await response.Content.ReadAsStringAsync()).Trim();
        }
        catch (HttpRequestException)
        {
            return null;
        }
    }

    /// <summary>After this key the focus is there, and is seen: on the screen and with an outline.</summary>
    private static async Task Press(IPage page, string key, string there)
    {
        await page.Keyboard.PressAsync(key);
        (await page.EvaluateAsync<string>(
            """
            (there) => {
              const at = document.activeElement;
              const box = at.getBoundingClientRect();
              if (!at.matches(there)) return at.outerHTML.slice(0, 200);
              if (box.top < 0 || box.bottom > innerHeight || box.left < 0 || box.right > innerWidth) return 'beyond the screen';
              return parseFloat(getComputedStyle(at).outlineWidth) >= 2 && getComputedStyle(at).outlineStyle === 'solid' ? '' : 'without an outline';
            }
            """,
            there)).ShouldBe("", $"after {key}, {there}");
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
