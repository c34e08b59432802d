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
    private readonly long[] _verdicts = new long[Enum.GetValues<Verdict>().Length];

    public long Execs { get; set; }

    public long Forks { get; set; }

    public long SharedUses { get; set; }

    public long ChainsAttributed { get; private set; }

    public long ChainsUnknown { get; private set; }

    public void CountChain(bool attributed)
    {
        if (attributed)
        {
            ChainsAttributed++;
        }
        else
        {
            ChainsUnknown++;
        }
    }

    public void CountCall(ObservationKind call, bool mainThread, CallPhase phase, SlotValueKind value) =>
        _calls[((((call - ObservationKind.InitLocal) * 2) + (mainThread ? 1 : 0)) * Phases + (int)phase) * Values + (int)value]++;

    public void CountExit(ExitKind kind) => _exits[(int)kind]++;

    public void CountVerdict(Verdict verdict) => _verdicts[(int)verdict]++;

    /// <summary>Adds (or, with −1, takes away) what <paramref name="other"/> counted.</summary>
    public void Add(Counters other, int sign)
    {
        Execs += sign * other.Execs;
        Forks += sign * other.Forks;
        SharedUses += sign * other.SharedUses;
        ChainsAttributed += sign * other.ChainsAttributed;
        ChainsUnknown += sign * other.ChainsUnknown;
        Add(_calls, other._calls, sign);
        Add(_exits, other._exits, sign);
        Add(_verdicts, other._verdicts, sign);
    }

    public bool IsEmpty => Execs == 0 && Forks == 0 && SharedUses == 0 && ChainsAttributed == 0 && ChainsUnknown == 0 && IsZero(_exits) && IsZero(_calls) && IsZero(_verdicts);

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
        return new TargetCounters(target, calls.ToImmutable(), Execs, Forks, [.. _exits], [.. _verdicts], SharedUses, ChainsAttributed, ChainsUnknown);
    }

    private static bool IsZero(long[] counts) => counts.AsSpan().IndexOfAnyExcept(0) < 0;

    private static void Add(long[] to, long[] from, int sign)
    {
        for (int i = 0; i < to.Length; i++)
        {
            to[i] += sign * from[i];
        }
    }
}
