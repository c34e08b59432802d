using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>What happens to a server, a sentence each: the same in the story and on the status page.</summary>
internal static class Sentences
{
    public static string OfFound(InstanceContext instance) =>
        instance.SinceExec ? $"{instance.Program}: {instance.Target}" : $"{instance.Program}, running already: {instance.Target}";

    /// <summary>A thread-local call, in columns.</summary>
    public static string Of(in Observation observation, in CallContext call)
    {
        string key = observation.Kind switch
        {
            ObservationKind.InitLocal => $"key at 0x{observation.KeyAddress:x}",
            ObservationKind.CleanLocal => "all _ex slots",
            _ => observation.Key is { } k ? $"key {k}" : "key unread",
        };
        string value = call.Value switch
        {
            SlotValueKind.Pointer => $" = 0x{observation.Value:x}",
            SlotValueKind.Sentinel => " = -1 (sentinel)",
            SlotValueKind.Null => " = null (cleared)",
            _ => "",
        };
        string when = $"{(observation.MainThread ? "Thread#1" : "thread  ")} {Words.Of(call.Phase),-11} {Words.Of(call.Role),-8}";
        return $"{when} {key}{value}{(call.ReplacesInherited ? ", replaces the inherited one" : "")}";
    }

    /// <summary>A pointer stored in Thread#1 before the fork: that is what leads to the hazard.</summary>
    public static bool IsTelling(in Observation observation, in CallContext call) =>
        observation.MainThread && call is { Phase: CallPhase.BeforeFork, Value: SlotValueKind.Pointer };

    /// <summary><c>db_postgres through libpq → libssl, asked by htable (err_state)</c>.</summary>
    public static string OfAuthor(in Observation call, CallChain chain)
    {
        if (chain.Author is not { } author)
        {
            return $"unknown: {chain.WhyUnknown}";
        }
        string[] libraries = [.. chain.Path.SkipWhile(name => name != author).Skip(1)];
        string through = libraries.Length > 0 ? $" through {string.Join(" → ", libraries)}" : "";
        string asked = chain.AskedBy is not { } by ? ", who asked is not known" : by != author ? $", asked by {by}" : "";
        string slot = SlotNames.Of(chain, call.Value) is { } name ? $" ({name})" : "";
        return $"{author}{through}{asked}{slot}";
    }

    /// <summary>A step of the start; null for one that nobody asks for.</summary>
    public static string? Of(StartStep step, string? module) => step switch
    {
        StartStep.Modules => "initialises its modules",
        StartStep.Module => $"initialises {module}",
        StartStep.ModulesDone => "modules are initialised",
        _ => null,
    };

    public static string OfFork(in Observation observation, ProcessRole? role) => $"{(role is { } known ? Words.Of(known) : "child")} {observation.Other.Tgid}";

    public static string OfExit(in Observation observation, ProcessRole role) => $"{Words.Of(role)}: {Words.OfStatus(observation.Status)}";

    public static string Of(Crash crash) =>
        $"{Words.Of(crash)}{(crash.Module is null ? $"; in which module is not known: {crash.Chain.WhyUnknown}" : "")}; last OpenSSL call: {Words.OfPast(crash)}";

    public static string OfReady(InstanceSnapshot snapshot) =>
        $"{snapshot.Processes.Count(static p => p.Role == ProcessRole.Worker)} workers; {snapshot.MainThreadCallsBeforeFork} set_local calls in Thread#1 of root before the first fork";

    public static string OfVerdict(InstanceSnapshot snapshot) => $"{Words.Of(snapshot.Verdict)}: {snapshot.Reason}";

    public static string OfConfirmed(InstanceSnapshot snapshot, ulong windowNs) =>
        $"shared slots were used {snapshot.SharedUses.Sum(static u => u.Count)} times in {windowNs / 1e9:0.0} s, by {snapshot.SharedUses.Select(static u => u.Process).Distinct().Count()} of {snapshot.Processes.Length} processes{(snapshot.SharedUses.IsEmpty ? ": the server was idle, the hazard is the same" : "")}";

    public static string Of(CoverageGaps gap, string detail) => $"{Words.Of(gap)}: {detail}";
}
