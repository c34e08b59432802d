using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>Crashes, or complaints of the memory manager, that are alike in one server; and how many there were.</summary>
/// <param name="Role">What the processes were to their instance.</param>
/// <param name="Module">Who crashed, or called the memory manager; null where it is not known; <c>other</c> when there were too many.</param>
public sealed record Fault(ProcessRole Role, string? Module)
{
    /// <summary>The signal of a crash; null for a complaint.</summary>
    public int? Signal { get; init; }

    /// <summary>What was complained of; null for a crash.</summary>
    public ComplaintKind? Complaint { get; init; }

    /// <summary>Where the memory lies that was complained of; null for a crash.</summary>
    public AddressRelation? Address { get; init; }

    /// <summary>How many.</summary>
    public required long Count { get; init; }

    /// <summary>The process of the last one.</summary>
    public required ProcessId Process { get; init; }

    /// <summary>Where in the source the memory manager was called for the last one; null where that is not known.</summary>
    public string? Caller { get; init; }

    /// <summary>Boot time of the last one in nanoseconds.</summary>
    public required ulong TimeNs { get; init; }

    /// <summary>It is no damage, but a shortage.</summary>
    public bool IsShortage => Complaint == ComplaintKind.OutOfSharedMemory;
}

/// <summary>The faults of one server. Bounded: a server names as many modules as it likes.</summary>
internal sealed class Faults
{
    private const int MaxKinds = 64;

    private readonly Dictionary<(int?, ComplaintKind?, ProcessRole, string?, AddressRelation?), Fault> _faults = [];

    public void Add(Crash crash) =>
        Add(new Fault(crash.Role, crash.Module) { Signal = crash.Signal, Count = 1, Process = crash.Process, TimeNs = crash.TimeNs });

    public void Add(in Observation observation, Complaint complaint, in ComplaintContext context) =>
        Add(new Fault(context.Role, complaint.Module)
        {
            Complaint = complaint.Kind,
            Address = context.Address,
            Count = 1,
            Process = observation.Process,
            Caller = complaint.Caller,
            TimeNs = observation.TimeNs,
        });

    /// <summary>The faults, the latest first.</summary>
    public ImmutableArray<Fault> Snapshot() =>
        [.. _faults.Values.OrderByDescending(static f => f.TimeNs).ThenBy(static f => f.Signal).ThenBy(static f => f.Complaint).ThenBy(static f => f.Role).ThenBy(static f => f.Module, StringComparer.Ordinal).ThenBy(static f => f.Address)];

    private void Add(Fault fault)
    {
        if (_faults.Count >= MaxKinds && !_faults.ContainsKey(KeyOf(fault)))
        {
            fault = fault with { Module = Counters.OtherModule };
        }
        _faults[KeyOf(fault)] = fault with { Count = _faults.TryGetValue(KeyOf(fault), out Fault? before) ? before.Count + 1 : 1 };
    }

    private static (int?, ComplaintKind?, ProcessRole, string?, AddressRelation?) KeyOf(Fault fault) =>
        (fault.Signal, fault.Complaint, fault.Role, fault.Module, fault.Address);
}
