using static KamOtel.Dashboards.Panels;
using static KamOtel.Dashboards.InstrumentQuery;

namespace KamOtel.Dashboards;

/// <summary>One target: its verdict, why, since when, and what became of it.</summary>
internal static class InstanceDashboard
{
    public const string Uid = "kamotel-instance";

    private const string ByTarget = "instance, target";

    private const string Of = "{{target}} at {{instance}}";

    public static Dashboard Make() => new(
        Uid,
        "KamOtel / Instance",
        "One target in detail",
        "One target: its verdict and why, the slots that its processes share and who set them, what it called and when, its crashes and complaints, its memory, and what was not seen of it.",
        "now-6h",
        Variables.TargetScope,
        Annotations.All,
        [
            new Row(null, 4, Numbers()),
            new Row("Verdict", 6, Timeline()),
            new Row(null, 7, Reasons()),
            new Row("Processes and what their Thread#1 holds", 8, Processes()),
            new Row(null, 8, Slots()),
            new Row("Thread-local calls", 8, Calls()),
            new Row("Damage", 8, Damage()),
            new Row(null, 8, Ends()),
            new Row("Shared memory", 8, Memory()),
            new Row("Starts", 8, Starts()),
            new Row("Coverage", 10, Coverage()),
        ]);

    private static Panel[] Numbers() =>
    [
        Stat("Verdict now", 4, "none", "not running, or nobody looks",
            "The worst of the target's servers. Hazard: two processes hold the same pointer into shared memory, and under TLS load the server will crash. Corrupted: it did. Unknown is not safe. A click leads to the trace of its start and to the runbook.",
            new Query(Verdicts.CodeBy(ByTarget), Of))
            with
            {
                Mappings = Verdicts.Mappings(),
                Links = [Links.ToStartsOfSeries, .. Links.Runbooks],
            },
        Stat("Shared slots now", 3, "none", "not running",
            "OpenSSL slots that two or more processes share: the hazard itself. The table below names them and their authors.",
            new Query($"sum by ({ByTarget}) (kamotel.instance.shared_slots)", Of))
            with { Thresholds = WarnFromOne },
        Stat("Shared slots used", 3, "none", "nobody looked",
            "How often processes used a shared slot while that was watched, for two seconds after the hazard was found. Zero does not clear it: nobody may have connected just then.",
            new Query($"sum by ({ByTarget}) (kamotel.shared_slot.uses)", Of))
            with { Thresholds = WarnFromOne },
        Stat("Crashes", 3, "none", "nobody looked",
            "Processes that died of a fault in the time shown, or since the agent was started. Below: by signal and module.",
            new Query($"{GrownInAll("kamotel.crashes", ByTarget)} or {ZeroWhereWatched(ByTarget)}", Of))
            with { Thresholds = BadFromOne, Links = [Links.ToGuide("Runbook: crash", "runbooks/crash.md")] },
        Stat("Complaints", 3, "none", "nobody looked",
            "Damage that the memory manager found in the time shown, or since the agent was started. Below: by kind and module.",
            new Query($"{GrownInAll("kamotel.memory.complaints", ByTarget)} or {ZeroWhereWatched(ByTarget)}", Of))
            with { Thresholds = BadFromOne, Links = [Links.ToGuide("Runbook: corrupted", "runbooks/corrupted.md")] },
        Stat("Coverage now", 3, "none", "not running",
            "Full: nothing was missed since its exec. Gaps: the verdict is right all the same, but who set a slot, and when, may be hidden. The gaps are listed at the end.",
            new Query($"min by ({ByTarget}) (kamotel.instance.covered)", Of))
            with { Mappings = YesNo("gaps", Verdicts.Warning, "full", Verdicts.Plain), Links = [Links.ToGuide("What to do about a gap", "operations.md#gaps")] },
        Stat("Servers now", 2, "none", "none",
            "How many servers of this target run at the moment. Two: a restart under way, or a second server with the same configuration.",
            new Query($"sum by ({ByTarget}) (kamotel.instances)", Of)),
        Stat("Last inspection", 3, "s", "not inspected yet",
            "How long ago its slots were read last, of its servers the longest. A running server is inspected every 60 seconds at least (--inspect-every): older than that, the agent hangs or stopped.",
            new Query($"time() - min by ({ByTarget}) (kamotel.instance.inspection_time)", Of))
            with { Thresholds = [(null, Verdicts.Plain), (180, Verdicts.Blind)], Decimals = 0 },
    ];

    private static Panel Timeline() =>
        States("Verdict over time", 24, "not seen in this time",
            "When a verdict came and how long it was in force. An empty stretch is a time of which nothing is known. Marks above are starts, verdicts and crashes.",
            Verdicts.Mappings(),
            new Query(Verdicts.CodeBy(ByTarget), Of))
            with
        { Links = [Links.ToStartsOfSeries, .. Links.Runbooks] };

    private static Panel[] Reasons() =>
    [
        Table("Shared slots by name and author", 14, "No slot is shared",
            "What OpenSSL keeps in each shared slot, the module that set it (author) and the one that asked it to. A slot called err_state means that the crash is near: whatever fails in OpenSSL uses it. Where the author is not known, the call was made before the agent looked.",
            new Query($"sum by ({ByTarget}, slot, author, asked_by) (kamotel.instance.shared_slot_info)"))
            with
            {
                Transformations = [Columns(["target", "instance", "slot", "author", "asked_by", "Value"], "Time")],
                Overrides =
                [
                    new Override("target", ("displayName", "Target"), ("links", LinkTo(Links.ToStartsOfRow))),
                    new Override("instance", ("displayName", "Agent")),
                    new Override("slot", ("displayName", "Slot"), ("noValue", "not known")),
                    new Override("author", ("displayName", "Author"), ("noValue", "not known")),
                    new Override("asked_by", ("displayName", "Asked by"), ("noValue", "not known")),
                    new Override("Value", ("displayName", "Slots"), ("custom.width", 70)),
                ],
            },
        Table("Made of", 10, "not running",
            "Versions and setting that decide about the cure: tls_threads_mode exists from Kamailio 5.7.5 on and cures with 2 (and is 2 from 6.0 on). The hazard's runbook has the cure for each.",
            new Query("max by (instance, target, kamailio, openssl, tls_back_end, tls_threads_mode) (kamotel.instance.info)"))
            with
            {
                Transformations = [Columns(["target", "kamailio", "openssl", "tls_back_end", "tls_threads_mode"], "Time", "Value", "instance")],
                Overrides =
                [
                    new Override("target", ("displayName", "Target")),
                    new Override("kamailio", ("displayName", "Kamailio"), ("noValue", "not known"), ("custom.width", 90), ("links", LinkTo(Links.ToGuide("The cure for each version", "runbooks/hazard.md#the-cure")))),
                    new Override("openssl", ("displayName", "OpenSSL"), ("noValue", "not known"), ("custom.width", 90)),
                    new Override("tls_back_end", ("displayName", "TLS by"), ("noValue", "–"), ("custom.width", 80)),
                    new Override("tls_threads_mode", ("displayName", "tls_threads_mode"), ("noValue", "–"), ("custom.width", 140)),
                ],
            },
    ];

    private static Panel[] Processes() =>
    [
        Areas("Processes by role", 8, "none", "not running",
            "Living processes. The root forks the workers; when one worker dies of a signal, Kamailio's root ends all.",
            new Query("sum by (role) (kamotel.instance.processes)", "{{role}}")),
        Areas("Processes by what they hold", 8, "none", "not running",
            "What Thread#1 of each process holds: nothing, pointers of its own, or pointers that another process holds, too (shared: the hazard). Unknown was not inspected.",
            new Query("sum by (holding) (kamotel.instance.holders)", "{{holding}}")),
        Areas("Processes by inspection", 8, "none", "not running",
            "How the latest inspection of each process ended. Whatever is not inspected makes the verdict unknown; the operations guide tells what to do about each.",
            new Query("sum by (status) (kamotel.instance.inspected_processes)", "{{status}}"))
            with { Links = [Links.ToGuide("What to do about a status", "operations.md#processes-that-could-not-be-inspected")] },
    ];

    private static Panel[] Slots() =>
    [
        Lines("Shared slots over time", 8, "none", "not running",
            "Slots that two or more processes share. It should be zero, and falls to zero after the cure and a restart.",
            new Query($"sum by ({ByTarget}) (kamotel.instance.shared_slots)", Of)),
        Lines("Slots with a pointer", 8, "none", "not running",
            "OpenSSL slots in Thread#1 that hold a pointer, by role. Root's are what a worker inherits at its fork.",
            new Query("sum by (role) (kamotel.instance.live_slots)", "{{role}}")),
        Lines("Inherited slots", 8, "none", "not running",
            "Slots of workers that still hold the pointer that the parent had at the fork. Into private memory they are harmless; into shared memory they are the hazard.",
            new Query($"sum by ({ByTarget}) (kamotel.instance.inherited_slots)", Of)),
    ];

    private static Panel[] Calls() =>
    [
        Bars("Calls before and after the fork", 8, "none", "nobody looked",
            "Calls of OpenSSL's thread-local functions in each interval, by whether Thread#1 made them and by phase. Calls of Thread#1 before the fork are what workers may inherit.",
            new Query($"{Grown("kamotel.thread_local.calls", "thread, phase")} or 0 * group(kamotel.exits)", "{{thread}} {{phase}}")),
        Bars("Pointers stored by Thread#1 before the fork", 8, "none", "nobody looked",
            "What GDB shows with a breakpoint on CRYPTO_THREAD_set_local, a clue and no proof: cured servers make these calls, too, and clear the slots in the child. Points lead to the trace of the start.",
            new Query(
                $"{Grown("kamotel.thread_local.calls{thread=\"main\", phase=\"before_fork\", value=\"pointer\"}", "instance, target, call")} or {ZeroWhereWatched(ByTarget)}",
                "{{call}} {{target}}",
                Exemplars: true))
            with { Links = [Links.ToStartsOfSeries] },
        Bars("Stacks by whether they named the author", 8, "none", "nobody looked",
            "Stacks of calls: attributed names the module that made the call. Of unknown ones the log event says why (kamotel.chain.end).",
            new Query(Grown("kamotel.stacks", "outcome"), "{{outcome}}"))
            with { Links = [Links.ToGuide("Authors that are not known", "operations.md#authors-that-are-not-known")] },
    ];

    private static Panel[] Damage() =>
    [
        Bars("Crashes by signal and module", 12, "none", "nobody looked",
            "Where processes died: the innermost of the server's modules on the stack. The same module each time is where to look; another one each time is what damaged memory looks like. Points lead to the trace of the start, which has the stack.",
            new Query(
                $"{Grown("kamotel.crashes", "instance, target, signal, role, module")} or label_replace({ZeroWhereWatched(ByTarget)}, \"signal\", \"none\", \"\", \"\")",
                "{{signal}} {{role}} {{module}}",
                Exemplars: true))
            with { Links = [Links.ToGuide("Runbook: crash", "runbooks/crash.md")] },
        Bars("Complaints by kind and module", 12, "none", "nobody looked",
            "What the memory manager found damaged, by the module that called it. The first is nearer to the cause than a crash.",
            new Query(
                $"{Grown("kamotel.memory.complaints", "instance, target, complaint, module")} or label_replace({ZeroWhereWatched(ByTarget)}, \"complaint\", \"none\", \"\", \"\")",
                "{{complaint}} {{module}}"))
            with { Links = [Links.ToGuide("Runbook: corrupted", "runbooks/corrupted.md")] },
    ];

    private static Panel[] Ends() =>
    [
        Bars("Ends of processes", 12, "none", "nobody looked",
            "Processes that ended, by how: exit code 0 (clean), another (error), or a signal. Signals that are no crash are ends from outside, such as SIGTERM.",
            new Query(Grown("kamotel.exits", "status"), "{{status}}")),
        Bars("Verdicts that were reached", 12, "none", "nobody looked",
            "How often a server came to a verdict, also to one that was in force for less than a scrape. Points of hazard and corrupted lead to the trace of the start.",
            new Query(Grown("kamotel.verdicts", "instance, target, verdict"), "{{verdict}}", Exemplars: true))
            with
            {
                Overrides = [.. Verdicts.All.Select(static v => new Override(v.Word, ("color", Fixed(v.Colour))))],
                Links = [Links.ToStartsOfSeries],
            },
    ];

    private static Panel[] Memory() =>
    [
        Lines("Use of shared memory", 16, "bytes", "not known",
            "The memory manager's own figures, read at each inspection. Near the size: calls are refused soon. What grows and never falls leaks. Most used also tells what came and went between two inspections.",
            new Query($"max by ({ByTarget}) (kamotel.shared_memory.size)", "size, {{target}}"),
            new Query($"max by ({ByTarget}) (kamotel.shared_memory.max_used)", "most used, {{target}}"),
            new Query($"max by ({ByTarget}) (kamotel.shared_memory.used)", "used, {{target}}"),
            new Query($"min by ({ByTarget}) (kamotel.shared_memory.free)", "free, {{target}}"))
            with { Links = [Links.ToGuide("Runbook: shared memory", "runbooks/shared-memory.md")] },
        Bars("Shared memory refused, by module", 8, "none", "nobody looked",
            "Times that there was no room, by the module that asked: the one that suffers, not always the one that fills it.",
            new Query(
                $"{Grown("kamotel.shared_memory.allocation_failures", "instance, target, module")} or label_replace({ZeroWhereWatched(ByTarget)}, \"module\", \"none\", \"\", \"\")",
                "{{module}}"))
            with { Links = [Links.ToGuide("Runbook: shared memory", "runbooks/shared-memory.md")] },
    ];

    private static Panel[] Starts() =>
    [
        Bars("Starts and forks", 12, "none", "nobody looked",
            "Starts of the program, and processes that it forked. Starts again and again: it crashes and the service manager starts it anew. A call such as kamailio -c counts as a start, too.",
            new Query(Grown("kamotel.execs", ByTarget), "starts, {{target}}"),
            new Query(Grown("kamotel.forks", ByTarget), "forks, {{target}}"))
            with { Links = [Links.ToStartsOfSeries] },
        Lines("Time since the start", 12, "s", "not running",
            "How long the target's latest server has been running. A saw is a crash loop, or somebody who restarts it.",
            new Query($"time() - max by ({ByTarget}) (kamotel.instance.start_time)", Of))
            with { Links = [Links.ToStartsOfSeries] },
    ];

    private static Panel Coverage() =>
        States("Gaps over time", 24, "not running",
            "Which kind of thing was missed, and since when. Started before: the server ran before the agent did, so nobody saw who set the slots. The operations guide tells what to do about each.",
            YesNo("nothing missed", Verdicts.Plain, "missed", Verdicts.Warning),
            new Query("max by (gap) (kamotel.instance.gap)", "{{gap}}"))
            with
        { Links = [Links.ToGuide("What to do about a gap", "operations.md#gaps")] };
}
