using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>The fleet at one moment. Immutable: any thread may read it.</summary>
/// <param name="TimeNs">Boot time in nanoseconds.</param>
/// <param name="Instances">The instances that live, oldest first.</param>
/// <param name="Targets">Counters that outlive instances, by target, ordered by name.</param>
public sealed record FleetSnapshot(
    ulong TimeNs,
    ImmutableArray<InstanceSnapshot> Instances,
    ImmutableArray<TargetCounters> Targets)
{
    /// <summary>Nothing seen yet.</summary>
    public static FleetSnapshot Empty { get; } = new(0, [], []);
}

/// <summary>One running server.</summary>
public sealed record InstanceSnapshot
{
    /// <summary>Its identity.</summary>
    public required InstanceId Id { get; init; }

    /// <summary>What it is called outside; the name of the task until the agent knows better.</summary>
    public required string Target { get; init; }

    /// <summary>The container that it runs in; null when in none.</summary>
    public Container? Container { get; init; }

    /// <summary>The name of the program, as the kernel cuts it.</summary>
    public required string Program { get; init; }

    /// <summary>Its root process.</summary>
    public required ProcessId Root { get; init; }

    /// <summary>Its living processes, oldest first.</summary>
    public required ImmutableArray<ProcessSnapshot> Processes { get; init; }

    /// <summary>Boot time of the exec (or the start of the oldest process found) in nanoseconds.</summary>
    public required ulong StartedNs { get; init; }

    /// <summary>Boot time of the last fork before the instance settled; null until it has.</summary>
    public ulong? ReadyNs { get; init; }

    /// <summary>The verdict.</summary>
    public required Verdict Verdict { get; init; }

    /// <summary>Why, in one sentence for people.</summary>
    public required string Reason { get; init; }

    /// <summary>What was not seen.</summary>
    public required CoverageGaps Gaps { get; init; }

    /// <summary>Calls of set_local (and set_local_ex) with a pointer or the sentinel in Thread#1 of root before the first worker: what GDB shows.</summary>
    public required long MainThreadCallsBeforeFork { get; init; }

    /// <summary>The longest time a libcrypto of this server ran without probes, in nanoseconds; 0 when none did.</summary>
    public required ulong LibraryGapNs { get; init; }

    /// <summary>It was seen from its exec.</summary>
    public bool SinceExec { get; init; }

    /// <summary>What the server is made of.</summary>
    public ServerFacts Facts { get; init; } = ServerFacts.Unknown;

    /// <summary>Boot time of the last inspection in nanoseconds; null when there was none.</summary>
    public ulong? InspectedNs { get; init; }

    /// <summary>An inspection decided the verdict; before that, events alone did.</summary>
    public bool IsConcluded { get; init; }

    /// <summary>The slots that processes share, ordered by key.</summary>
    public ImmutableArray<SharedSlot> SharedSlots { get; init; } = [];

    /// <summary>How often processes used what they share, while that was watched; empty when it was not.</summary>
    public ImmutableArray<SharedUse> SharedUses { get; init; } = [];

    /// <summary>It has ended: this is how it was.</summary>
    public bool Ended { get; init; }

    /// <summary>The damage that was seen; null when none was, or none that a shared slot goes with.</summary>
    public Damage? Damage { get; init; }

    /// <summary>Crashes, and complaints of the memory manager, with a shared slot or without: those that are alike together, the latest first.</summary>
    public ImmutableArray<Fault> Faults { get; init; } = [];
}

/// <summary>One living process of an instance.</summary>
/// <param name="Id">Its identity.</param>
/// <param name="Parent">The process that forked it; null for the first one.</param>
/// <param name="Role">What it is to its instance.</param>
/// <param name="MainThreadSlots">The live OpenSSL slots of its Thread#1 by events and inspections, ordered by key.</param>
/// <param name="OtherThreadSlots">How many live slots its other threads have.</param>
public sealed record ProcessSnapshot(
    ProcessId Id,
    ProcessId? Parent,
    ProcessRole Role,
    ImmutableArray<SlotSnapshot> MainThreadSlots,
    int OtherThreadSlots)
{
    /// <summary>How its latest inspection ended; null when there was none.</summary>
    public InspectionStatus? Inspection { get; init; }

    /// <summary>At its latest inspection it was old enough to have given up what it would not keep.</summary>
    public bool Settled { get; init; }

    /// <summary>What its Thread#1 holds.</summary>
    public Holding Holding { get; init; }

    /// <summary>How many slots of Thread#1 hold a pointer.</summary>
    public int PointerSlots => MainThreadSlots.Count(static slot => slot.IsPointer);

    /// <summary>How many slots of Thread#1 hold a pointer that the parent had at the fork.</summary>
    public int InheritedSlots => MainThreadSlots.Count(static slot => slot is { Inherited: true, IsPointer: true });
}

/// <summary>One live slot.</summary>
/// <param name="Key">Which slot.</param>
/// <param name="Value">Its value: an address in the process, or the sentinel.</param>
/// <param name="Inherited">It still holds the value that the parent had at the fork.</param>
/// <param name="SetNs">Boot time of the call that set it, in nanoseconds (in the process that made it).</param>
public sealed record SlotSnapshot(SlotKey Key, ulong Value, bool Inherited, ulong SetNs)
{
    /// <summary>What OpenSSL keeps in it, such as <c>err_state</c>; null when no stack showed it.</summary>
    public string? Name { get; init; }

    /// <summary>It holds a pointer, not the sentinel.</summary>
    public bool IsPointer => SlotValue.KindOf(Value) == SlotValueKind.Pointer;
}

/// <summary>How a process ended.</summary>
public enum ExitKind
{
    /// <summary>Exit code 0.</summary>
    Clean,

    /// <summary>Another exit code.</summary>
    Error,

    /// <summary>A signal.</summary>
    Signal,
}

/// <summary>One combination of call attributes, and how many calls had it.</summary>
/// <param name="Call">Which function.</param>
/// <param name="MainThread">In Thread#1.</param>
/// <param name="Phase">Before or after the first fork.</param>
/// <param name="Value">What was stored.</param>
/// <param name="Count">How many.</param>
public readonly record struct CallCount(
    ObservationKind Call, bool MainThread, CallPhase Phase, SlotValueKind Value, long Count);

/// <summary>Crashes that are alike.</summary>
/// <param name="Signal">The signal.</param>
/// <param name="Role">What the processes were to their instance.</param>
/// <param name="Module">Who crashed; empty where it is not known, <c>other</c> from the 33rd module of a target on.</param>
/// <param name="Count">How many.</param>
public readonly record struct CrashCount(int Signal, ProcessRole Role, string Module, long Count);

/// <summary>Complaints that are alike.</summary>
/// <param name="Kind">Of what.</param>
/// <param name="Module">Who called the memory manager; as in <see cref="CrashCount"/>.</param>
/// <param name="Count">How many.</param>
public readonly record struct ComplaintCount(ComplaintKind Kind, string Module, long Count);

/// <summary>Counters of one target, cumulative since the agent started.</summary>
/// <param name="Target">What the server is called outside.</param>
/// <param name="Calls">Thread-local calls by attributes; only those that happened.</param>
/// <param name="Execs">Execs under a watched name: starts.</param>
/// <param name="Forks">Processes forked.</param>
/// <param name="Exits">Processes ended, indexed by <see cref="ExitKind"/>.</param>
/// <param name="Verdicts">How often an instance came to a verdict, indexed by <see cref="Verdict"/>.</param>
/// <param name="SharedUses">Uses of shared slots that were counted.</param>
/// <param name="ChainsAttributed">Calls whose stack was copied and named an author.</param>
/// <param name="ChainsUnknown">Calls whose stack was copied and named none.</param>
/// <param name="Crashes">Crashes; only those that happened.</param>
/// <param name="Complaints">Complaints of memory managers; only those that happened.</param>
public sealed record TargetCounters(
    string Target,
    ImmutableArray<CallCount> Calls,
    long Execs,
    long Forks,
    ImmutableArray<long> Exits,
    ImmutableArray<long> Verdicts,
    long SharedUses,
    long ChainsAttributed,
    long ChainsUnknown,
    ImmutableArray<CrashCount> Crashes,
    ImmutableArray<ComplaintCount> Complaints);
