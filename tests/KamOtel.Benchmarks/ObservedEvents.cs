using KamOtel.Bpf;
using KamOtel.Diagnosis;

namespace KamOtel.Benchmarks;

/// <summary>Hands observations to a fleet, as the watch loop does, and counts them.</summary>
internal sealed class ObservedEvents(Fleet fleet) : IObservationHandler
{
    /// <summary>Observations since it was last set.</summary>
    public long Count { get; set; }

    public void OnObservation(in Observation observation)
    {
        Count++;
        fleet.Observe(in observation);
    }

    public void OnStack(in Observation call, in CopiedStack stack)
    {
    }

    public void OnFatalSignal(in Observation observation, ReadOnlySpan<byte> blocks, uint blocksRead)
    {
    }

    public void OnComplaint(in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack)
    {
    }

    public void OnMapping(in ExecutableMapping mapping)
    {
    }

    public void OnMappingsLost(ulong count)
    {
    }
}
