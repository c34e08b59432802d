using System.Text.Json.Nodes;
using static KamOtel.Dashboards.Panels;
using static KamOtel.Dashboards.InstrumentQuery;

namespace KamOtel.Dashboards;

/// <summary>All targets: who is in danger, who is blind, where to look first.</summary>
internal static class FleetDashboard
{
    private const string Uid = "kamotel-fleet";

    // Two hosts may have a target of one name: their agents tell them apart.
    private const string ByTarget = "instance, target";

    private const string Of = "{{target}} at {{instance}}";

    public static Dashboard Make() => new(
        Uid,
        "KamOtel / Fleet",
        "All targets and their verdicts",
        "Which Kamailio and OpenSIPS servers share OpenSSL's thread-local state between their processes, which of them were damaged by it, and what could not be seen.",
        "now-6h",
        Variables.AgentScope,
        Annotations.All,
        [
            new Row(null, 4, Numbers()),
            new Row("Targets", 11, Targets()),
            new Row("Verdicts over time", 8, Timeline()),
            new Row("Damage", 7, Damage()),
            new Row("What was not seen", 7, Blindness()),
            new Row("Shared memory and starts", 7, Supply()),
        ]);

    private static Panel[] Numbers() =>
    [
        Stat("Targets by verdict", 12, "none", "no server was found",
            "How many targets are judged so now, the worst of a target's servers. Corrupted: restart it with the cure. Hazard: plan the cure; under TLS load it will crash. Unknown: nobody can tell, which is not safe: see *What was not seen*.",
            [.. Verdicts.All.Select(static v => new Query($"sum(kamotel.instance.verdict{{verdict=\"{v.Word}\"}})", v.Word))])
            with
            {
                Overrides = [.. Verdicts.All.Select(static v => new Override(v.Word, ("thresholds", Steps((null, Verdicts.Plain), (1, v.Colour)))))],
            },
        Stat("Running servers", 4, "none", "no server was found",
            "Servers that run now. A target may have several. Fewer than you know of: an agent is missing on a host, or the program has another name (`--watch`).",
            new Query("sum(kamotel.instances)", "servers")),
        Stat("Crashes, all targets", 4, "none", "nobody looked",
            "Processes of watched servers that died of a fault in the time shown, or since the agent was started. Any is worth the runbook on crashes.",
            new Query($"sum({GrownInAll("kamotel.crashes", ByTarget)}) or 0 * group(kamotel.exits)", "crashes"))
            with { Thresholds = BadFromOne, Links = [Links.ToGuide("Runbook: crash", "runbooks/crash.md")] },
        Stat("Silent agents", 4, "none", "none is scraped",
            "Agents that Prometheus could not scrape. Nothing is known of the servers on their hosts: their rows are missing below, not green.",
            new Query("sum(1 - up{job=~\"$job\", instance=~\"$instance\"})", "agents"))
            with { Thresholds = BadFromOne },
    ];

    private static Panel Targets() =>
        Table("Targets now", 24, "No server was found: is an agent scraped, and is the program one that it watches?",
            "A row a target, the worst first. Author is the module that set most of the shared slots, asked by the module that wanted it. Coverage: full, or gaps that hide who set a slot and when (the verdict is right in spite of them). A click on the target leads to its detail, on the verdict to the traces of its starts.",
            new Query(Verdicts.CodeBy(ByTarget)),
            new Query($"sum by ({ByTarget}) (kamotel.instance.shared_slots)"),
            new Query($"topk by ({ByTarget}) (1, sum by ({ByTarget}, author, asked_by) (kamotel.instance.shared_slot_info))"),
            new Query($"max by ({ByTarget}, kamailio, openssl, tls_back_end, tls_threads_mode) (kamotel.instance.info)"),
            new Query($"min by ({ByTarget}) (kamotel.instance.covered)"),
            new Query($"{GrownInAll("kamotel.crashes", ByTarget)} or {ZeroWhereWatched(ByTarget)}"),
            new Query($"{GrownInAll("kamotel.memory.complaints", ByTarget)} or {ZeroWhereWatched(ByTarget)}"),
            new Query(GrownInAll("kamotel.execs", ByTarget)),
            new Query($"max by ({ByTarget}) (kamotel.instance.start_time) * 1000"),
            new Query($"min by ({ByTarget}) (kamotel.shared_memory.free / kamotel.shared_memory.size)"))
            with
        {
            Transformations =
                [
                    Merge(),
                    Columns(
                        ["target", "instance", "Value #A", "Value #B", "author", "asked_by", "kamailio", "openssl", "tls_back_end", "tls_threads_mode", "Value #E", "Value #F", "Value #G", "Value #H", "Value #I", "Value #J"],
                        "Time", "Value #C", "Value #D"),
                ],
            Options = new JsonObject
            {
                ["cellHeight"] = "sm",
                ["showHeader"] = true,
                ["enablePagination"] = true,
                ["sortBy"] = new JsonArray(new JsonObject { ["displayName"] = "Verdict", ["desc"] = true }),
            },
            Overrides =
                [
                    new Override("target", ("displayName", "Target"), ("custom.width", 260), ("links", LinkTo(Links.ToTargetOfRow))),
                    new Override("instance", ("displayName", "Agent"), ("custom.width", 150)),
                    new Override("Value #A", ("displayName", "Verdict"), ("mappings", Verdicts.Mappings()), Coloured(), ("custom.width", 100), ("links", LinkTo([Links.ToStartsOfRow, .. Links.Runbooks]))),
                    new Override("Value #B", ("displayName", "Shared slots"), ("thresholds", Steps((null, Verdicts.Plain), (1, Verdicts.Warning))), ColouredText(), ("custom.width", 95)),
                    new Override("author", ("displayName", "Author"), ("noValue", "–"), ("custom.width", 100)),
                    new Override("asked_by", ("displayName", "Asked by"), ("noValue", "–"), ("custom.width", 100)),
                    new Override("kamailio", ("displayName", "Kamailio"), ("noValue", "not known"), ("custom.width", 90)),
                    new Override("openssl", ("displayName", "OpenSSL"), ("noValue", "not known"), ("custom.width", 90)),
                    new Override("tls_back_end", ("displayName", "TLS by"), ("noValue", "–"), ("custom.width", 80)),
                    new Override("tls_threads_mode", ("displayName", "tls_threads_mode"), ("noValue", "–"), ("custom.width", 130)),
                    new Override("Value #E", ("displayName", "Coverage"), ("mappings", YesNo("gaps", Verdicts.Warning, "full", Verdicts.Plain)), ColouredText(), ("noValue", "not seen"), ("custom.width", 85)),
                    new Override("Value #F", ("displayName", "Crashes"), ("thresholds", Steps((null, Verdicts.Plain), (1, Verdicts.Bad))), ColouredText(), ("custom.width", 80), ("links", LinkTo(Links.ToGuide("Runbook: crash", "runbooks/crash.md")))),
                    new Override("Value #G", ("displayName", "Complaints"), ("thresholds", Steps((null, Verdicts.Plain), (1, Verdicts.Bad))), ColouredText(), ("custom.width", 95)),
                    new Override("Value #H", ("displayName", "Starts"), ("custom.width", 70)),
                    new Override("Value #I", ("displayName", "Started"), ("unit", "dateTimeFromNow"), ("noValue", "not running"), ("custom.width", 120)),
                    new Override("Value #J", ("displayName", "Shared memory free"), ("unit", "percentunit"), ("decimals", 0), ("noValue", "not known"), ("thresholds", Steps((null, Verdicts.Bad), (0.1, Verdicts.Warning), (0.2, Verdicts.Plain))), ColouredText()),
                ],
        };

    private static Panel Timeline() =>
        States("Verdict of each target", 24, "No server was found",
            "When a verdict came and how long it was in force. An empty stretch is a time of which nothing is known: the server did not run, or its agent did not.",
            Verdicts.Mappings(),
            new Query(Verdicts.CodeBy(ByTarget), Of))
            with
        { Links = [Links.ToTargetOfSeries, Links.ToStartsOfSeries, .. Links.Runbooks] };

    private static Panel[] Damage() =>
    [
        Bars("Crashes", 8, "none", "nobody looked",
            "Processes that died of SIGSEGV, SIGABRT and the like, in each interval. With the verdict corrupted it is OpenSSL's hazard; without it is something else. Points lead to the trace.",
            new Query($"{Grown("kamotel.crashes", ByTarget)} or {ZeroWhereWatched(ByTarget)}", Of, Exemplars: true))
            with { Links = [Links.ToTargetOfSeries, Links.ToGuide("Runbook: crash", "runbooks/crash.md")] },
        Bars("Complaints of memory managers", 8, "none", "nobody looked",
            "Memory freed twice, overwritten, and so on, as the servers' own memory managers found it. A crash often follows. Find the author in the detail.",
            new Query($"{Grown("kamotel.memory.complaints", ByTarget)} or {ZeroWhereWatched(ByTarget)}", Of))
            with { Links = [Links.ToTargetOfSeries, Links.ToGuide("Runbook: corrupted", "runbooks/corrupted.md")] },
        Bars("Shared memory that was refused", 8, "none", "nobody looked",
            "Times that a server asked for shared memory and there was none left. Calls are lost then. Raise -m, or find what leaks.",
            new Query($"{Grown("kamotel.shared_memory.allocation_failures", ByTarget)} or {ZeroWhereWatched(ByTarget)}", Of))
            with { Links = [Links.ToTargetOfSeries, Links.ToGuide("Runbook: shared memory", "runbooks/shared-memory.md")] },
    ];

    private static Panel[] Blindness() =>
    [
        Table("Gaps", 12, "Nothing was missed",
            "What was missed of which target since its start. The verdict comes from inspection and is right in spite of gaps; what they hide is who set a slot, and when. The operations guide tells what to do about each.",
            new Query($"sum by ({ByTarget}, gap) (kamotel.instance.gap)"))
            with
            {
                Transformations = [OnlyAboveZero(), Columns(["target", "instance", "gap"], "Time", "Value")],
                Overrides = Named(("gap", "Was missed", Links.ToGuide("What to do about a gap", "operations.md#gaps"))),
            },
        Table("Processes that could not be inspected", 12, "All were inspected",
            "Living processes whose slots could not be read, by why. Any makes the verdict unknown, unless the others prove a hazard. The operations guide tells what to do about each status.",
            new Query($"sum by ({ByTarget}, status) (kamotel.instance.inspected_processes{{status!=\"inspected\"}})"))
            with
            {
                Transformations = [OnlyAboveZero(), Columns(["target", "instance", "status", "Value"], "Time")],
                Overrides = [.. Named(("status", "Why", Links.ToGuide("What to do about a status", "operations.md#processes-that-could-not-be-inspected"))), new Override("Value", ("displayName", "Processes"))],
            },
    ];

    private static Panel[] Supply() =>
    [
        Lines("Shared memory free", 12, "percentunit", "not known of any server",
            "Share of each server's shared memory that is left; of a target's servers the one with the least. Below 10 % raise -m at the next restart, and look what grows.",
            new Query($"min by ({ByTarget}) (kamotel.shared_memory.free / kamotel.shared_memory.size)", Of))
            with { Bounds = (0, 1), Decimals = 0, Links = [Links.ToTargetOfSeries, Links.ToGuide("Runbook: shared memory", "runbooks/shared-memory.md")] },
        Bars("Starts", 12, "none", "nobody looked",
            "Starts of watched programs in each interval. The same target again and again: it crashes and the service manager starts it anew.",
            new Query(Grown("kamotel.execs", ByTarget), Of))
            with { Links = [Links.ToTargetOfSeries, Links.ToStartsOfSeries] },
    ];

    private static Override[] Named((string Field, string Name, DataLink Link) last) =>
    [
        new("target", ("displayName", "Target"), ("links", LinkTo(Links.ToTargetOfRow))),
        new("instance", ("displayName", "Agent")),
        new(last.Field, ("displayName", last.Name), ("links", LinkTo(last.Link))),
    ];
}
