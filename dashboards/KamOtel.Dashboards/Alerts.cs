using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Dashboards;

/// <summary>
/// All alerts. What they look at is remembered for a while (<see cref="PromQl.Window"/>), so that a server that restarts
/// every few minutes, a restarted agent and a missed scrape neither end an alert nor begin it anew; where they look back, what
/// is found is a fact and not a trend, and <c>for</c> is 0.
/// </summary>
internal static class Alerts
{
    /// <summary>The job of the agent's scrape. An operator of Prometheus in Kubernetes may put the namespace before it.</summary>
    public const string Job = "kamotel";

    private const string Where = "{{ .Labels.target }} on {{ .Labels.instance }}";

    private const string Agent = "The agent on {{ .Labels.instance }}";

    private static readonly string Up = $$"""up{job=~"(.+/)?{{Job}}"}""";

    private static readonly string Corrupted = PromQl.Verdicts(Verdict.Corrupted);

    private static readonly Blame Author = new("author", "slot, asked_by", static own =>
        $$"""last_over_time({{Metric.Name("kamotel.instance.shared_slot_info")}}{{{own}}author!=""}[{{PromQl.Window}}])""");

    /// <summary>Of servers.</summary>
    public static IReadOnlyList<Alert> Servers { get; } =
    [
        new(
            "KamOtelHazard", Severity.Warning, "hazard", "0s",
            PromQl.Verdicts(Verdict.Hazard, Verdict.Corrupted),
            $"{Where} is a hazard: its processes share state of OpenSSL, set by [author], and it crashes under TLS load. Cure: tls_threads_mode=2 with Kamailio 5.7.5 or later, in a maintenance window",
            "Two or more processes hold the same pointer into shared memory in the same slot of OpenSSL and will free each other's state. The server serves: do not restart it in haste, it would come back with the same hazard. `kamotel scan` on its host says what cures this version.")
        {
            Blame = Author,
        },
        new(
            "KamOtelCorrupted", Severity.Critical, "corrupted", "0s",
            Corrupted,
            $"{Where} is corrupted: state of OpenSSL that its processes share, set by [author], was damaged. Save the core file, restart it, then cure the hazard",
            "A process of a server with a hazard died of SIGSEGV or SIGABRT, or its memory manager complained of memory that was freed twice or overwritten. What still runs has memory that is not to be trusted.")
        {
            Blame = Author,
        },
        new(
            "KamOtelCrashLoop", Severity.Critical, "crash-loop", "0s",
            $"""
            sum without (signal, role, module) ({PromQl.Growth(Metric.Name("kamotel.crashes"), "30m")}) >= 3
            and
            {PromQl.Growth(Metric.Name("kamotel.execs"), "30m")} >= 3
            """,
            $"{Where}: crashed and was started again three times or more in half an hour, in [module]. Find out what the crashes have in common, and go back to the last version that ran",
            "Kamailio's main process ends all others when one crashes: each crash is an outage for all calls. Containers that get a new name with each start are not seen as one server here.")
        {
            Blame = Modules("kamotel.crashes", "signal, role", "30m"),
        },
        new(
            "KamOtelCrash", Severity.Warning, "crash", "0s",
            Apart(PromQl.Any("max", "signal, role, module", PromQl.Grew(Metric.Name("kamotel.crashes")))),
            $"{Where}: a process crashed, in [module]. Save the core file; the log event kamotel.crash has the stack",
            "A process died of SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE or SIGTRAP, and as far as it was seen no state of OpenSSL was shared: the crash has another reason. Where that is the case KamOtelCorrupted tells of it instead.")
        {
            Blame = Modules("kamotel.crashes", "signal, role"),
        },
        new(
            "KamOtelMemoryComplaint", Severity.Warning, "memory-complaint", "0s",
            Apart(PromQl.Any("max", "complaint, module", PromQl.Grew(Metric.Name("kamotel.memory.complaints")))),
            $"{Where}: the memory manager complained of damage, called by [module]. Restart it when few calls are up, before it crashes at a time of its own",
            "Memory was freed twice, overwritten or freed where none was, and as far as it was seen no state of OpenSSL was shared. A crash often follows.")
        {
            Blame = Modules("kamotel.memory.complaints", "complaint"),
        },
        new(
            "KamOtelSharedMemoryExhausted", Severity.Critical, "shared-memory", "0s",
            PromQl.Any("max", "module", PromQl.Grew(Metric.Name("kamotel.shared_memory.allocation_failures"))),
            $"{Where}: no room in shared memory, asked for by [module]. Raise -m (SHM_MEMORY) and restart",
            "A module asked for shared memory and got none. Kamailio goes on without: calls are refused, registrations are not kept.")
        {
            Blame = Modules("kamotel.shared_memory.allocation_failures", ""),
        },
        new(
            // The most that was free: one good reading in ten minutes, such as that of a server that was started anew, is no shortage.
            "KamOtelSharedMemoryLow", Severity.Warning, "shared-memory", "5m",
            $"max_over_time({Metric.Name("kamotel.shared_memory.free")}[10m]) / max_over_time({Metric.Name("kamotel.shared_memory.size")}[10m]) < 0.1",
            $"{Where}: [value] of its shared memory is left. Find out who takes it (kamcmd mod.stats all shm), or raise -m (SHM_MEMORY)",
            "Less than a tenth of the server's shared memory has been free for ten minutes. When none is left calls are refused."),
        new(
            "KamOtelBlind", Severity.Warning, "blind", "5m",
            $$"""
            max without (verdict) (min_over_time({{Metric.Name("kamotel.instance.verdict")}}{{{PromQl.Matcher("verdict", [Words.Of(Verdict.Unknown)])}}}[10m])) == 1
            or
            sum without (status) (min_over_time({{Metric.Name("kamotel.instance.inspected_processes")}}{{{PromQl.Matcher("status", Failed)}}}[10m])) > 0
            or
            time() - max_over_time({{Metric.Name("kamotel.instance.inspection_time")}}[10m]) > 1800
            """,
            $"{Where}: nobody knows whether it is safe. `kamotel scan` on its host says why, `kamotel doctor` what to change",
            "For ten minutes the verdict has been unknown, or processes could not be inspected, or the server has not been inspected for half an hour. It may be a hazard: blind is not safe."),
        new(
            "KamOtelExposed", Severity.Info, "exposed", "15m",
            // A server that is started anew is unknown for a moment; most of the time counts.
            $$"""max without (verdict) (avg_over_time({{Metric.Name("kamotel.instance.verdict")}}{{{PromQl.Matcher("verdict", [Words.Of(Verdict.Exposed)])}}}[15m])) > 0.5""",
            $"{Where} is exposed: the process that forks has state of OpenSSL, and no worker shares it. Nothing to do; look again after an upgrade or a new module",
            "What a cured version looks like that touches OpenSSL before the fork and cleans up after it. Another version or configuration may make a hazard of it."),
        new(
            "KamOtelGap", Severity.Info, "gap", "15m",
            PromQl.Any("max", "gap", $"min_over_time({Gaps("")}[15m]) == 1"),
            $"{Where}: not all that it did was seen ([gap]), so who set a slot may stay unknown. docs/operations.md, Gaps, says what to change before its next start",
            "The verdict comes from inspection and is right in spite of it. The gap stays until the server is started again.")
        {
            Blame = new("gap", "", static own => $"min_over_time({Gaps(own)}[15m]) == 1"),
        },
    ];

    /// <summary>Of the agent itself.</summary>
    public static IReadOnlyList<Alert> Agents { get; } =
    [
        new(
            // An average: an agent that is restarted again and again answers now and then.
            "KamOtelAgentDown", Severity.Warning, "agent-down", "5m",
            $"""
            avg_over_time({Up}[5m]) < 0.5
            or
            absent({Up})
            """,
            $"{{{{ if .Labels.instance }}}}{Agent} does not answer: nobody watches the servers there. Start it: systemctl restart kamotel{{{{ else }}}}Prometheus scrapes no job named {Job}: nobody watches the servers. docs/operations.md, Alerts, says what to configure{{{{ end }}}}",
            "The servers run on, but a hazard or a crash would not be seen. Alerts that end while this one fires have not been cured. The runbook is at /docs/ of every other agent.")
        {
            AgentAnswers = false,
        },
        new(
            "KamOtelEventsLost", Severity.Warning, "events-lost", "0s",
            $"""
            {PromQl.Any("max", "kind", PromQl.Grew(Metric.Name("kamotel.events.lost")))}
            or
            {PromQl.Grew(Metric.Name("kamotel.memory.unread_complaints"))}
            """,
            $"{Agent} lost events of the kernel, or could not read a complaint about memory: its counts and authors are incomplete. Raise --ring-bytes, or give it more CPU",
            "The buffer between kernel and agent was full, so that events were dropped. Verdicts come from inspection and stay right."),
        new(
            "KamOtelTelemetryDropped", Severity.Warning, "telemetry-dropped", "15m",
            $"sum without (signal, reason) (increase({Metric.Name("kamotel.telemetry.dropped")}[15m])) > 0",
            $"{Agent} drops logs, spans or metrics: the OTLP endpoint does not take them. Its log says why",
            "What it finds is at /metrics, but log events and traces do not leave the machine, and there is no telling afterwards what a crash looked like."),
    ];

    /// <summary>All, in groups.</summary>
    public static IReadOnlyList<(string Name, IReadOnlyList<Alert> Alerts)> Groups { get; } = [("kamotel-servers", Servers), ("kamotel-agents", Agents)];

    private static IEnumerable<string> Failed =>
        Enum.GetValues<InspectionStatus>().Where(static s => s is not (InspectionStatus.Inspected or InspectionStatus.Gone)).Select(Words.Of);

    // Not those of a server that ran first or has no libcrypto, nor of a key that was not in memory: nobody can mend them.
    private static string Gaps(string own) =>
        $$"""{{Metric.Name("kamotel.instance.gap")}}{{{own}}{{PromQl.Matcher("gap", Enum.GetValues<CoverageGaps>().Where(static g => g is not (CoverageGaps.None or CoverageGaps.StartedBefore or CoverageGaps.NoLibrary or CoverageGaps.KeyUnread)).Select(Words.Of))}}}""";

    // What is damage by the hazard is told once, as that.
    private static string Apart(string expression) => $"{expression}\nunless (\n{PromQl.Indent(Corrupted)}\n)";

    private static Blame Modules(string counter, string others, string window = PromQl.Window) =>
        new("module", others, own => PromQl.Changed($$"""{{Metric.Name(counter)}}{{{own}}module!=""}""", window));
}
