using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>The one spelling of each thing in metrics, logs, spans and the story.</summary>
internal static class Words
{
    public static string Of(ObservationKind kind) => kind switch
    {
        ObservationKind.InitLocal => "init_local",
        ObservationKind.SetLocal => "set_local",
        ObservationKind.CleanupLocal => "cleanup_local",
        ObservationKind.SetLocalEx => "set_local_ex",
        ObservationKind.CleanLocal => "clean_local",
        _ => Snake(kind.ToString()),
    };

    public static string Of(CallPhase phase) => phase switch
    {
        CallPhase.BeforeFork => "before_fork",
        CallPhase.AfterFork => "after_fork",
        _ => "unknown",
    };

    public static string Of(SlotValueKind kind) => Snake(kind.ToString());

    public static string Of(Verdict verdict) => Snake(verdict.ToString());

    /// <summary>What to read when this is the verdict, in the repository; null where nothing is to be done.</summary>
    public static string? RunbookOf(Verdict verdict) => verdict >= Verdict.Hazard ? Runbook(Of(verdict)) : null;

    /// <summary>What to read when a process crashed.</summary>
    public static string CrashRunbook { get; } = Runbook("crash");

    /// <summary>Where a runbook is, in the repository: for spans and alerts.</summary>
    public static string Runbook(string name) => $"docs/runbooks/{name}.md";

    public static string Of(ComplaintKind kind) => Snake(kind.ToString());

    public static string Of(AddressRelation relation) => Snake(relation.ToString());

    public static string Of(ChainEnd end) => Snake(end.ToString());

    public static string Of(ProcessRole role) => Snake(role.ToString());

    public static string Of(ExitKind kind) => Snake(kind.ToString());

    public static string Of(Holding holding) => Snake(holding.ToString());

    public static string Of(InspectionStatus status) => Snake(status.ToString());

    public static string Of(Signal signal) => Snake(signal.ToString());

    public static string Of(CoverageGaps gap) => Snake(gap.ToString());

    public static string Of(Severity severity) => Snake(severity.ToString());

    /// <summary>A probe that does not stand on an instruction chosen for its price.</summary>
    public const string SiteEntry = "entry";

    /// <summary>The kernel refused a probe on the instruction that was chosen.</summary>
    public const string SiteRefused = "refused";

    public static string Of(in ProbeSite site) => site.IsEmulated ? Snake(site.Kind.ToString()) : SiteEntry;

    public static string ReasonOf(in ProbeSite site) => site.IsEmulated ? "" : Snake(site.Kind.ToString());

    /// <summary>The gaps one by one.</summary>
    public static IEnumerable<CoverageGaps> Each(CoverageGaps gaps) =>
        Enum.GetValues<CoverageGaps>().Where(gap => gap != CoverageGaps.None && gaps.HasFlag(gap));

    /// <summary>What a gap is, for people.</summary>
    public static string MeaningOf(CoverageGaps gap) => gap switch
    {
        CoverageGaps.StartedBefore => "the server ran before the agent did",
        CoverageGaps.LibraryLate => "a libcrypto was mapped before its probes were attached",
        CoverageGaps.EventsLost => "the kernel side had to drop events",
        CoverageGaps.ProbeFailed => "a libcrypto could not be probed",
        CoverageGaps.NoLibrary => "no libcrypto was seen in the server",
        CoverageGaps.KeyUnread => "a key could not be read at a call",
        CoverageGaps.LedgerFull => "a process had more slots or threads than are kept",
        CoverageGaps.ForkMissed => "a process appeared without its fork having been seen",
        _ => Of(gap),
    };

    /// <summary>The order of verdicts for people, the worst last. Blindness must not hide behind a safe twin.</summary>
    public static int SeverityOf(Verdict verdict) => verdict switch
    {
        Verdict.Safe => 0,
        Verdict.Unknown => 1,
        _ => (int)verdict,
    };

    /// <summary>Why nobody is named for a shared slot when there is no stack at all.</summary>
    public const string CallNotSeen = "the call that set it was not seen";

    /// <summary>How a crash reads: <c>worker died of signal 11 (SIGSEGV) in tls</c>.</summary>
    public static string Of(Crash crash) =>
        $"{Of(crash.Role)} died of {OfStatus(crash.Signal)}{(crash.Module is { } module ? $" in {module}" : "")}";

    /// <summary>How a complaint reads: <c>worker complained of memory freed twice (called from tls: tls_init.c: ser_free)</c>.</summary>
    public static string Of(Complaint complaint, in ComplaintContext context) =>
        $"{Of(context.Role)} complained of {complaint.What}{complaint.CalledFrom}{OfPlace(context.Address)}{(context.LeftOut > 0 ? $"; {context.LeftOut} more since the one told before" : "")}";

    /// <summary>How a fault reads, with how many there were.</summary>
    public static string Of(Fault fault)
    {
        string what = fault.Complaint is { } kind
            ? $"complained of {Complaint.Describe(kind)}{new Complaint(kind, Address: null, fault.Module, fault.Caller).CalledFrom}{OfPlace(fault.Address)}"
            : $"died of {OfStatus(fault.Signal!.Value)}{(fault.Module is { } module ? $" in {module}" : "")}";
        return $"{(fault.Count == 1 ? "once" : $"{fault.Count} times")}: {Of(fault.Role)} {what}, last {fault.Process}";
    }

    /// <summary>Where the memory lies that is complained of, where that tells something.</summary>
    public static string OfPlace(AddressRelation? relation) => relation switch
    {
        AddressRelation.SharedSlot => ", at what a shared slot points to",
        AddressRelation.BesideSharedSlot => ", beside what a shared slot points to",
        AddressRelation.SharedMemory => ", in the memory of the shared slots",
        _ => "",
    };

    /// <summary>How what a process did before its crash reads: <c>none was seen; 2 slots were inherited</c>.</summary>
    public static string OfPast(Crash crash) =>
        $"{Of(crash.LastCall)}{(crash.InheritedSlots is 0 ? "" : crash.InheritedSlots is 1 ? "; 1 slot was inherited" : $"; {crash.InheritedSlots} slots were inherited")}";

    /// <summary>How the last thread-local call reads: <c>set_local of err_state, 12.3 ms before</c>.</summary>
    private static string Of(LastCall? call) =>
        call is null ? "none was seen"
        : $"{Of(call.Call)}{(call.Slot is { } slot ? $" of {slot}" : call.Key is { } key ? $" of key {key}" : "")}, {(call.BeforeNs / 1e6).ToString("0.0", System.Globalization.CultureInfo.InvariantCulture)} ms before";

    /// <summary>How a wait status reads: <c>exit code 1</c>, <c>signal 11 (SIGSEGV)</c>.</summary>
    public static string OfStatus(int status)
    {
        int signal = status & 0x7f;
        return signal == 0 ? $"exit code {(status >> 8) & 0xff}" : $"signal {signal} ({SignalName(signal)})";
    }

    public static string SignalName(int signal) => signal switch
    {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        31 => "SIGSYS",
        _ => $"SIG{signal}",
    };

    private static string Snake(string name) =>
        string.Concat(name.Select(static (c, i) => char.IsUpper(c) ? (i == 0 ? "" : "_") + char.ToLowerInvariant(c) : c.ToString()));
}
