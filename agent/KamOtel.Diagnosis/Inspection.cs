using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>How the inspection of one process ended.</summary>
public enum InspectionStatus
{
    /// <summary>All slots of Thread#1 were read.</summary>
    Inspected,

    /// <summary>The process is no longer there: nothing to worry about.</summary>
    Gone,

    /// <summary>The kernel does not let us: the detail says what would help.</summary>
    Denied,

    /// <summary>Where its C library keeps thread-local values is not known: a static one, or neither glibc nor musl.</summary>
    Unsupported,

    /// <summary>The slots changed each time that they were read.</summary>
    Unstable,

    /// <summary>What was read makes no sense.</summary>
    Unreadable,
}

/// <summary>Whose a slot is, by the destructor that its key was made with.</summary>
public enum SlotOwner
{
    /// <summary>The destructor is code of a libcrypto or libssl.</summary>
    OpenSsl,

    /// <summary>The key has no destructor, as most of OpenSSL's: in a process that maps a libcrypto it counts as OpenSSL's.</summary>
    Unnamed,

    /// <summary>The destructor is code of another file.</summary>
    Other,
}

/// <summary>Memory that a process maps shared and writable.</summary>
/// <param name="Name">Its name in <c>/proc/PID/maps</c>, such as <c>/dev/zero (deleted)</c>; a number in brackets where it has none.</param>
/// <param name="Start">First address.</param>
/// <param name="End">The address after its last.</param>
/// <param name="DeviceMajor">With the minor number and the inode: what the memory really is, in every process that maps it.</param>
/// <param name="DeviceMinor">See <paramref name="DeviceMajor"/>.</param>
/// <param name="Inode">See <paramref name="DeviceMajor"/>.</param>
public sealed record SharedMemory(string Name, ulong Start, ulong End, uint DeviceMajor, uint DeviceMinor, ulong Inode);

/// <summary>A live slot, as it was read from a process.</summary>
/// <param name="Key">The pthread key.</param>
/// <param name="Value">The value: not null.</param>
/// <param name="Owner">Whose the key is.</param>
/// <param name="Memory">The shared and writable memory that the value points to; null when it points to none.</param>
public readonly record struct HeldSlot(uint Key, ulong Value, SlotOwner Owner, SharedMemory? Memory)
{
    /// <summary>
    /// The slot holds a pointer and counts as OpenSSL's: its destructor is, or it has none and there is a libcrypto that
    /// may have made it.
    /// </summary>
    public bool IsOpenSsl(bool mapsLibcrypto) =>
        SlotValue.KindOf(Value) == SlotValueKind.Pointer
        && (Owner == SlotOwner.OpenSsl || (Owner == SlotOwner.Unnamed && mapsLibcrypto));
}

/// <summary>A thread of a process, and where the kernel says its thread-local storage is.</summary>
/// <param name="Process">The process.</param>
/// <param name="Tid">The thread.</param>
/// <param name="TlsBase">The thread pointer: x86-64's FS base, aarch64's TPIDR_EL0.</param>
/// <param name="MapsVersion">Another one whenever the process's mappings are; 0: not known (the kernel tells from 6.4 on).</param>
public readonly record struct ThreadPointer(ProcessId Process, int Tid, ulong TlsBase, ulong MapsVersion = 0);

/// <summary>What inspection found in one process.</summary>
public sealed record ProcessInspection
{
    /// <summary>The process.</summary>
    public required ProcessId Process { get; init; }

    /// <summary>Boot time just before it was read, in nanoseconds.</summary>
    public required ulong TimeNs { get; init; }

    /// <summary>How it ended.</summary>
    public required InspectionStatus Status { get; init; }

    /// <summary>Why nothing was found, in a sentence for people without a full stop; empty when it was inspected.</summary>
    public string Detail { get; init; } = "";

    /// <summary>The process maps a libcrypto: a file that has its thread-local functions, or its name.</summary>
    public bool MapsLibcrypto { get; init; }

    /// <summary>The live slots of Thread#1, ordered by key.</summary>
    public ImmutableArray<HeldSlot> MainThreadSlots { get; init; } = [];

    /// <summary>How many OpenSSL slots with a pointer its other threads have.</summary>
    public int OtherThreadSlots { get; init; }

    /// <summary>The slot, one of this process's, holds a pointer and counts as OpenSSL's.</summary>
    public bool IsOpenSsl(HeldSlot slot) => slot.IsOpenSsl(MapsLibcrypto);
}

/// <summary>What a server is made of, as read from its root's files and memory.</summary>
public sealed record ServerFacts
{
    /// <summary>Nothing known.</summary>
    public static ServerFacts Unknown { get; } = new();

    /// <summary>Kamailio's version, such as <c>5.6.3</c>; null when it is none, or does not tell.</summary>
    public string? Kamailio { get; init; }

    /// <summary>OpenSSL's version, such as <c>3.0.22</c>; null when no libcrypto is mapped, or it does not tell.</summary>
    public string? OpenSsl { get; init; }

    /// <summary>The server's own modules that it loaded, by name and without <c>.so</c>, ordered.</summary>
    public ImmutableArray<string> Modules { get; init; } = [];

    /// <summary>The module that does TLS: <c>tls</c>, <c>tls_wolfssl</c>, …; null when there is none.</summary>
    public string? TlsBackEnd { get; init; }

    /// <summary>Kamailio's <c>tls_threads_mode</c>; null where the program has none.</summary>
    public int? TlsThreadsMode { get; init; }

    /// <summary>The shared memory that it allocates from; null where that is not known.</summary>
    public SharedMemoryPool? SharedMemory { get; init; }
}

/// <summary>A slot that two or more processes of an instance share: proof of the hazard.</summary>
/// <param name="Key">The pthread key.</param>
/// <param name="Value">The value that they all hold.</param>
/// <param name="Memory">The shared memory that it points to.</param>
/// <param name="Holders">The processes whose Thread#1 holds it, oldest first.</param>
/// <param name="SinceNs">Boot time in nanoseconds since which it is known to be shared.</param>
public sealed record SharedSlot(uint Key, ulong Value, SharedMemory Memory, ImmutableArray<ProcessId> Holders, ulong SinceNs)
{
    /// <summary>What OpenSSL keeps in it, such as <c>err_state</c>; null when no stack showed it.</summary>
    public string? Name { get; init; }

    /// <summary>The call that set it; null when that was not seen with its stack.</summary>
    public SlotOrigin? Origin { get; init; }
}

/// <summary>Processes that should be inspected now.</summary>
/// <param name="Instance">Their instance.</param>
/// <param name="Root">The instance's root.</param>
/// <param name="Processes">The processes, oldest first.</param>
public sealed record InspectionRequest(InstanceId Instance, ProcessId Root, ImmutableArray<ProcessId> Processes);

/// <summary>Damage that was seen in a server: the death of a process, or a complaint of its memory manager.</summary>
/// <param name="Process">The process that died or complained.</param>
/// <param name="Role">What it was to its instance.</param>
/// <param name="TimeNs">Boot time in nanoseconds.</param>
public sealed record Damage(ProcessId Process, ProcessRole Role, ulong TimeNs)
{
    /// <summary>The signal that ended the process; null for a complaint.</summary>
    public int? Signal { get; init; }

    /// <summary>What was complained of; null for a death.</summary>
    public Complaint? Complaint { get; init; }

    /// <summary>How often the process complained of this.</summary>
    public long Count { get; init; } = 1;

    /// <summary>The same process complains of the same, on behalf of the same caller.</summary>
    internal bool IsLike(Damage other) =>
        Process == other.Process && Complaint is { } one && other.Complaint is { } another
        && one.Kind == another.Kind && one.Module == another.Module && one.Caller == another.Caller;
}

/// <summary>What a process's Thread#1 holds, as far as it is known.</summary>
public enum Holding
{
    /// <summary>Not inspected.</summary>
    Unknown,

    /// <summary>No OpenSSL slot with a pointer.</summary>
    Nothing,

    /// <summary>OpenSSL slots with pointers, none of which another process holds in shared memory.</summary>
    Own,

    /// <summary>A slot that another process holds, too, in shared memory.</summary>
    Shared,
}

/// <summary>How often a process used slots that it shares while that was watched.</summary>
/// <param name="Process">The process.</param>
/// <param name="Key">The slot's key.</param>
/// <param name="Count">How often its Thread#1 asked for the slot.</param>
public readonly record struct SharedUse(ProcessId Process, uint Key, long Count);
