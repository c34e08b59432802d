using System.Text.RegularExpressions;

namespace KamOtel.EndToEndTests;

/// <summary>What the dashboards ask, a real Prometheus that scraped a real agent answers.</summary>
public sealed class DashboardTests
{
    private static readonly TimeSpan Range = TimeSpan.FromMinutes(5);

    private static readonly TimeSpan Step = TimeSpan.FromSeconds(2);

    [Fact]
    public async Task Each_query_of_each_panel_variable_and_mark_returns_data()
    {
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver));
        await using PrometheusServer prometheus = await PrometheusServer.Start(agent.Address);
        await using KamailioServer dying = await KamailioServer.Prepare("tls", workers: 8);
        await using KamailioServer hazard = await KamailioServer.Prepare("tls");
        await using KamailioServer safe = await KamailioServer.Prepare("none");
        using var impostor = new ImpostorServer();
        // It begins some seconds after it is ready; what grew before has no rate.
        await Until.True("the first scrape", () => prometheus.HasValueNow("kamotel_build_info"));
        _ = await Task.WhenAll(dying.Start(), hazard.Start(), safe.Start());
        // A library that nobody probed: attaching to it takes a time that can be shown.
        await impostor.Run(1, impostor.HideLibcrypto());
        _ = await agent.MetricsWhen("the verdicts", samples => samples.Verdict(dying.Configuration) == "hazard" && samples.Verdict(hazard.Configuration) == "hazard" && samples.Verdict(safe.Configuration) == "safe");
        int root = dying.Process!.Pid;
        LoadResult load = await Load.Run(dying, Load.Deadly, () => !Proc.Alive(root), TimeSpan.FromSeconds(60));
        load.Stopped.ShouldBeTrue($"it lives\n{load}\n{dying}");
        _ = await agent.MetricsWhen("the crash", samples => samples.Sum("kamotel_crashes_total", ("target", dying.Configuration)) > 0 && samples.Sum("kamotel_verdicts_total", ("target", dying.Configuration), ("verdict", "corrupted")) > 0);

        var values = new Dictionary<string, string>
        {
            ["__interval"] = $"{Step.TotalSeconds}s",
            ["__rate_interval"] = $"{4 * Step.TotalSeconds}s",
            ["__range"] = $"{Range.TotalSeconds}s",
            ["job"] = "kamotel",
            // As Grafana writes what was chosen for =~.
            ["instance"] = Chosen(agent.Address.Authority),
            ["target"] = Chosen(dying.Configuration, hazard.Configuration, safe.Configuration),
        };
        Asked[] asked = [.. CommittedDashboard.Files().SelectMany(static f => CommittedDashboard.Read(f).Queries())];
        asked.Length.ShouldBeGreaterThan(80);
        // Prometheus may be a scrape or two behind.
        var silent = asked.ToList();
        await Until.True(
            "each query to return data",
            async () =>
            {
                foreach (Asked query in silent.ToArray())
                {
                    if (await Answered(prometheus, query, values))
                    {
                        _ = silent.Remove(query);
                    }
                }
                return silent.Count == 0;
            },
            TimeSpan.FromSeconds(15),
            () => $"{string.Join('\n', silent.Select(q => $"{q.Who}: {CommittedDashboard.Substituted(q.Text, values)}"))}\n{agent.Program}");

        // What grew is counted from the first on, and not guessed.
        async Task<double> Shown(string panel) =>
            (await prometheus.Query(CommittedDashboard.Substituted(asked.Single(q => q.Who == panel).Text, values))).All.Single().Value;
        await Until.True(
            "as many crashes to be shown as were counted",
            async () => await Shown("KamOtel / Fleet, panel Crashes, all targets, A") == (await agent.Metrics()).Sum("kamotel_crashes_total"),
            TimeSpan.FromSeconds(15));
        (await Shown("KamOtel / Agent, panel Silent agents, A")).ShouldBe(0);

        // Where nobody looks nothing is shown, and not zero.
        _ = await agent.Terminate();
        await Until.True("the silence of the agent to be shown", async () => await Shown("KamOtel / Agent, panel Silent agents, A") == 1, TimeSpan.FromSeconds(15));
        var blind = new List<string>();
        foreach (Asked query in asked.Where(static q => q.Now && !q.Text.Contains("$__range", StringComparison.Ordinal) && !q.Who.Contains("Silent agents", StringComparison.Ordinal)))
        {
            if (await Answered(prometheus, query, values))
            {
                blind.Add(query.Who);
            }
        }
        blind.ShouldBeEmpty();
    }

    private static string Chosen(params string[] values) =>
        $"({string.Join('|', values.Select(static v => Regex.Escape(v).Replace("\\", "\\\\", StringComparison.Ordinal)))})";

    private static async Task<bool> Answered(PrometheusServer prometheus, Asked query, Dictionary<string, string> values)
    {
        string text = CommittedDashboard.Substituted(query.Text, values);
        text.ShouldNotContain("$", Case.Sensitive, query.Who);
        bool data = text.StartsWith("label_values(", StringComparison.Ordinal)
            ? await prometheus.HasLabelValues(text, Range)
            : query.Now ? await prometheus.HasValueNow(text) : await prometheus.HasValues(text, Range, Step);
        return data && (!query.Exemplars || await prometheus.HasExemplars(text, Range));
    }
}
