using static KamOtel.Dashboards.Panels;
using static KamOtel.Dashboards.InstrumentQuery;

namespace KamOtel.Dashboards;

/// <summary>The agents themselves: do they see everything, and what do they cost.</summary>
internal static class AgentDashboard
{
    private const string Of = "{{instance}}";

    public static Dashboard Make() => new(
        "kamotel-agent",
        "KamOtel / Agent",
        "Do the agents see everything, and what do they cost",
        "The agents themselves: what they lose, what they could not probe or read, how long their work takes, what becomes of their telemetry, and what they cost.",
        "now-1h",
        Variables.AgentScope,
        Annotations.OnlyStarts,
        [
            new Row(null, 4, Numbers()),
            new Row("Events", 8, Events()),
            new Row("Probes", 8, Probes()),
            new Row("Work", 8, Work()),
            new Row("Telemetry by OTLP", 8, Telemetry()),
            new Row("Cost and versions", 8, Cost()),
        ]);

    private static Panel[] Numbers() =>
    [
        Stat("Silent agents", 4, "none", "none is scraped",
            "Agents that Prometheus could not scrape. Nothing is known of the servers on their hosts. Look at systemctl status kamotel, or the pod.",
            new Query("sum(1 - up{job=~\"$job\", instance=~\"$instance\"})", "agents"))
            with { Thresholds = BadFromOne },
        Stat("Events lost in this time", 4, "none", "no agent answers",
            "Events that the kernel side dropped because the ring was full. Coverage of the servers has a gap then. Raise --ring-bytes, or give the agent more CPU.",
            new Query("sum(" + GrownInAll("kamotel.events.lost", "instance, kind") + ")", "events"))
            with { Thresholds = WarnFromOne },
        Stat("Files not probed", 4, "none", "no agent answers",
            "Files with a libcrypto that should carry probes and could not be probed, since the agent was started. The agent's log says why, and kamotel doctor what to change.",
            new Query("sum(kamotel.attach.failures)", "files"))
            with { Thresholds = WarnFromOne, Links = [Links.ToGuide("Can this machine do it?", "operations.md#can-this-machine-do-it")] },
        Stat("Unread complaints", 4, "none", "no agent answers",
            "Complaints of memory managers that the agent could not read, since it was started; they are counted nowhere else. Report them with a recording.",
            new Query("sum(kamotel.memory.unread_complaints)", "complaints"))
            with { Thresholds = WarnFromOne },
        Stat("Restarts of the unwinder", 4, "none", "no agent answers",
            "Times that the process which unwinds stacks had to be started anew: a damaged file was its end. Authors are missing for a moment. The log names the file.",
            new Query("sum(kamotel.unwinder.restarts)", "restarts"))
            with { Thresholds = WarnFromOne, Links = [Links.ToGuide("Authors that are not known", "operations.md#authors-that-are-not-known")] },
        Stat("Telemetry lost in this time", 4, "none", "no agent answers",
            "Log records, spans and exports of metrics that did not reach the OTLP endpoint. /metrics is not affected. The log says once why.",
            new Query("sum(" + GrownInAll("kamotel.telemetry.dropped", "instance, signal, reason") + ")", "items"))
            with { Thresholds = WarnFromOne },
    ];

    private static Panel[] Events() =>
    [
        Lines("Events received", 8, "eps", "no agent answers",
            "Events that the agents took from the kernel, by kind. Quiet servers make hardly any; many starts at once make thousands.",
            new Query("sum by (kind) (rate(kamotel.events.received[$__rate_interval]))", "{{kind}}")),
        Bars("Events lost", 8, "none", "no agent answers",
            "Events that were dropped in each interval, by kind. Lost stacks hide authors, lost forks and calls make a gap in coverage.",
            new Query(Grown("kamotel.events.lost", "kind"), "{{kind}}"))
            with { Links = [Links.ToGuide("What to do about a gap", "operations.md#gaps")] },
        Lines("Fill of the ring", 8, "percentunit", "no agent answers",
            "Share of the ring between kernel and agent that waits to be read. Near 100 % events are lost; from half on no stacks are copied. Raise --ring-bytes.",
            new Query("max by (instance) (kamotel.ring.used / kamotel.ring.size)", Of))
            with { Bounds = (0, 1) },
    ];

    private static Panel[] Probes() =>
    [
        Lines("Files with probes", 8, "none", "no agent answers",
            "Files that carry probes. Zero: the agent sees no call at all. Each libcrypto that a server maps is one.",
            new Query("sum by (instance) (kamotel.libraries.probed)", Of)),
        Lines("Probes by function", 8, "none", "no agent carries a probe",
            "Files that carry a probe on the function. From OpenSSL 3.6 on there are more functions than before.",
            new Query("sum by (function) (kamotel.probes.attached)", "{{function}}")),
        Lines("Delay of attaching", 8, "s", "no library was mapped yet",
            "Time from the mapping of a libcrypto by a watched server to its probes, for 50 and 99 of 100, since the agents were started. Only libraries that no system path has wait: calls in that time are missed (library_late). Give their folder with --library-path.",
            new Query("histogram_quantile(0.5, sum by (le) (kamotel.attach.delay_bucket))", "50 %"),
            new Query("histogram_quantile(0.99, sum by (le) (kamotel.attach.delay_bucket))", "99 %"))
            with { Links = [Links.ToGuide("What to do about a gap", "operations.md#gaps")] },
    ];

    private static Panel[] Work() =>
    [
        Lines("Time of an inspection", 8, "s", "no inspection yet",
            "Time to read the slots of all processes of one server, of 99 in 100 in the interval, and on average. It grows with the number of processes. The servers are not stopped.",
            new Query("histogram_quantile(0.99, sum by (le) (rate(kamotel.inspection.duration_bucket[$__rate_interval])))", "99 %"),
            new Query("sum(rate(kamotel.inspection.duration_sum[$__rate_interval])) / sum(rate(kamotel.inspection.duration_count[$__rate_interval]))", "average")),
        Lines("Time to unwind a stack", 8, "s", "no stack yet",
            "Time to find out who made a call, since the agents were started, for 50 and 99 of 100. The servers do not wait for it.",
            new Query("histogram_quantile(0.5, sum by (le) (kamotel.unwind.duration_bucket))", "50 %"),
            new Query("histogram_quantile(0.99, sum by (le) (kamotel.unwind.duration_bucket))", "99 %")),
        Bars("Inspections and watches", 8, "none", "no agent answers",
            "Inspections of servers, and times that the use of shared slots was watched (once after a hazard is found), in each interval. No inspection while servers run: the agent hangs.",
            new Query(Grown("kamotel.inspections", "instance"), "inspections, {{instance}}"),
            new Query(Grown("kamotel.confirm_windows", "instance"), "watches, {{instance}}")),
    ];

    private static Panel[] Telemetry() =>
    [
        Bars("Exported", 12, "none", "no agent answers",
            "Log records, spans and exports of metrics that the OTLP endpoint took, in each interval. All zero: no endpoint is set, which is no fault.",
            new Query(Grown("kamotel.telemetry.exported", "signal"), "{{signal}}"))
            with { Links = [Links.ToGuide("OTLP", "operations.md#otlp")] },
        Bars("Not exported", 12, "none", "no agent answers",
            "What did not leave, by reason: queue_full, more came than could be sent; export_failed, the endpoint did not take it. Look at the collector.",
            new Query(Grown("kamotel.telemetry.dropped", "signal, reason"), "{{signal}}: {{reason}}"))
            with { Links = [Links.ToGuide("OTLP", "operations.md#otlp")] },
    ];

    private static Panel[] Cost() =>
    [
        Lines("Memory", 8, "bytes", "no agent answers",
            "Resident memory of each agent. It is bounded: steady growth is a fault, report it.",
            new Query("max by (instance) (kamotel.agent.memory)", Of)),
        Lines("CPU", 8, "percentunit", "no agent answers",
            "CPU of each agent, of one processor. Peaks come with starts of servers; steady load without any is a fault.",
            new Query("sum by (instance) (rate(kamotel.agent.cpu_time[$__rate_interval]))", Of)),
        Table("Builds", 8, "no agent answers",
            "Which version each agent is. More than one: a roll-out is under way, or was forgotten somewhere.",
            new Query("max by (instance, version, revision) (kamotel.build.info)"))
            with
            {
                Transformations = [Columns(["instance", "version", "revision"], "Time", "Value")],
                Overrides =
                [
                    new Override("instance", ("displayName", "Agent")),
                    new Override("version", ("displayName", "Version"), ("custom.width", 90)),
                    new Override("revision", ("displayName", "Revision"), ("custom.width", 110)),
                ],
            },
    ];
}
