namespace KamOtel.Diagnosis;

/// <summary>The call that set a slot to the value that it has.</summary>
/// <param name="Process">The process that made it.</param>
/// <param name="Tid">Its thread.</param>
/// <param name="TimeNs">Boot time in nanoseconds.</param>
/// <param name="Chain">Who called whom.</param>
/// <param name="BeforeForkNs">How long before the process forked its first child, in nanoseconds; null when it was not before.</param>
public sealed record SlotOrigin(ProcessId Process, int Tid, ulong TimeNs, CallChain Chain, ulong? BeforeForkNs);

/// <summary>The calls that set slots, as far as their stacks are known, and the slots' names. Bounded: the oldest goes.</summary>
internal sealed class SlotOrigins
{
    private const int MaxCalls = 1024;

    private readonly Dictionary<(uint Key, ulong Value), List<(TrackedProcess Process, Observation Call, CallChain Chain)>> _calls = [];
    private readonly Queue<(uint Key, ulong Value)> _order = [];

    /// <summary>What the slots are for, by key; null for a key that was shown as two things.</summary>
    private readonly Dictionary<uint, string?> _names = [];

    /// <summary>What was shown at two keys: of neither it is said.</summary>
    private readonly HashSet<string> _unclear = new(StringComparer.Ordinal);

    /// <summary>What the slot is for; null when no stack showed it, or not clearly.</summary>
    public string? NameOf(uint key) => _names.GetValueOrDefault(key);

    /// <summary>Takes a call with its stack.</summary>
    public void Add(TrackedProcess process, in Observation call, CallChain chain)
    {
        if (call.Kind != ObservationKind.SetLocal || call.Key is not { } key)
        {
            return;
        }
        if (SlotNames.Of(chain, call.Value) is { } name)
        {
            Name(key, name);
        }
        if (SlotValue.KindOf(call.Value) != SlotValueKind.Pointer)
        {
            return;
        }
        if (_order.Count >= MaxCalls)
        {
            ForgetOldest();
        }
        (uint, ulong) slot = (key, call.Value);
        if (!_calls.TryGetValue(slot, out List<(TrackedProcess, Observation, CallChain)>? calls))
        {
            _calls[slot] = calls = [];
        }
        calls.Add((process, call, chain));
        _order.Enqueue(slot);
    }

    /// <summary>
    /// Who set what processes share; null when nobody saw it. It is the last call above the workers, as they inherited it.
    /// Memory is used again, so a worker may have set the same value later for a use of its own.
    /// </summary>
    public SlotOrigin? Of(uint key, ulong value, Func<TrackedProcess, bool> isAboveWorkers)
    {
        if (!_calls.TryGetValue((key, value), out List<(TrackedProcess Process, Observation Call, CallChain Chain)>? calls) || calls.Count == 0)
        {
            return null;
        }
        (TrackedProcess process, Observation call, CallChain chain) =
            calls.FindLast(c => isAboveWorkers(c.Process)) is { Chain: not null } above ? above : calls[^1];
        ulong? before = process.FirstForkNs is { } fork && fork >= call.TimeNs ? fork - call.TimeNs : null;
        return new SlotOrigin(process.Id, call.Tid, call.TimeNs, chain, before);
    }

    private void ForgetOldest()
    {
        (uint, ulong) slot = _order.Dequeue();
        List<(TrackedProcess, Observation, CallChain)> calls = _calls[slot];
        calls.RemoveAt(0);
        if (calls.Count == 0)
        {
            _ = _calls.Remove(slot);
        }
    }

    private void Name(uint key, string name)
    {
        const int MaxKeys = 1024;
        if (_unclear.Contains(name))
        {
            return;
        }
        if (_names.TryGetValue(key, out string? known))
        {
            _names[key] = known == name ? name : null;
        }
        else if (_names.ContainsValue(name))
        {
            _ = _unclear.Add(name);
            foreach (uint other in _names.Keys.Where(k => _names[k] == name).ToArray())
            {
                _names[other] = null;
            }
        }
        else if (_names.Count < MaxKeys)
        {
            _names[key] = name;
        }
    }
}
