namespace KamOtel.Dashboards;

/// <summary>The chart's README: how to use it, and the table of its values.</summary>
internal static class ChartReadme
{
    private const string Values = "values.yaml";

    /// <summary>All of it.</summary>
    public static string Text { get; } = $$"""
        <!-- Made from values.yaml and dashboards/KamOtel.Dashboards/ChartReadme.cs by `make dashboards`: do not edit. -->
        # Chart kamotel

        An agent on each node, which watches the Kamailios and OpenSIPSes there, in whatever pod or on the host itself: see
        [how it works](../../docs/how-it-works.md). It takes Helm 3.8 or later and Kubernetes 1.26 or later, nodes with Linux 5.8 or later
        (6.6 without `security.sysAdmin`) and BTF. The image is of the architecture that it was made on: where a cluster has two, add `kubernetes.io/arch` to
        `nodeSelector`.

        ```sh
        kubectl create namespace kamotel
        kubectl label namespace kamotel pod-security.kubernetes.io/enforce=privileged    # for hostPID
        helm install kamotel out/kamotel-*.tgz -n kamotel --set image.repository=registry.example.com/kamotel
        helm test kamotel -n kamotel --logs
        ```

        With the Prometheus operator and Grafana's side-car:

        ```yaml
        monitor:
          kind: PodMonitor
          labels: {release: kube-prometheus-stack}
        prometheusRule:
          enabled: true
          labels: {release: kube-prometheus-stack}
        dashboards:
          enabled: true
        networkPolicy:
          from:
            - namespaceSelector:
                matchLabels: {kubernetes.io/metadata.name: monitoring}
        ```

        ## What it may do

        `hostPID`, user 0 with the [documented capabilities](../../docs/security.md) and no other, a read-only root, the runtime's seccomp profile;
        no `privileged`, no host network, no host path, no permission in Kubernetes' API and no token. `security.appArmorProfile` is
        `Unconfined`, as AppArmor's default profile forbids to look into a process of another profile. Another pod cannot be looked into with less than
        this, and the namespace needs the Pod Security level `privileged`.

        ## Values

        What is not in this table is refused. Nothing has to be given but `image.repository`.

        | value | default | |
        | --- | --- | --- |
        {{string.Join('\n', ChartValue.Read(Embedded()).Select(Row))}}

        """;

    private static string Row(ChartValue value) => $"| `{value.Path}` | `{value.Default}` | {value.Description.Replace("|", "\\|", StringComparison.Ordinal)} |";

    private static string Embedded()
    {
        using var reader = new StreamReader(typeof(ChartReadme).Assembly.GetManifestResourceStream(Values) ?? throw new InvalidOperationException($"{Values} is not embedded"));
        return reader.ReadToEnd();
    }
}
