using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using YamlDotNet.RepresentationModel;

namespace KamOtel.EndToEndTests;

/// <summary>The Helm chart: what it makes of values, what it refuses, and that a cluster would take it.</summary>
public sealed partial class HelmTests(HelmChart chart) : IClassFixture<HelmChart>
{
    private static readonly string[] Image = ["--set", "image.repository=registry.example.com/kamotel"];

    [Fact]
    public async Task Helm_has_nothing_to_say_against_the_chart()
    {
        foreach (HelmValues values in new[] { HelmValues.Default, HelmValues.Everything })
        {
            Ended ended = await HelmChart.Helm("lint", "--strict", HelmChart.Folder, "--values", chart[values].ValuesFile);

            ended.Code.ShouldBe(0, ended.ToString());
            ended.Output.ShouldContain("1 chart(s) linted, 0 chart(s) failed");
            ended.ToString().ShouldNotContain("WARN");
        }
        (await HelmChart.Helm("lint", "--strict", HelmChart.Folder)).Code.ShouldBe(0);
    }

    [Fact]
    public async Task Published_schemas_and_types_accept_each_manifest_of_each_combination()
    {
        Ended ended = await HelmChart.Check([.. chart.Renderings.Select(static r => r.File)]);

        ended.Code.ShouldBe(0, ended.ToString());
        // Each kind was there to be looked at.
        chart.Renderings.SelectMany(static r => r.Manifests).Select(static m => m.Text("kind")).Distinct().Order(StringComparer.Ordinal).ShouldBe(
            ["ConfigMap", "DaemonSet", "NetworkPolicy", "Pod", "PodDisruptionBudget", "PodMonitor", "PrometheusRule", "Service", "ServiceAccount", "ServiceMonitor"]);
    }

    [Theory]
    [InlineData("readinessProbe:", "readinesProbe:", "'\"readinesProbe\"' does not exist")]
    [InlineData("containerPort: 9464", "containerPort: http", "containerPort must be integer")]
    [InlineData("internalTrafficPolicy: Local", "internalTrafficPolicy: Node", "internalTrafficPolicy must be equal")]
    [InlineData("minAvailable:", "minAvail:", "'\"minAvail\"' does not exist")]
    [InlineData("podMetricsEndpoints:", "endpoints:", "'\"endpoints\"' does not exist")]
    [InlineData("kind: NetworkPolicy", "kind: NetworkPolice", "no published schema knows")]
    [InlineData("apiVersion: apps/v1", "apiVersion: apps/v2", "no published schema knows")]
    [InlineData("  name: sip-watch\n", "  name: sip-watch\n  name: sip-watch\n", "Map keys must be unique")]
    public async Task A_mistake_in_a_manifest_is_refused(string right, string wrong, string words)
    {
        string text = await File.ReadAllTextAsync(chart[HelmValues.Everything].File, TestContext.Current.CancellationToken);
        text.ShouldContain(right);
        string file = chart["mistaken.yaml"];
        await File.WriteAllTextAsync(file, text.Replace(right, wrong, StringComparison.Ordinal), TestContext.Current.CancellationToken);

        Ended ended = await HelmChart.Check(file);

        ended.Code.ShouldBe(1);
        ended.Errors.ShouldContain(words);
    }

    [Theory]
    [InlineData("hostNetwork=true", "hostNetwork")]
    [InlineData("agent.wacht[0]=kamailio", "wacht")]
    [InlineData("image.repositry=x", "repositry")]
    [InlineData("security.privileged=true", "privileged")]
    [InlineData("agent.settle=0", "settle")]
    [InlineData("agent.inspectEvery=1m", "inspectEvery")]
    [InlineData("agent.confirm=61", "confirm")]
    [InlineData("agent.ringBytes=5000", "ringBytes")]
    [InlineData("agent.logLevel=verbose", "logLevel")]
    [InlineData("agent.logFormat=yaml", "logFormat")]
    [InlineData("agent.listen=127.0.0.1", "listen")]
    [InlineData("agent.watch[0]=a/b", "watch")]
    [InlineData("agent.watch=kamailio", "watch")]
    [InlineData("image.tag=a:b", "tag")]
    [InlineData("image.digest=abc", "digest")]
    [InlineData("image.repository=registry.example.com/kamotel:1.0", "repository")]
    [InlineData("image.pullPolicy=Sometimes", "pullPolicy")]
    [InlineData("otlp.endpoint=collector:4317", "endpoint")]
    [InlineData("otlp.protocol=http", "protocol")]
    [InlineData("otlp.headersSecret=otlp", "headersSecret")]
    [InlineData("monitor.kind=podmonitor", "kind")]
    [InlineData("monitor.interval=30", "interval")]
    [InlineData("monitor.enabled=true", "enabled")]
    [InlineData("prometheusRule.enabled=yes", "enabled")]
    [InlineData("prometheusRule.runbookBase=https://example.com", "runbookBase")]
    [InlineData("networkPolicy.from.namespaceSelector=x", "from")]
    [InlineData("podDisruptionBudget.maxUnavailable=1", "maxUnavailable")]
    [InlineData("podDisruptionBudget.minAvailable=50%", "minAvailable")]
    [InlineData("updateStrategy.maxUnavailable=0", "maxUnavailable")]
    [InlineData("security.seccompProfile.type=Localhost", "localhostProfile")]
    [InlineData("security.appArmorProfile.localhostProfile=x", "localhostProfile")]
    [InlineData("podLabels.app\\.kubernetes\\.io/name=x", "podLabels")]
    [InlineData("fullnameOverride=Sip", "fullnameOverride")]
    public async Task A_wrong_value_is_refused_by_name(string value, string name)
    {
        Ended ended = await HelmChart.Helm(["template", HelmChart.Folder, .. Image, "--set", value]);

        ended.Code.ShouldNotBe(0);
        ended.Errors.ShouldContain("values don't meet the specifications of the schema");
        ended.Errors.ShouldContain(name);
    }

    [Theory]
    [InlineData("", "image.repository is missing: the name under which you pushed")]
    [InlineData("image.repository=x,tls.clientCaSecret=c", "tls.clientCaSecret needs tls.secret")]
    [InlineData("image.repository=x,basicAuth.secret=u,monitor.kind=PodMonitor", "give monitor.basicAuth the Secret")]
    [InlineData("image.repository=x,tls.secret=t,monitor.kind=PodMonitor", "give monitor.tlsConfig a ca and a serverName")]
    [InlineData("image.repository=x,tls.secret=t,tls.clientCaSecret=c,monitor.kind=PodMonitor,monitor.tlsConfig.serverName=a", "give monitor.tlsConfig a cert and a keySecret")]
    [InlineData("image.repository=x,extraEnv[0].name=OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT has a value of its own (otlp.endpoint")]
    [InlineData("image.repository=x,networkPolicy.from=null", "networkPolicy.from: an empty list lets everybody in")]
    [InlineData("image.repository=x,extraEnv[0].name=KAMOTEL_WATCH", "KAMOTEL_WATCH has a value of its own")]
    public async Task Values_that_would_end_in_silence_are_refused_with_the_remedy(string values, string words)
    {
        Ended ended = await HelmChart.Helm("template", HelmChart.Folder, "--set", values);

        ended.Code.ShouldNotBe(0);
        ended.Errors.ShouldContain(words);
    }

    [Fact]
    public async Task The_schema_knows_each_value_and_no_other()
    {
        JsonNode schema = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(HelmChart.Folder, "values.schema.json"), TestContext.Current.CancellationToken))!;
        YamlMappingNode values = HelmRendering.Parse(await File.ReadAllTextAsync(Path.Combine(HelmChart.Folder, "values.yaml"), TestContext.Current.CancellationToken)).ShouldHaveSingleItem();

        // `global` is Helm's own, for a chart of charts.
        Compare(schema, values, "", ["global"]);

        void Compare(JsonNode form, YamlMappingNode mapping, string path, string[] others)
        {
            string[] known = [.. form["properties"]!.AsObject().Select(static p => p.Key)];
            string[] there = [.. mapping.Children.Select(static c => ((YamlScalarNode)c.Key).Value!)];
            known.Except(others).ShouldBe(there, ignoreOrder: true, path);
            form["additionalProperties"]!.GetValue<bool>().ShouldBeFalse(path);
            foreach ((string name, YamlMappingNode child) in mapping.Children.Where(static c => c.Value is YamlMappingNode { Children.Count: > 0 }).Select(static c => (((YamlScalarNode)c.Key).Value!, (YamlMappingNode)c.Value)))
            {
                // What is Kubernetes' own form has no fixed names, or more of them.
                if (form["properties"]![name]!["properties"] is not null && name != "resources")
                {
                    Compare(form["properties"]![name]!, child, $"{path}/{name}", []);
                }
            }
        }
    }

    [Fact]
    public void Nothing_is_privileged_and_only_the_agent_sees_other_processes()
    {
        string[] forbidden = ["hostNetwork", "hostIPC", "hostPort", "hostPath", "privileged", "procMount", "shareProcessNamespace"];
        foreach (HelmRendering rendering in chart.Renderings)
        {
            rendering.Manifests.ShouldAllBe(static m => !m.Text("kind")!.Contains("Role", StringComparison.Ordinal), rendering.Values.Name);
            rendering.Manifests.SelectMany(static m => m.Mappings()).SelectMany(static m => m.Children.Keys.OfType<YamlScalarNode>()).Select(static k => k.Value)
                .Intersect(forbidden).ShouldBeEmpty(rendering.Values.Name);
            rendering.Pods().ShouldNotBeEmpty();
            foreach ((string owner, YamlMappingNode pod) in rendering.Pods())
            {
                string where = $"{rendering.Values.Name}: {owner}";
                bool agent = owner.StartsWith("DaemonSet/", StringComparison.Ordinal);
                pod.Text("hostPID").ShouldBe(agent ? "true" : null, where);
                pod.Text("automountServiceAccountToken").ShouldBe("false", where);
                pod.Text("enableServiceLinks").ShouldBe("false", where);
                YamlNode container = pod.Items("containers").ShouldHaveSingleItem(where);
                container.Text("securityContext/allowPrivilegeEscalation").ShouldBe("false", where);
                container.Text("securityContext/readOnlyRootFilesystem").ShouldBe("true", where);
                container.Items("securityContext/capabilities/drop").ShouldHaveSingleItem(where).ToString().ShouldBe("ALL", where);
                (container.Text("securityContext/seccompProfile/type") ?? pod.Text("securityContext/seccompProfile/type")).ShouldNotBeNull(where);
                if (!agent)
                {
                    container.At("securityContext/capabilities/add").ShouldBeNull(where);
                    pod.Text("securityContext/runAsNonRoot").ShouldBe("true", where);
                }
            }
            rendering.OfKind("ServiceAccount").ShouldAllBe(static a => a.Text("automountServiceAccountToken") == "false");
        }
        chart[HelmValues.Default].Agent().Text("securityContext/seccompProfile/type").ShouldBe("RuntimeDefault");
    }

    [Fact]
    public async Task The_capabilities_are_the_documented_ones()
    {
        string table = await File.ReadAllTextAsync(Path.Combine(Requirements.Repository, "docs", "security.md"), TestContext.Current.CancellationToken);

        Added(HelmValues.Default).ShouldBe(Documented("Linux 6.6 and later"), ignoreOrder: true);
        Added(HelmValues.OldKernel).ShouldBe(Documented("older"), ignoreOrder: true);
        // OpenShift's constraints, which stand in the guide.
        Directory.EnumerateFiles(Path.Combine(Requirements.Repository, "docs"), "install*").SelectMany(File.ReadLines)
            .Where(static line => line.StartsWith("allowedCapabilities:", StringComparison.Ordinal)).ShouldHaveSingleItem()
            .ShouldBe($"allowedCapabilities: [{string.Join(", ", Added(HelmValues.Default).Select(static c => c["CAP_".Length..]))}]");

        string[] Added(HelmValues values) => [.. chart[values].Agent().Items("securityContext/capabilities/add").Select(static c => $"CAP_{c}")];
        string[] Documented(string kernel)
        {
            string row = table.Split('\n').Single(line => line.StartsWith($"| {kernel} |", StringComparison.Ordinal));
            return [.. CapabilityName().Matches(row).Select(static m => m.Value)];
        }
    }

    [Fact]
    public async Task Each_variable_is_a_setting_of_the_agent_and_has_its_default()
    {
        string settings = await File.ReadAllTextAsync(Path.Combine(Requirements.Repository, "docs", "operations.md"), TestContext.Current.CancellationToken);
        string[] names = [.. chart.Renderings.SelectMany(static r => r.Agent().Variables().Keys).Distinct().Where(static n => n.StartsWith("KAMOTEL_", StringComparison.Ordinal))];

        names.ShouldContain("KAMOTEL_TLS_CERTIFICATE");
        names.Where(name => !settings.Contains($"| `{name}` |", StringComparison.Ordinal)).ShouldBeEmpty();

        JsonNode form = JsonNode.Parse(await File.ReadAllTextAsync(Path.Combine(Requirements.Repository, "docs", "config.schema.json"), TestContext.Current.CancellationToken))!["properties"]!;
        Dictionary<string, string> ours = chart[HelmValues.Default].Agent().Variables();
        foreach ((string name, string key) in new[] { ("KAMOTEL_SETTLE", "settle"), ("KAMOTEL_INSPECT_EVERY", "inspectEvery"), ("KAMOTEL_CONFIRM", "confirm"), ("KAMOTEL_RING_BYTES", "ringBytes"), ("KAMOTEL_LOG_LEVEL", "logLevel") })
        {
            ours[name].ShouldBe(form[key]!["default"]!.ToString(), key);
        }
        ours["KAMOTEL_WATCH"].Split(',').ShouldBe(form["watch"]!["default"]!.AsArray().Select(static n => n!.GetValue<string>()));
    }

    [Fact]
    public void Values_reach_the_agent()
    {
        Dictionary<string, string> everything = chart[HelmValues.Everything].Agent().Variables();
        everything["KAMOTEL_LISTEN"].ShouldBe("[::]:9464");
        everything["KAMOTEL_WATCH"].ShouldBe("kamailio,opensips,sip server");
        everything["KAMOTEL_SETTLE"].ShouldBe("0.05");
        everything["KAMOTEL_INSPECT_EVERY"].ShouldBe("86400");
        everything["KAMOTEL_RING_BYTES"].ShouldBe("1073741824");
        everything["TZ"].ShouldBe("UTC");
        chart[HelmValues.Everything].Agent().Text("image").ShouldBe($"registry.example.com/kamotel@sha256:{new string('a', 64)}");

        Dictionary<string, string> otlp = chart[HelmValues.Otlp].Agent().Variables();
        otlp["OTEL_EXPORTER_OTLP_ENDPOINT"].ShouldBe("https://collector.observability:4317");
        otlp["OTEL_EXPORTER_OTLP_PROTOCOL"].ShouldBe("http/protobuf");
        otlp["OTEL_METRIC_EXPORT_INTERVAL"].ShouldBe("15500");
        otlp["OTEL_EXPORTER_OTLP_CERTIFICATE"].ShouldBe("/etc/kamotel/otlp-ca/ca.crt");
        otlp["OTEL_RESOURCE_ATTRIBUTES"].ShouldBe("k8s.node.name=$(NODE_NAME),k8s.cluster.name=a%2C%20b%20%3D%20c");
        // Kubernetes puts in only what was set before.
        otlp.Keys.ToList().IndexOf("NODE_NAME").ShouldBeInRange(0, otlp.Keys.ToList().IndexOf("OTEL_RESOURCE_ATTRIBUTES"));

        chart[HelmValues.Default].Agent().Variables().Keys.ShouldNotContain(static n => n.StartsWith("OTEL_", StringComparison.Ordinal));
    }

    [Fact]
    public void Secrets_are_files_for_root_alone_and_where_the_variables_say()
    {
        foreach (HelmRendering rendering in chart.Renderings)
        {
            foreach ((string owner, YamlMappingNode pod) in rendering.Pods())
            {
                YamlNode container = pod.Items("containers").Single();
                Dictionary<string, string> mounts = container.Items("volumeMounts").ToDictionary(static m => m.Text("name")!, static m => m.Text("mountPath")!);
                mounts.Keys.ShouldBe(pod.Items("volumes").Select(static v => v.Text("name")!), ignoreOrder: true, $"{rendering.Values.Name}: {owner}");
                // Variables() would have refused a name that is there twice.
                foreach (string path in container.Variables().Values.Where(static v => v.StartsWith("/etc/kamotel/", StringComparison.Ordinal)))
                {
                    YamlNode volume = pod.Items("volumes").Single(v => mounts[v.Text("name")!] == Path.GetDirectoryName(path));
                    IEnumerable<YamlNode> items = volume.Items("secret/items");
                    (!items.Any() || items.Any(i => i.Text("path") == Path.GetFileName(path))).ShouldBeTrue($"{rendering.Values.Name}: {path}");
                }
                if (owner.StartsWith("DaemonSet/", StringComparison.Ordinal))
                {
                    pod.Items("volumes").ShouldAllBe(static v => v.Text("secret/defaultMode") == "0400");
                }
            }
        }
        chart[HelmValues.Protected].The("DaemonSet").Items("spec/template/spec/volumes").Select(static v => v.Text("secret/secretName")).ShouldBe(["agents", "users"]);
    }

    [Fact]
    public void Whatever_selects_agents_selects_them_and_no_drill()
    {
        foreach (HelmRendering rendering in chart.Renderings)
        {
            YamlMappingNode agents = rendering.The("DaemonSet");
            Dictionary<string, string> agent = agents.Texts("spec/template/metadata/labels");
            List<Dictionary<string, string>> selectors =
            [
                agents.Texts("spec/selector/matchLabels"),
                .. rendering.OfKind("Service").Select(static s => s.Texts("spec/selector")),
                .. rendering.OfKind("NetworkPolicy").Select(static p => p.Texts("spec/podSelector/matchLabels")),
                .. rendering.OfKind("PodMonitor").Concat(rendering.OfKind("PodDisruptionBudget")).Select(static m => m.Texts("spec/selector/matchLabels")),
                .. rendering.OfKind("Pod").Select(static d => d.Texts("spec/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector/matchLabels")),
            ];
            selectors.ShouldAllBe(s => Selects(s, agent), rendering.Values.Name);
            foreach (YamlMappingNode drill in rendering.OfKind("Pod"))
            {
                selectors.ShouldAllBe(s => !Selects(s, drill.Texts("metadata/labels")), rendering.Values.Name);
                rendering.OfKind("NetworkPolicy").Where(static p => p.Items("spec/ingress/0/from").Any())
                    .ShouldAllBe(p => p.Items("spec/ingress/0/from").Any(f => Selects(f.Texts("podSelector/matchLabels"), drill.Texts("metadata/labels"))), rendering.Values.Name);
            }
            foreach (YamlMappingNode monitor in rendering.OfKind("ServiceMonitor"))
            {
                // A second one would be scraped twice.
                rendering.OfKind("Service").Where(s => Selects(monitor.Texts("spec/selector/matchLabels"), s.Texts("metadata/labels"))).ShouldHaveSingleItem(rendering.Values.Name).Text("spec/clusterIP").ShouldBe("None");
            }
            rendering.Manifests.ShouldAllBe(static m => m.Text("metadata/name")!.Length <= 63 && m.Text("metadata/namespace") == HelmValues.Namespace);
        }
    }

    [Theory]
    [InlineData("PodMonitor", "podMetricsEndpoints")]
    [InlineData("ServiceMonitor", "endpoints")]
    public void Prometheus_knows_the_agents_by_the_alerts_job_and_by_their_node(string kind, string endpoints)
    {
        HelmRendering[] monitored = [.. chart.Renderings.Where(r => r.OfKind(kind).Any())];
        monitored.ShouldNotBeEmpty();
        foreach (HelmRendering rendering in monitored)
        {
            YamlMappingNode monitor = rendering.The(kind);
            string label = monitor.Text("spec/jobLabel").ShouldNotBeNull();
            (kind == "PodMonitor" ? rendering.The("DaemonSet").Texts("spec/template/metadata/labels") : rendering.OfKind("Service").First().Texts("metadata/labels"))[label].ShouldBe("kamotel");
            YamlNode endpoint = monitor.Items($"spec/{endpoints}").ShouldHaveSingleItem();
            endpoint.Text("relabelings/0/targetLabel").ShouldBe("instance");
            endpoint.Text("relabelings/0/sourceLabels/0").ShouldBe("__meta_kubernetes_pod_node_name");
            bool https = rendering.Agent().Variables().ContainsKey("KAMOTEL_TLS_CERTIFICATE");
            endpoint.Text("scheme").ShouldBe(https ? "https" : "http", rendering.Values.Name);
            (endpoint.At("tlsConfig") is not null).ShouldBe(https, rendering.Values.Name);
            (endpoint.At("basicAuth") is not null).ShouldBe(rendering.Agent().Variables().ContainsKey("KAMOTEL_BASIC_AUTH"), rendering.Values.Name);
            foreach (string probe in new[] { "startupProbe", "livenessProbe", "readinessProbe" })
            {
                rendering.Agent().Text($"{probe}/httpGet/scheme").ShouldBe(https ? "HTTPS" : "HTTP", rendering.Values.Name);
            }
        }
        chart[HelmValues.Operator].The("PodMonitor").Texts("metadata/labels")["release"].ShouldBe("kube-prometheus-stack");
    }

    [Fact]
    public async Task The_alerts_are_those_of_the_plain_file_but_for_the_links()
    {
        Requirements.Program("promtool");
        string plain = await File.ReadAllTextAsync(Path.Combine(Requirements.Repository, "dashboards", "prometheus", "kamotel.rules.yaml"), TestContext.Current.CancellationToken);
        foreach ((HelmValues values, string links) in new[]
        {
            (HelmValues.Operator, "http://kamotel.voip.svc:9464/"),
            (HelmValues.Protected, "https://kamotel.voip.svc:9464/"),
            (HelmValues.Everything, "https://docs.example.com/kamotel/"),
        })
        {
            YamlNode rules = chart[values].The("PrometheusRule").At("spec").ShouldNotBeNull();
            rules.Equals(HelmRendering.Parse(plain.Replace("http://{{ .Labels.instance }}/", links, StringComparison.Ordinal)).Single()).ShouldBeTrue(values.Name);
            rules.Mappings().Select(static m => m.Text("runbook_url")).Count(u => u?.StartsWith(links + "docs/runbooks/", StringComparison.Ordinal) == true).ShouldBeGreaterThan(5);

            string file = chart["rules.yaml"];
            await using (StreamWriter writer = File.CreateText(file))
            {
                new YamlStream(new YamlDocument(rules)).Save(writer, assignAnchors: false);
            }
            Ended ended = await RunningProgram.Run("promtool", ["check", "rules", file]);
            ended.Code.ShouldBe(0, ended.ToString());
            ended.Output.ShouldContain($"SUCCESS: {plain.Split("alert: ").Length - 1} rules found");
        }
    }

    [Fact]
    public async Task The_dashboards_are_those_of_the_repository()
    {
        YamlMappingNode[] maps = [.. chart[HelmValues.Operator].OfKind("ConfigMap")];
        var expected = CommittedDashboard.Files().ToDictionary(static f => Path.GetFileName(f));

        maps.SelectMany(static m => m.Texts("data").Keys).ShouldBe(expected.Keys, ignoreOrder: true);
        foreach (YamlMappingNode map in maps)
        {
            (string name, string json) = map.Texts("data").ShouldHaveSingleItem();
            JsonNode.DeepEquals(JsonNode.Parse(json), JsonNode.Parse(await File.ReadAllTextAsync(expected[name], TestContext.Current.CancellationToken))).ShouldBeTrue(name);
            map.Texts("metadata/labels")["grafana_dashboard"].ShouldBe("1");
            map.Texts("metadata/annotations")["grafana_folder"].ShouldBe("SIP");
        }
    }

    [Fact]
    public void Nothing_goes_out_but_OTLP_and_the_policy_can_be_narrowed()
    {
        foreach (HelmRendering rendering in chart.Renderings.Where(static r => r.OfKind("NetworkPolicy").Any()))
        {
            YamlMappingNode policy = rendering.The("NetworkPolicy");
            policy.Items("spec/policyTypes").Select(static t => t.ToString()).ShouldBe(["Ingress", "Egress"]);
            policy.At("spec/egress").ShouldBeOfType<YamlSequenceNode>().Any().ShouldBe(rendering.Agent().Variables().ContainsKey("OTEL_EXPORTER_OTLP_ENDPOINT"), rendering.Values.Name);
            policy.Text("spec/ingress/0/ports/0/port").ShouldBe(rendering.Agent().Text("ports/0/name"));
        }
        chart[HelmValues.Everything].The("NetworkPolicy").Text("spec/egress/0/ports/0/port").ShouldBe("4317");
        chart[HelmValues.Operator].The("NetworkPolicy").Texts("spec/ingress/0/from/0/namespaceSelector/matchLabels").ShouldContainKey("kubernetes.io/metadata.name");
    }

    [Fact]
    public void AppArmor_is_told_by_field_or_by_annotation_as_the_cluster_knows_it()
    {
        const string Annotation = "container.apparmor.security.beta.kubernetes.io/kamotel";
        foreach (HelmRendering rendering in chart.Renderings)
        {
            string? field = rendering.Agent().Text("securityContext/appArmorProfile/type");
            string? annotation = rendering.The("DaemonSet").Texts("spec/template/metadata/annotations").GetValueOrDefault(Annotation);
            bool none = rendering.Values.More.Contains("appArmorProfile: null", StringComparison.Ordinal);
            (field is not null).ShouldBe(!none && rendering.Values.KubeVersion is null, rendering.Values.Name);
            (annotation is not null).ShouldBe(!none && rendering.Values.KubeVersion is not null, rendering.Values.Name);
        }
        chart[HelmValues.OldCluster].The("DaemonSet").Texts("spec/template/metadata/annotations").ShouldBe(new Dictionary<string, string> { ["a"] = "b", [Annotation] = "unconfined" }, ignoreOrder: true);
    }

    [Fact]
    public void The_drill_runs_beside_an_agent_and_asks_that_one()
    {
        foreach (HelmRendering rendering in chart.Renderings)
        {
            Dictionary<string, string> agent = rendering.Agent().Variables();
            bool wanted = !rendering.Values.More.Contains("drill: {enabled: false}", StringComparison.Ordinal);
            bool can = !agent.ContainsKey("KAMOTEL_TLS_CLIENT_CA") && (!agent.ContainsKey("KAMOTEL_BASIC_AUTH") || rendering.Values.More.Contains("credentialsSecret", StringComparison.Ordinal));
            rendering.OfKind("Pod").Any().ShouldBe(wanted && can, rendering.Values.Name);
            foreach (YamlMappingNode drill in rendering.OfKind("Pod"))
            {
                drill.Texts("metadata/annotations")["helm.sh/hook"].ShouldBe("test");
                var address = new Uri(drill.Items("spec/containers/0/args").Last().ToString().Replace("$(", "", StringComparison.Ordinal).Replace(")", "", StringComparison.Ordinal));
                YamlMappingNode service = rendering.OfKind("Service").Single(s => address.Host == $"{s.Text("metadata/name")}.{HelmValues.Namespace}.svc");
                service.Text("spec/internalTrafficPolicy").ShouldBe("Local", rendering.Values.Name);
                address.Port.ToString(System.Globalization.CultureInfo.InvariantCulture).ShouldBe(service.Text("spec/ports/0/port"));
                address.Scheme.ShouldBe(agent.ContainsKey("KAMOTEL_TLS_CERTIFICATE") ? "https" : "http");
                drill.Text("spec/containers/0/image").ShouldBe(rendering.Agent().Text("image"));
                agent["KAMOTEL_WATCH"].Split(',').ShouldContain(drill.Text("spec/containers/0/args/2"));
            }
        }
        chart[HelmValues.Protected].The("Pod").Items("spec/containers/0/args").Last().ToString().ShouldBe("https://$(AGENT_USER):$(AGENT_PASSWORD)@kamotel-local.voip.svc:9464");
    }

    [Fact]
    public async Task The_drill_is_a_command_of_the_agent_with_these_options()
    {
        Requirements.Agent();
        string help = (await RunningProgram.Run(Requirements.Binary, ["drill", "--help"])).Output;
        string[] arguments = [.. chart[HelmValues.Default].The("Pod").Items("spec/containers/0/args").Select(static a => a.ToString())];

        help.ShouldContain("kamotel drill");
        arguments[0].ShouldBe("drill");
        arguments.Where(static a => a.StartsWith("--", StringComparison.Ordinal)).ShouldAllBe(option => help.Contains(option));
    }

    [Theory]
    [InlineData("", new[] { "helm -n voip test kamotel", "Nobody scrapes", "Nobody is alerted" }, new[] { "WARNING" })]
    [InlineData(",monitor.kind=PodMonitor,prometheusRule.enabled=true", new[] { "rollout status daemonset/kamotel" }, new[] { "Nobody scrapes", "Nobody is alerted" })]
    [InlineData(",basicAuth.secret=u", new[] { "give drill.credentialsSecret" }, new[] { "helm -n voip test" })]
    [InlineData(",tls.secret=t,tls.clientCaSecret=c", new[] { "the drill has no certificate", "https://localhost:9464/" }, new[] { "helm -n voip test" })]
    [InlineData(",networkPolicy.enabled=false", new[] { "WARNING: whoever reaches the pods" }, new[] { "give drill" })]
    public async Task The_notes_say_what_to_do_next(string values, string[] said, string[] unsaid)
    {
        Ended ended = await HelmChart.Helm("install", "kamotel", HelmChart.Folder, "--namespace", HelmValues.Namespace, "--dry-run=client", "--set", "image.repository=x" + values);

        ended.Code.ShouldBe(0, ended.ToString());
        string notes = ended.Output[ended.Output.IndexOf("\nNOTES:", StringComparison.Ordinal)..];
        said.ShouldAllBe(words => notes.Contains(words));
        unsaid.ShouldAllBe(words => !notes.Contains(words));
    }

    [Fact]
    public async Task The_packaged_chart_has_the_products_version_and_makes_the_same()
    {
        string version = ProductVersion().Match(await File.ReadAllTextAsync(Path.Combine(Requirements.Repository, "Directory.Build.props"), TestContext.Current.CancellationToken)).Groups["version"].Value;
        YamlMappingNode committed = HelmRendering.Parse(await File.ReadAllTextAsync(Path.Combine(HelmChart.Folder, "Chart.yaml"), TestContext.Current.CancellationToken)).Single();
        committed.Text("version").ShouldBe(version);
        committed.Text("appVersion").ShouldBe(version);

        Ended made = await RunningProgram.Run("make", ["-C", Requirements.Repository, "chart"]);

        made.Code.ShouldBe(0, made.ToString());
        string package = Path.Combine(Requirements.Repository, "out", $"kamotel-{version}.tgz");
        made.Output.ShouldContain(Path.GetFileName(package));
        HelmRendering expected = chart[HelmValues.Everything];
        (await HelmChart.Helm("template", expected.Values.Release, package, "--namespace", HelmValues.Namespace, "--values", expected.ValuesFile)).Output
            .ShouldBe(await File.ReadAllTextAsync(expected.File, TestContext.Current.CancellationToken));
    }

    private static bool Selects(Dictionary<string, string> selector, Dictionary<string, string> labels) =>
        selector.Count > 0 && selector.All(s => labels.GetValueOrDefault(s.Key) == s.Value);

    [GeneratedRegex("CAP_[A-Z_]+")]
    private static partial Regex CapabilityName();

    [GeneratedRegex("<VersionPrefix>(?<version>.+)</VersionPrefix>", RegexOptions.ExplicitCapture)]
    private static partial Regex ProductVersion();
}
