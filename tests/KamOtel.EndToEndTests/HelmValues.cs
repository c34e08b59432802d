namespace KamOtel.EndToEndTests;

/// <summary>Values of the chart that are tried: each switch on and off, and what acts on one another together.</summary>
/// <param name="Name">What it is about.</param>
/// <param name="More">The values beside the image.</param>
/// <param name="KubeVersion">The cluster's version; null: helm's own.</param>
/// <param name="Release">The release.</param>
internal sealed record HelmValues(string Name, string More, string? KubeVersion = null, string Release = "kamotel")
{
    /// <summary>Where it is installed.</summary>
    public const string Namespace = "voip";

    private const string Trusted = "tlsConfig: {ca: {secret: {name: agents, key: ca.crt}}, serverName: kamotel}";
    private const string Certified = "tlsConfig: {ca: {secret: {name: agents, key: ca.crt}}, serverName: kamotel, cert: {secret: {name: prometheus, key: tls.crt}}, keySecret: {name: prometheus, key: tls.key}}";
    private const string Named = "basicAuth: {username: {name: prometheus, key: username}, password: {name: prometheus, key: password}}";

    /// <summary>Nothing but what must be given.</summary>
    public static HelmValues Default { get; } = new("default", "");

    /// <summary>As the README shows it.</summary>
    public static HelmValues Operator { get; } = new("the Prometheus operator and Grafana", """
        monitor: {kind: PodMonitor, labels: {release: kube-prometheus-stack}, interval: 30s, scrapeTimeout: 10s}
        prometheusRule: {enabled: true, labels: {release: kube-prometheus-stack}}
        dashboards: {enabled: true, annotations: {grafana_folder: SIP}}
        networkPolicy: {from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]}
        """);

    /// <summary>For nodes with an older kernel.</summary>
    public static HelmValues OldKernel { get; } = new("an old kernel", "security: {sysAdmin: true}");

    /// <summary>HTTPS and passwords, and a drill that knows one.</summary>
    public static HelmValues Protected { get; } = new("HTTPS and passwords", $$$$"""
        tls: {secret: agents}
        basicAuth: {secret: users, key: htpasswd}
        drill: {credentialsSecret: drill}
        monitor: {kind: ServiceMonitor, {{{{Trusted}}}}, {{{{Named}}}} }
        prometheusRule: {enabled: true}
        """);

    /// <summary>OTLP with everything.</summary>
    public static HelmValues Otlp { get; } = new("OTLP", """
        otlp:
          endpoint: https://collector.observability:4317
          protocol: http/protobuf
          headersSecret: {name: otlp}
          caSecret: {name: otlp-ca}
          resourceAttributes: {k8s.cluster.name: "a, b = c"}
          metricsEvery: 15.5
        """);

    /// <summary>Everything that can be on at once.</summary>
    public static HelmValues Everything { get; } = new("everything", $$$$"""
        image: {tag: "1.2.3", digest: "sha256:{{{{new string('a', 64)}}}}", pullPolicy: Always}
        imagePullSecrets: [{name: registry}]
        fullnameOverride: sip-watch
        agent: {watch: [kamailio, opensips, "sip server"], settle: 0.05, inspectEvery: 86400, confirm: 0, ringBytes: 1073741824, logLevel: debug, logFormat: text, listen: "[::]"}
        extraEnv: [{name: TZ, value: UTC}, {name: NODE_IP, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}]
        otlp: {endpoint: "http://collector:4317", headersSecret: {name: otlp, key: h}, caSecret: {name: otlp-ca, key: ca}}
        tls: {secret: agents, clientCaSecret: clients}
        basicAuth: {secret: users}
        security: {sysAdmin: true, seccompProfile: {type: Localhost, localhostProfile: kamotel.json}, appArmorProfile: {type: Localhost, localhostProfile: kamotel}, seLinuxOptions: {type: spc_t}}
        serviceAccount: {name: watcher, annotations: {a: b}}
        resources: {requests: {cpu: 100m, memory: 1Gi}, limits: {cpu: 1, memory: 2Gi}}
        nodeSelector: {sip: "true"}
        tolerations: [{key: sip, operator: Equal, value: "true", effect: NoExecute}]
        affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: sip, operator: Exists}]}]}}}
        priorityClassName: sip-tools
        updateStrategy: {maxUnavailable: 25%}
        terminationGracePeriodSeconds: 5
        podLabels: {team: voip}
        podAnnotations: {example.com/a: "1"}
        monitor: {kind: PodMonitor, {{{{Certified}}}}, {{{{Named}}}}, relabelings: [{sourceLabels: [__meta_kubernetes_namespace], targetLabel: namespace}]}
        prometheusRule: {enabled: true, runbookBase: "https://docs.example.com/kamotel/"}
        dashboards: {enabled: true, labels: {grafana: "yes"}}
        networkPolicy: {egress: [{to: [{namespaceSelector: {}}], ports: [{port: 4317, protocol: TCP}]}]}
        podDisruptionBudget: {enabled: true, minAvailable: 2}
        """);

    /// <summary>Before AppArmor's profile had a field.</summary>
    public static HelmValues OldCluster { get; } = new("an old cluster", "podAnnotations: {a: b}", "1.26.0");

    /// <summary>All of them.</summary>
    public static IReadOnlyList<HelmValues> All { get; } =
    [
        Default,
        Operator,
        OldKernel,
        Protected,
        Otlp,
        Everything,
        OldCluster,
        new("a long release", "", Release: "the-watchers-of-all-the-sip-servers-of-europe-and-of"),
        new("OTLP in the clear", "otlp: {endpoint: \"http://collector:4317\"}"),
        new("OTLP with headers", "otlp: {endpoint: \"http://collector:4317\", headersSecret: {name: otlp}}"),
        new("OTLP's secrets without an endpoint", "otlp: {headersSecret: {name: otlp}, caSecret: {name: ca}}"),
        new("HTTPS", "tls: {secret: agents}"),
        new("HTTPS for clients with certificates", "tls: {secret: agents, clientCaSecret: clients}"),
        new("HTTPS for clients with certificates, scraped", $"tls: {{secret: agents, clientCaSecret: clients}}\nmonitor: {{kind: ServiceMonitor, {Certified}}}"),
        new("HTTPS, scraped", $"tls: {{secret: agents}}\nmonitor: {{kind: PodMonitor, {Trusted}}}"),
        new("passwords", "basicAuth: {secret: users}"),
        new("passwords, and the drill knows one", "basicAuth: {secret: users}\ndrill: {credentialsSecret: drill}"),
        new("passwords, scraped", $"basicAuth: {{secret: users}}\nmonitor: {{kind: PodMonitor, {Named}}}"),
        new("a PodMonitor", "monitor: {kind: PodMonitor}"),
        new("a ServiceMonitor", "monitor: {kind: ServiceMonitor, labels: {release: stack}}"),
        new("alerts", "prometheusRule: {enabled: true}"),
        new("dashboards", "dashboards: {enabled: true}"),
        new("a budget", "podDisruptionBudget: {enabled: true}"),
        new("no drill", "drill: {enabled: false}"),
        new("no drill and passwords", "drill: {enabled: false}\nbasicAuth: {secret: users}"),
        new("no policy", "networkPolicy: {enabled: false}"),
        new("a policy for everybody", "networkPolicy: {from: [{ipBlock: {cidr: 0.0.0.0/0}}]}"),
        new("a policy with a way out", "networkPolicy: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]}\notlp: {endpoint: \"http://10.0.0.1:4317\"}"),
        new("a policy without a drill", "drill: {enabled: false}\nnetworkPolicy: {from: [{podSelector: {}}]}"),
        new("another account", "serviceAccount: {create: false, name: watcher}"),
        new("the namespace's account", "serviceAccount: {create: false}"),
        new("an account by name", "serviceAccount: {name: watcher}"),
        new("the runtime's AppArmor profile", "security: {appArmorProfile: null}"),
        new("AppArmor's default profile", "security: {appArmorProfile: {type: RuntimeDefault}}"),
        new("AppArmor's default profile in an old cluster", "security: {appArmorProfile: {type: RuntimeDefault}}", "1.29.0"),
        new("AppArmor's profile of the node in an old cluster", "security: {appArmorProfile: {type: Localhost, localhostProfile: kamotel}}", "1.29.0"),
        new("SELinux", "security: {seLinuxOptions: {type: spc_t}}"),
        new("no seccomp", "security: {seccompProfile: {type: Unconfined}}"),
        new("no resources", "resources: null"),
        new("any node", "nodeSelector: null\ntolerations: []"),
        new("a tag", "image: {tag: edge}"),
        new("a digest", $"image: {{digest: \"sha256:{new string('0', 64)}\"}}"),
    ];

    /// <summary>All values.</summary>
    public string Yaml => $"""
        # {Name}
        {(More.Contains("image:", StringComparison.Ordinal) ? More.Replace("image: {", "image: {repository: registry.example.com/kamotel, ", StringComparison.Ordinal) : $"image: {{repository: registry.example.com/kamotel}}\n{More}")}
        """;
}
