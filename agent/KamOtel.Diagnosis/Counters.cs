using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>What is counted of a target, or of one instance's share in it.</summary>
internal sealed class Counters
{
    private const int CallKinds = 5;
    private const int Phases = 3;
    private const int Values = 4;

    private readonly long[] _calls = new long[CallKinds * 2 * Phases * Values];
    private readonly long[] _exits = new long[3];

    public long Execs { get; set; }

    public long Forks { get; set; }

    public void CountCall(ObservationKind call, bool mainThread, CallPhase phase, SlotValueKind value) =>
        _calls[((((call - ObservationKind.InitLocal) * 2) + (mainThread ? 1 : 0)) * Phases + (int)phase) * Values + (int)value]++;

    public void CountExit(ExitKind kind) => _exits[(int)kind]++;

    /// <summary>Adds (or, with −1, takes away) what <paramref name="other"/> counted.</summary>
    public void Add(Counters other, int sign)
    {
        Execs += sign * other.Execs;
        Forks += sign * other.Forks;
        for (int i = 0; i < _calls.Length; i++)
        {
            _calls[i] += sign * other._calls[i];
        }
        for (int i = 0; i < _exits.Length; i++)
        {
            _exits[i] += sign * other._exits[i];
        }
    }

    public bool IsEmpty => Execs == 0 && Forks == 0 && _exits.AsSpan().IndexOfAnyExcept(0) < 0 && _calls.AsSpan().IndexOfAnyExcept(0) < 0;

    public TargetCounters Snapshot(string target)
    {
        var calls = ImmutableArray.CreateBuilder<CallCount>();
        for (int i = 0; i < _calls.Length; i++)
        {
            if (_calls[i] != 0)
            {
                calls.Add(new CallCount(
                    ObservationKind.InitLocal + (ushort)(i / (2 * Phases * Values)),
                    i / (Phases * Values) % 2 == 1,
                    (CallPhase)(i / Values % Phases),
                    (SlotValueKind)(i % Values),
                    _calls[i]));
            }
        }
        return new TargetCounters(target, calls.ToImmutable(), Execs, Forks, [.. _exits]);
    }
}
