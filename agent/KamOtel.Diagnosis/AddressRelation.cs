using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>Where an address is, seen from the slots that processes share.</summary>
public enum AddressRelation
{
    /// <summary>There is no address, or no inspection has told yet what is shared.</summary>
    Unknown,

    /// <summary>It is the value of a shared slot.</summary>
    SharedSlot,

    /// <summary>It lies in the object that a shared slot points to, or in what the memory manager wrote before it.</summary>
    BesideSharedSlot,

    /// <summary>It lies in the same shared memory as what a shared slot points to.</summary>
    SharedMemory,

    /// <summary>It lies elsewhere, or nothing is shared.</summary>
    Elsewhere,
}

/// <summary>Tells where an address is.</summary>
internal static class SlotNeighbourhood
{
    /// <summary>
    /// The largest object that OpenSSL keeps in a slot is <c>ERR_STATE</c>: 904 bytes in OpenSSL 3.0, and less before. What
    /// is further off is another object; a fragment that follows this one begins within it.
    /// </summary>
    private const ulong After = 1024;

    /// <summary>
    /// Kamailio's memory managers name a fragment by its header, right before the object. With what is kept for debugging, and
    /// with the end of the fragment before, it has less than this.
    /// </summary>
    private const ulong Before = 128;

    /// <param name="address">The address; null when there is none.</param>
    /// <param name="shared">The slots that are shared; null when no inspection could tell.</param>
    public static AddressRelation Of(ulong? address, ImmutableArray<SharedSlot>? shared)
    {
        if (address is not { } at || shared is not { } slots)
        {
            return AddressRelation.Unknown;
        }
        AddressRelation nearest = AddressRelation.Elsewhere;
        foreach (SharedSlot slot in slots)
        {
            AddressRelation here =
                at == slot.Value ? AddressRelation.SharedSlot
                : at >= slot.Value ? at - slot.Value < After ? AddressRelation.BesideSharedSlot : Within(at, slot.Memory)
                : slot.Value - at <= Before ? AddressRelation.BesideSharedSlot : Within(at, slot.Memory);
            nearest = here < nearest ? here : nearest;
        }
        return nearest;
    }

    private static AddressRelation Within(ulong address, SharedMemory memory) =>
        address >= memory.Start && address < memory.End ? AddressRelation.SharedMemory : AddressRelation.Elsewhere;
}
