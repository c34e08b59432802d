using KamOtel.Diagnosis;

namespace KamOtel.Tests.Diagnosis;

/// <summary>Tells a fleet a history, as a kernel that counts processes to instances would.</summary>
internal sealed class History
{
    public const ulong Millisecond = 1_000_000;
    public const ulong Second = 1_000_000_000;
    public const ulong Pointer = 0x7f00_0000_1000;

    private readonly Dictionary<int, InstanceId> _instances = [];

    public History(FleetOptions? options = null, IFleetJournal? journal = null) => Fleet = new Fleet(options ?? new FleetOptions(), Sink, journal);

    public RecordingSink Sink { get; } = new();

    public Fleet Fleet { get; }

    public ulong Now { get; private set; } = 1000 * Second;

    /// <summary>The only instance that lives.</summary>
    public InstanceSnapshot Server => Fleet.Snapshot(Now).Instances.ShouldHaveSingleItem();

    public static ProcessId Id(int pid) => new(pid, 100_000 + (ulong)pid);

    public InstanceId InstanceOf(int pid) => _instances[pid];

    public ProcessSnapshot Process(int pid) =>
        Fleet.Snapshot(Now).Instances.SelectMany(instance => instance.Processes).Single(process => process.Id == Id(pid));

    public string Roles() => string.Join(' ', Server.Processes.Select(process => $"{process.Id}:{process.Role}"));

    public History Exec(int pid, string name = "kamailio", bool watched = true)
    {
        _instances[pid] = watched ? new InstanceId(pid, Now + Millisecond) : default;
        return Tell(pid, ObservationKind.Exec, o => o with { Name = TaskName.From(name), Watched = watched });
    }

    public History Fork(int pid, int child, int? tid = null)
    {
        _instances[child] = _instances[pid];
        return Tell(pid, ObservationKind.Fork, o => o with { Other = Id(child), Tid = tid ?? pid });
    }

    public History Exit(int pid, int status = 0) =>
        Tell(pid, ObservationKind.Exit, o => o with { Status = status, LastThread = true });

    public History ThreadExit(int pid, int tid) => Tell(pid, ObservationKind.Exit, o => o with { Tid = tid });

    public History Init(int pid) => Tell(pid, ObservationKind.InitLocal, o => o with { Value = 0x1234 });

    public History Set(int pid, uint? key = 0, ulong value = Pointer, int? tid = null) =>
        Tell(pid, ObservationKind.SetLocal, o => o with { Key = key, Value = value, Tid = tid ?? pid });

    /// <summary>A call with its stack; who made it is told a little later.</summary>
    public History SetBy(int pid, CallChain chain, uint key = 0, ulong value = Pointer, int? tid = null)
    {
        Observation call = default;
        Tell(pid, ObservationKind.SetLocal, o => call = o with { Key = key, Value = value, Tid = tid ?? pid, HasStack = true });
        Fleet.Attributed(in call, chain);
        return this;
    }

    public History SetEx(int pid, uint? id = 0, ulong value = Pointer, int? tid = null, ulong context = 0x10) =>
        Tell(pid, ObservationKind.SetLocalEx, o => o with { Key = id, Value = value, Tid = tid ?? pid, KeyAddress = context });

    public History Cleanup(int pid, uint? key = 0) => Tell(pid, ObservationKind.CleanupLocal, o => o with { Key = key });

    public History Clean(int pid, int? tid = null) => Tell(pid, ObservationKind.CleanLocal, o => o with { Tid = tid ?? pid });

    /// <summary>A process found running; the first of a server names its instance.</summary>
    public History Seed(int pid, int? parent = null, int? instance = null)
    {
        int first = instance ?? parent ?? pid;
        _instances[pid] = _instances.TryGetValue(first, out InstanceId known)
            ? known
            : new InstanceId(first, Id(first).StartTicks * ProcessId.NanosecondsPerTick);
        return Tell(pid, ObservationKind.Seeded, o => o with
        {
            Name = TaskName.From("kamailio"),
            Other = parent is { } p ? Id(p) : default,
        });
    }

    public History Library(int pid, long lateNs = -1, string name = "/lib/libcrypto.so.3")
    {
        Now += Millisecond;
        Fleet.LibraryMapped(Id(pid), name, Now, (ulong)((long)Now + lateNs));
        return this;
    }

    /// <summary>Memory that all processes map shared and writable.</summary>
    public static SharedMemory Segment { get; } = new("/dev/zero (deleted)", Pointer, Pointer + 0x1_0000, 0, 1, 134);

    /// <summary>A slot that points into the segment.</summary>
    public static HeldSlot Shared(uint key = 0, ulong value = Pointer) => new(key, value, SlotOwner.Unnamed, Segment);

    /// <summary>A slot that points into memory of the process's own.</summary>
    public static HeldSlot Private(uint key = 0, ulong value = Pointer) => new(key, value, SlotOwner.Unnamed, Memory: null);

    /// <summary>What would be found in a process.</summary>
    public ProcessInspection Found(int pid, params HeldSlot[] slots) => new()
    {
        Process = Id(pid),
        TimeNs = Now,
        Status = InspectionStatus.Inspected,
        MapsLibcrypto = true,
        MainThreadSlots = [.. slots],
    };

    /// <summary>Does the inspections that are due, by what <paramref name="look"/> finds.</summary>
    public History Inspect(Func<int, ProcessInspection> look, ServerFacts? facts = null)
    {
        foreach (InspectionRequest request in Fleet.TakeDueInspections(Now))
        {
            Fleet.Inspected(request.Instance, [.. request.Processes.Select(p => look(p.Tgid))], facts);
        }
        Fleet.Advance(Now);
        return this;
    }

    /// <summary>Time passes until all processes have settled, and they are inspected.</summary>
    public History SettleAndInspect(Func<int, ProcessInspection> look)
    {
        Now += 2 * Second;
        return Inspect(look);
    }

    /// <summary>The signal that a process is about to die of, with what it holds.</summary>
    public History Dying(int pid, int signal, ProcessInspection copy, bool hasStack = false, int? tid = null)
    {
        Now += Millisecond;
        Fatal = new Observation { Kind = ObservationKind.FatalSignal, TimeNs = Now, Process = Id(pid), Tid = tid ?? pid, Instance = _instances[pid], Status = signal, HasStack = hasStack };
        Fleet.Dying(Fatal, copy);
        return this;
    }

    /// <summary>The last fatal signal.</summary>
    public Observation Fatal { get; private set; }

    /// <summary>The call chain of the last fatal signal is known.</summary>
    public History Unwound(CallChain chain) => Unwound(Fatal, chain);

    /// <summary>The call chain of a fatal signal is known.</summary>
    public History Unwound(in Observation fatal, CallChain chain)
    {
        Now += Millisecond;
        Fleet.Attributed(in fatal, chain);
        return this;
    }

    /// <summary>A process's memory manager complains.</summary>
    public History Complain(int pid, ComplaintKind kind = ComplaintKind.AlreadyFreed, ulong? address = null, string? module = "tls", string? caller = "tls_init.c: ser_free")
    {
        Now += Millisecond;
        var observation = new Observation { Kind = ObservationKind.Complained, TimeNs = Now, Process = Id(pid), Tid = pid, Instance = _instances[pid], Address = 0x5555_0000 };
        Fleet.Complained(in observation, new Complaint(kind, address, module, caller));
        return this;
    }

    public History Wait(ulong nanoseconds)
    {
        Now += nanoseconds;
        return this;
    }

    public History Advance()
    {
        Fleet.Advance(Now);
        return this;
    }

    public History Settle()
    {
        Now += 2 * Second;
        Fleet.Advance(Now);
        return this;
    }

    /// <summary>The kernel counts the process to the instance of another one.</summary>
    public History Count(int pid, InstanceId instance)
    {
        _instances[pid] = instance;
        return this;
    }

    public History Tell(int pid, ObservationKind kind, Func<Observation, Observation>? more = null)
    {
        Now += Millisecond;
        Observation observation = new()
        {
            Kind = kind,
            TimeNs = Now,
            Process = Id(pid),
            Tid = pid,
            Instance = _instances.GetValueOrDefault(pid),
        };
        Fleet.Observe(more is null ? observation : more(observation));
        return this;
    }
}
