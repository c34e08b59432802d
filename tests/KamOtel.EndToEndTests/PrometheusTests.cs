namespace KamOtel.EndToEndTests;

/// <summary>Prometheus and OTLP tell the same.</summary>
public sealed class PrometheusTests
{
    [Theory]
    [InlineData("grpc")]
    [InlineData("http/protobuf")]
    public async Task A_real_prometheus_an_otlp_receiver_and_the_page_itself_show_equal_numbers(string protocol)
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        using var impostor = new ImpostorServer();
        await using OtlpReceiver receiver = await OtlpReceiver.Start();
        await using AgentProcess agent = await AgentProcess.Start(AgentProcess.ExportTo(receiver, protocol != "grpc"));
        await using PrometheusServer prometheus = await PrometheusServer.Start(agent.Address);
        _ = await server.Start();
        await server.Handshake();
        // A library that nobody probed: the histogram of attach delays gets a value.
        await impostor.Run(1, impostor.HideLibcrypto());
        Samples rest = await agent.AtRest(server.Configuration);

        rest.Sum("kamotel_thread_local_calls_total", ("target", server.Configuration)).ShouldBeGreaterThan(0);
        rest.Sum("kamotel_attach_delay_seconds_count").ShouldBeGreaterThan(0);
        string differences = "";
        async Task<bool> Equal()
        {
            Dictionary<string, double> page = Own(await agent.Metrics());
            Dictionary<string, double> scraped = Own(await prometheus.Query("{__name__=~\"kamotel_.+\"}"));
            Dictionary<string, double> sent = receiver.MetricRequests.IsEmpty ? [] : Own(receiver.MetricRequests[^1].AsSamples());
            differences = string.Join('\n', Differences("page", page, "Prometheus", scraped).Concat(Differences("page", page, "OTLP", sent)));
            return differences.Length == 0;
        }
        await Until.True("Prometheus, OTLP and the page to show equal numbers", Equal, state: () => differences);
    }

    [Fact]
    public async Task Promtool_has_nothing_to_say_against_the_page()
    {
        Requirements.Program("promtool");
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using AgentProcess agent = await AgentProcess.Start();
        _ = await server.Start();
        _ = await agent.AtRest(server.Configuration);

        Ended ended = await RunningProgram.Run("promtool", ["check", "metrics"], input: await agent.MetricsText());

        ended.Code.ShouldBe(0, ended.ToString());
        $"{ended.Output}{ended.Errors}".Trim().ShouldBeEmpty();
    }

    // What the agent itself uses changes with every look at it, and the exports of metrics with every export. To Prometheus a
    // label without a value is no label.
    private static Dictionary<string, double> Own(Samples samples) =>
        samples.All.Where(static sample => sample.Name.StartsWith("kamotel_", StringComparison.Ordinal)
                && !sample.Name.StartsWith("kamotel_agent_", StringComparison.Ordinal)
                && !sample.Has([("signal", "metrics")]))
            .Select(static sample => new Sample(sample.Name, sample.Labels.Where(static label => label.Value.Length > 0).ToDictionary(static label => label.Key, Comparable), sample.Value))
            .ToDictionary(static sample => sample.Series, static sample => sample.Value);

    // Prometheus is served OpenMetrics, where the bound 1 is written 1.0.
    private static string Comparable(KeyValuePair<string, string> label) =>
        label.Key == "le" && label.Value != "+Inf" ? $"{double.Parse(label.Value, System.Globalization.CultureInfo.InvariantCulture)}" : label.Value;

    private static IEnumerable<string> Differences(string name, Dictionary<string, double> one, string otherName, Dictionary<string, double> other)
    {
        foreach (string series in one.Keys.Union(other.Keys).Order(StringComparer.Ordinal))
        {
            string left = one.TryGetValue(series, out double a) ? $"{a:R}" : "nothing";
            string right = other.TryGetValue(series, out double b) ? $"{b:R}" : "nothing";
            if (left != right)
            {
                yield return $"{series}: {name} {left}, {otherName} {right}";
            }
        }
    }
}
