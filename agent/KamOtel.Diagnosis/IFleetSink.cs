using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>
/// Hears what the fleet concludes, in order, on the thread that owns the fleet. Implementations must not block.
/// </summary>
public interface IFleetSink
{
    /// <summary>An instance was seen from its exec, or found running.</summary>
    void InstanceFound(InstanceContext instance, in Observation observation);

    /// <summary>A thread-local call.</summary>
    void Call(InstanceContext instance, in Observation observation, in CallContext call);

    /// <summary>Who made a call that had been told before: every call with <see cref="Observation.HasStack"/>, once, and if need be after the instance ended.</summary>
    void Attributed(InstanceContext instance, in Observation call, CallChain chain);

    /// <summary>The root (or what may become it) reached a step of its start.</summary>
    /// <param name="instance">The instance.</param>
    /// <param name="observation">When, and in which process.</param>
    /// <param name="step">Which step.</param>
    /// <param name="module">The module that is initialised; null for another step.</param>
    void Entered(InstanceContext instance, in Observation observation, StartStep step, string? module);

    /// <summary>
    /// A process of the instance was forked. The role of a first child is null: if its parent ends, as when daemonising, it
    /// is the root, or another launcher.
    /// </summary>
    void Forked(InstanceContext instance, in Observation observation, ProcessRole? role);

    /// <summary>A process of the instance ended.</summary>
    void Exited(InstanceContext instance, in Observation observation, ProcessRole role);

    /// <summary>
    /// A process of the instance crashed. Told once, when its end is known and its call chain too, if one comes: if need be
    /// after the instance ended.
    /// </summary>
    /// <param name="instance">The instance.</param>
    /// <param name="crash">The crash.</param>
    /// <param name="faults">All faults of the instance, this one among them.</param>
    void Crashed(InstanceContext instance, Crash crash, ImmutableArray<Fault> faults);

    /// <summary>The memory manager of a process of the instance complained. Of very many complaints some stand for all.</summary>
    /// <param name="instance">The instance.</param>
    /// <param name="observation">When, and in which process.</param>
    /// <param name="complaint">Of what.</param>
    /// <param name="context">What the fleet knows of it, and how many were left out before it.</param>
    /// <param name="faults">All faults of the instance, this one among them.</param>
    void Complained(InstanceContext instance, in Observation observation, Complaint complaint, in ComplaintContext context, ImmutableArray<Fault> faults);

    /// <summary>The workers have been forked and nothing forked since: the start is over.</summary>
    void Ready(InstanceContext instance, InstanceSnapshot snapshot);

    /// <summary>
    /// The verdict or the coverage changed, or the server is ready and there is a newer reason. It is known since
    /// <paramref name="timeNs"/>, in boot time.
    /// </summary>
    void VerdictChanged(InstanceContext instance, InstanceSnapshot snapshot, Verdict before, ulong timeNs);

    /// <summary>The use of shared slots was watched for a while, until <paramref name="timeNs"/>: the snapshot has the counts.</summary>
    void Confirmed(InstanceContext instance, InstanceSnapshot snapshot, ulong windowNs, ulong timeNs);

    /// <summary>Something of the instance could not be seen.</summary>
    void GapFound(InstanceContext instance, CoverageGaps gap, string detail, ulong timeNs);

    /// <summary>The last process of the instance ended.</summary>
    void InstanceEnded(InstanceContext instance, in Observation observation);
}

/// <summary>Steps of a server's start.</summary>
public enum StartStep
{
    /// <summary>It begins to initialise its modules.</summary>
    Modules,

    /// <summary>It initialises a module; the one before is done.</summary>
    Module,

    /// <summary>All modules are initialised.</summary>
    ModulesDone,
}

/// <summary>What stays of an instance while it lives.</summary>
/// <param name="Id">Its identity.</param>
/// <param name="Target">What it is called outside.</param>
/// <param name="Program">The name of the program.</param>
/// <param name="SinceExec">It was seen from its exec.</param>
/// <param name="StartedNs">Boot time of its exec, or of the start of its oldest process, in nanoseconds.</param>
public sealed record InstanceContext(InstanceId Id, string Target, string Program, bool SinceExec, ulong StartedNs)
{
    /// <summary>The container that it runs in; null when in none.</summary>
    public Container? Container { get; init; }
}

/// <summary>What the fleet adds to a call.</summary>
/// <param name="Role">The calling process's role.</param>
/// <param name="Phase">Before or after the first fork.</param>
/// <param name="Value">What was stored.</param>
/// <param name="ReplacesInherited">The slot held an inherited value until now.</param>
public readonly record struct CallContext(ProcessRole Role, CallPhase Phase, SlotValueKind Value, bool ReplacesInherited);
