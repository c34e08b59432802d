using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>Finds what processes share: the same value under the same key in Thread#1, into the same shared memory.</summary>
internal static class SharedSlots
{
    /// <summary>The slots that two or more of these inspections hold alike, ordered by key and value; holders in the order given.</summary>
    public static ImmutableArray<SharedSlot> Of(IEnumerable<ProcessInspection> inspections)
    {
        var holders = new Dictionary<Place, List<ProcessInspection>>();
        foreach (ProcessInspection inspection in inspections)
        {
            foreach (HeldSlot slot in inspection.MainThreadSlots)
            {
                if (inspection.IsOpenSsl(slot) && slot.Memory is { } memory)
                {
                    var place = new Place(slot.Key, slot.Value, memory);
                    if (!holders.TryGetValue(place, out List<ProcessInspection>? found))
                    {
                        holders[place] = found = [];
                    }
                    found.Add(inspection);
                }
            }
        }
        return
        [
            .. holders.Where(static h => h.Value.Count > 1)
                .OrderBy(static h => h.Key.Key).ThenBy(static h => h.Key.Value)
                .Select(static h => new SharedSlot(
                    h.Key.Key, h.Key.Value, h.Key.Memory, [.. h.Value.Select(static i => i.Process)], h.Value.Max(static i => i.TimeNs))),
        ];
    }

    /// <summary>Two processes that map one memory at different places have no pointer in common: the place counts, too.</summary>
    private readonly record struct Place(uint Key, ulong Value, SharedMemory Memory)
    {
        public bool Equals(Place other) =>
            Key == other.Key && Value == other.Value
            && Memory.Inode == other.Memory.Inode && Memory.DeviceMajor == other.Memory.DeviceMajor && Memory.DeviceMinor == other.Memory.DeviceMinor;

        public override int GetHashCode() => HashCode.Combine(Key, Value, Memory.Inode);
    }
}
