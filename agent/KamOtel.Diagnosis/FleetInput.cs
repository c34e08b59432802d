using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>Hears what enters a fleet, before the fleet takes it, on the thread that owns the fleet. Must not block.</summary>
public interface IFleetJournal
{
    /// <summary>This enters now.</summary>
    void Take(FleetInput input);
}

/// <summary>
/// Something that enters a fleet. The same inputs in the same order make a fleet of the same options say the same: it has
/// no other source. What would change nothing is not told.
/// </summary>
public abstract record FleetInput
{
    private protected FleetInput()
    {
    }

    /// <summary>Lets it enter that fleet.</summary>
    internal abstract void ApplyTo(Fleet fleet);
}

/// <summary><see cref="Fleet.Observe"/>.</summary>
public sealed record ObservedInput(Observation Observation, string? Target, Container? Container = null) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Observe(Observation, Target, Container);
}

/// <summary><see cref="Fleet.Name"/>.</summary>
public sealed record NamedInput(InstanceId Instance, string Target) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Name(Instance, Target);
}

/// <summary><see cref="Fleet.LibraryMapped"/>.</summary>
public sealed record LibraryMappedInput(ProcessId Process, string Library, ulong MappedNs, ulong? ProbedNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.LibraryMapped(Process, Library, MappedNs, ProbedNs);
}

/// <summary><see cref="Fleet.Attributed"/>.</summary>
public sealed record AttributedInput(Observation Call, CallChain Chain) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Attributed(Call, Chain);
}

/// <summary><see cref="Fleet.Entered"/>.</summary>
public sealed record EnteredInput(Observation Observation, StartStep Step, string? Module) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Entered(Observation, Step, Module);
}

/// <summary><see cref="Fleet.EventsLost"/>.</summary>
public sealed record EventsLostInput(ulong Count, ulong TimeNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.EventsLost(Count, TimeNs);
}

/// <summary><see cref="Fleet.Advance"/>, where a server became ready or was judged.</summary>
public sealed record AdvancedInput(ulong TimeNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Advance(TimeNs);
}

/// <summary><see cref="Fleet.Snapshot"/>, where a server was judged for it.</summary>
public sealed record JudgedInput(ulong TimeNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.JudgeChanged(TimeNs);
}

/// <summary><see cref="Fleet.TakeDueInspections"/>, where one was due.</summary>
public sealed record InspectionsTakenInput(ulong TimeNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.TakeDueInspections(TimeNs);
}

/// <summary><see cref="Fleet.Inspected"/>.</summary>
public sealed record InspectedInput(InstanceId Instance, ImmutableArray<ProcessInspection> Found, ServerFacts? Facts, ulong DoneNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Inspected(Instance, Found, Facts, DoneNs);
}

/// <summary><see cref="Fleet.Dying"/>.</summary>
public sealed record DyingInput(Observation Observation, ProcessInspection Copy) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Dying(Observation, Copy);
}

/// <summary><see cref="Fleet.Complained"/>.</summary>
public sealed record ComplainedInput(Observation Observation, Complaint Complaint) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Complained(Observation, Complaint);
}

/// <summary><see cref="Fleet.Confirmed"/>.</summary>
public sealed record ConfirmedInput(InstanceId Instance, ImmutableArray<SharedUse> Uses, ulong WindowNs, ulong TimeNs) : FleetInput
{
    internal override void ApplyTo(Fleet fleet) => fleet.Confirmed(Instance, Uses, WindowNs, TimeNs);
}
