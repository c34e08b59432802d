using System.Text.RegularExpressions;
using YamlDotNet.RepresentationModel;

namespace KamOtel.EndToEndTests;

/// <summary>The alerts that are committed, from a real hazard to whoever is on call, and back.</summary>
public sealed partial class AlertTests
{
    [Fact]
    public async Task A_hazard_reaches_who_is_on_call_and_its_cure_as_well()
    {
        CancellationToken cancelled = TestContext.Current.CancellationToken;
        using var http = new HttpClient();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using AlertWebhook onCall = await AlertWebhook.Start();
        await using AlertmanagerServer alertmanager = await AlertmanagerServer.Start(onCall.Address);
        await using AgentProcess agent = await AgentProcess.Start();
        await using PrometheusServer prometheus = await PrometheusServer.Start(agent.Address, Hurried(Committed("dashboards/prometheus/kamotel.rules.yaml")), alertmanager.Address);
        ToldAlert[] Hazards() => [.. onCall.Told.Where(alert => alert.Labels["alertname"] == "KamOtelHazard" && alert.Labels["target"] == server.Configuration)];
        string Told() => string.Join('\n', onCall.Told.Select(static alert => alert.ToString()));

        _ = await server.Start();
        await Until.True("the alert", () => Hazards().Length > 0, state: Told);

        ToldAlert hazard = Hazards().Single();
        hazard.Status.ShouldBe("firing");
        hazard.Labels["severity"].ShouldBe("warning");
        hazard.Labels["job"].ShouldBe("kamotel");
        hazard.Labels["instance"].ShouldBe(agent.Address.Authority);
        // Debian's Kamailio has the TLS module call OpenSSL first.
        hazard.Annotations["author"].ShouldBe("tls");
        hazard.Annotations["summary"].ShouldContain(server.Configuration);
        hazard.Annotations["summary"].ShouldContain("set by tls");
        hazard.Annotations["summary"].ShouldContain("tls_threads_mode=2");
        hazard.Annotations["runbook_url"].ShouldBe(new Uri(agent.Address, "docs/runbooks/hazard.md").ToString());
        (await http.GetStringAsync(new Uri(hazard.Annotations["runbook_url"]), cancelled)).ShouldContain("<code>KamOtelHazard</code>");

        await WhatGrafanaAsksIsAnswered(prometheus, server.Configuration);

        // 5.6 has no other cure than to do without TLS.
        _ = await server.Stop();
        await server.Process!.DisposeAsync();
        string[] cured = [.. (await File.ReadAllLinesAsync(server.Configuration, cancelled)).Where(static line => !line.Contains("tls", StringComparison.Ordinal))];
        await File.WriteAllLinesAsync(server.Configuration, cured, cancelled);
        _ = await server.Start();
        _ = await agent.MetricsWhen("the cured server to be safe", samples => samples.Verdict(server.Configuration) == "safe");
        await Until.True("the end of the alert", () => Hazards().Any(static alert => alert.Status == "resolved"), state: Told);

        TestContext.Current.TestOutputHelper?.WriteLine(Told());
        // Once each: it did not flap while the server was started anew. And nothing else was told, but what these short minutes
        // bring about: Prometheus itself takes five seconds to find what it scrapes, and a slow machine to look at a server.
        Hazards().Select(static alert => alert.Status).ShouldBe(["firing", "resolved"]);
        onCall.Told.Where(alert => alert.Labels.GetValueOrDefault("target", server.Configuration) == server.Configuration)
            .ShouldAllBe(alert => alert.Labels["alertname"] == "KamOtelHazard" || alert.Labels["alertname"] == "KamOtelBlind" || alert.Labels["alertname"] == "KamOtelAgentDown", Told());
    }

    // Each query of the provisioning file, as it is committed.
    private static async Task WhatGrafanaAsksIsAnswered(PrometheusServer prometheus, string target)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(Committed("dashboards/grafana/provisioning/alerting/kamotel.yaml")));
        var answers = new Dictionary<string, Samples>(StringComparer.Ordinal);
        foreach (YamlMappingNode rule in stream.Documents.Single().RootNode.AllNodes.OfType<YamlMappingNode>().Where(static node => node.Children.ContainsKey("data")))
        {
            foreach (YamlNode query in ((YamlSequenceNode)rule["data"]).Where(static query => (string)query["datasourceUid"]! != "__expr__"))
            {
                answers[$"{rule["title"]} {query["refId"]}"] = await prometheus.Query((string)query["model"]["expr"]!);
            }
        }

        answers.Keys.ShouldContain("KamOtelTelemetryDropped A");
        answers["KamOtelHazard A"].Count("", ("target", target)).ShouldBe(1);
        Samples authors = answers["KamOtelHazard B"];
        authors.All.Where(sample => sample.Has([("target", target)])).ShouldHaveSingleItem().Labels["author"].ShouldBe("tls");
        answers["KamOtelCorrupted A"].All.ShouldBeEmpty();
        answers["KamOtelAgentDown A"].All.ShouldBeEmpty();
    }

    /// <summary>A test cannot wait a quarter of an hour: each minute of the file, windows and <c>for</c> alike, is a second here. Days stay.</summary>
    private static string Hurried(string rules) => Minutes().Replace(rules, "${number}s");

    [GeneratedRegex(@"\b(?<number>\d+)m\b", RegexOptions.ExplicitCapture)]
    private static partial Regex Minutes();

    private static string Committed(string path) => File.ReadAllText(Path.Combine(Requirements.Repository, path));
}
