using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>What is counted of a target, or of one instance's share in it.</summary>
internal sealed class Counters
{
    private const int CallKinds = 5;
    private const int Phases = 3;
    private const int Values = 4;

    /// <summary>The module of what comes from more modules than are counted under their own name.</summary>
    public const string OtherModule = "other";

    /// <summary>More than crash or complain in any server that goes on; a hostile one does not make it more series than this.</summary>
    private const int MaxModules = 32;

    private readonly Dictionary<(int Signal, ProcessRole Role, string Module), long> _crashes = [];
    private readonly Dictionary<(ComplaintKind Kind, string Module), long> _complaints = [];
    private readonly HashSet<string> _modules = new(StringComparer.Ordinal);
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

    /// <summary>What a module is counted as here: its own name, <see cref="OtherModule"/> when there are too many, empty when it is not known.</summary>
    public string AdmitModule(string? module) =>
        string.IsNullOrEmpty(module) ? "" : _modules.Contains(module) || (_modules.Count < MaxModules && _modules.Add(module)) ? module : OtherModule;

    public void CountCrash(int signal, ProcessRole role, string module) => Add(_crashes, (signal, role, module), 1);

    public void CountComplaint(ComplaintKind kind, string module) => Add(_complaints, (kind, module), 1);

    /// <summary>Modules are called as <paramref name="target"/> calls them: what is counted here is counted there.</summary>
    public void Rename(Counters target)
    {
        (var crashes, var complaints) = (_crashes.ToArray(), _complaints.ToArray());
        _crashes.Clear();
        _complaints.Clear();
        foreach (((int signal, ProcessRole role, string module), long count) in crashes)
        {
            Add(_crashes, (signal, role, target.AdmitModule(module)), count);
        }
        foreach (((ComplaintKind kind, string module), long count) in complaints)
        {
            Add(_complaints, (kind, target.AdmitModule(module)), count);
        }
    }

    /// <summary>Adds (or, with −1, takes away) what <paramref name="other"/> counted.</summary>
    public void Add(Counters other, int sign)
    {
        Execs += sign * other.Execs;
        Forks += sign * other.Forks;
        SharedUses += sign * other.SharedUses;
        ChainsAttributed += sign * other.ChainsAttributed;
        ChainsUnknown += sign * other.ChainsUnknown;
        foreach (((int, ProcessRole, string) crash, long count) in other._crashes)
        {
            Add(_crashes, crash, sign * count);
        }
        foreach (((ComplaintKind, string) complaint, long count) in other._complaints)
        {
            Add(_complaints, complaint, sign * count);
        }
        Add(_calls, other._calls, sign);
        Add(_exits, other._exits, sign);
        Add(_verdicts, other._verdicts, sign);
    }

    public bool IsEmpty => _crashes.Count == 0 && _complaints.Count == 0 && Execs == 0 && Forks == 0 && SharedUses == 0 && ChainsAttributed == 0 && ChainsUnknown == 0 && IsZero(_exits) && IsZero(_calls) && IsZero(_verdicts);

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
        return new TargetCounters(target, calls.ToImmutable(), Execs, Forks, [.. _exits], [.. _verdicts], SharedUses, ChainsAttributed, ChainsUnknown,
            [.. _crashes.OrderBy(static c => c.Key).Select(static c => new CrashCount(c.Key.Signal, c.Key.Role, c.Key.Module, c.Value))],
            [.. _complaints.OrderBy(static c => c.Key).Select(static c => new ComplaintCount(c.Key.Kind, c.Key.Module, c.Value))]);
    }

    private static bool IsZero(long[] counts) => counts.AsSpan().IndexOfAnyExcept(0) < 0;

    /// <summary>What comes to nothing was never there.</summary>
    private static void Add<T>(Dictionary<T, long> counts, T what, long count)
        where T : notnull
    {
        long sum = counts.GetValueOrDefault(what) + count;
        if (sum == 0)
        {
            _ = counts.Remove(what);
        }
        else
        {
            counts[what] = sum;
        }
    }

    private static void Add(long[] to, long[] from, int sign)
    {
        for (int i = 0; i < to.Length; i++)
        {
            to[i] += sign * from[i];
        }
    }
}
