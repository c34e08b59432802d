using KamOtel.Diagnosis;

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
    public static string? RunbookOf(Verdict verdict) => verdict >= Verdict.Hazard ? $"docs/runbooks/{Of(verdict)}.md" : null;

    public static string Of(ChainEnd end) => Snake(end.ToString());

    public static string Of(ProcessRole role) => Snake(role.ToString());

    public static string Of(ExitKind kind) => Snake(kind.ToString());

    public static string Of(Holding holding) => Snake(holding.ToString());

    public static string Of(InspectionStatus status) => Snake(status.ToString());

    public static string Of(Signal signal) => Snake(signal.ToString());

    public static string Of(CoverageGaps gap) => Snake(gap.ToString());

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
