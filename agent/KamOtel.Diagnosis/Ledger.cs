namespace KamOtel.Diagnosis;

/// <summary>A live slot.</summary>
internal readonly record struct Slot(ulong Value, ulong SetNs, bool Inherited)
{
    public bool IsPointer => SlotValue.KindOf(Value) == SlotValueKind.Pointer;
}

/// <summary>The live slots of one process, by thread, as far as the events tell.</summary>
internal sealed class Ledger
{
    private readonly Dictionary<int, Dictionary<SlotKey, Slot>> _threads = [];

    /// <summary>Live slots of all threads.</summary>
    public int Count { get; private set; }

    /// <summary>The live slots of one thread.</summary>
    public IReadOnlyDictionary<SlotKey, Slot> Of(int tid) =>
        _threads.TryGetValue(tid, out Dictionary<SlotKey, Slot>? slots) ? slots : System.Collections.Immutable.ImmutableDictionary<SlotKey, Slot>.Empty;

    /// <summary>
    /// Sets or, with null, clears a slot; tells whether it held an inherited value until now. False when the ledger is
    /// full and the slot had to be left out.
    /// </summary>
    public bool Set(int tid, SlotKey key, ulong value, ulong timeNs, int most, out bool replacesInherited)
    {
        replacesInherited = false;
        if (!_threads.TryGetValue(tid, out Dictionary<SlotKey, Slot>? slots))
        {
            if (value == 0)
            {
                return true;
            }
            slots = [];
            _threads[tid] = slots;
        }
        bool known = slots.TryGetValue(key, out Slot before);
        replacesInherited = known && before.Inherited;
        if (value == 0)
        {
            if (known)
            {
                _ = slots.Remove(key);
                Count--;
            }
            return true;
        }
        if (!known)
        {
            if (Count >= most)
            {
                return false;
            }
            Count++;
        }
        slots[key] = new Slot(value, timeNs, Inherited: false);
        return true;
    }

    /// <summary>
    /// A thread's pthread slots are these and no others. What is known already keeps its time; what is new was set at some
    /// time before <paramref name="timeNs"/>.
    /// </summary>
    public void Mend(int tid, IEnumerable<(SlotKey Key, ulong Value)> live, ulong timeNs, Func<SlotKey, ulong, bool> isInherited)
    {
        Dictionary<SlotKey, Slot> before = _threads.GetValueOrDefault(tid) ?? [];
        var now = new Dictionary<SlotKey, Slot>();
        foreach ((SlotKey key, Slot slot) in before)
        {
            if (key.Extended)
            {
                now[key] = slot;
            }
        }
        foreach ((SlotKey key, ulong value) in live)
        {
            now[key] = before.TryGetValue(key, out Slot known) && known.Value == value ? known : new Slot(value, timeNs, isInherited(key, value));
        }
        Count += now.Count - before.Count;
        if (now.Count > 0)
        {
            _threads[tid] = now;
        }
        else
        {
            _ = _threads.Remove(tid);
        }
    }

    /// <summary>A pthread key ends: its slots vanish in every thread.</summary>
    public void RemoveKey(uint key)
    {
        var slot = new SlotKey(key, Context: 0, Extended: false);
        foreach (Dictionary<SlotKey, Slot> slots in _threads.Values)
        {
            if (slots.Remove(slot))
            {
                Count--;
            }
        }
    }

    /// <summary>The <c>_ex</c> slots of a thread end.</summary>
    public void RemoveExtended(int tid)
    {
        if (_threads.TryGetValue(tid, out Dictionary<SlotKey, Slot>? slots))
        {
            foreach (SlotKey key in slots.Keys.Where(static k => k.Extended).ToArray())
            {
                _ = slots.Remove(key);
                Count--;
            }
        }
    }

    /// <summary>A thread ends.</summary>
    public void RemoveThread(int tid)
    {
        if (_threads.Remove(tid, out Dictionary<SlotKey, Slot>? slots))
        {
            Count -= slots.Count;
        }
    }

    /// <summary>The ledger of a child: fork copies the calling thread, which becomes the child's Thread#1.</summary>
    public Ledger Fork(int callingTid, int childTid)
    {
        var child = new Ledger();
        if (_threads.TryGetValue(callingTid, out Dictionary<SlotKey, Slot>? slots) && slots.Count > 0)
        {
            var copy = new Dictionary<SlotKey, Slot>(slots.Count);
            foreach ((SlotKey key, Slot slot) in slots)
            {
                copy[key] = slot with { Inherited = true };
            }
            child._threads[childTid] = copy;
            child.Count = copy.Count;
        }
        return child;
    }

    /// <summary>Exec: nothing stays.</summary>
    public void Clear()
    {
        _threads.Clear();
        Count = 0;
    }
}
