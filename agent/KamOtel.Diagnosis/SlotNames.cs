namespace KamOtel.Diagnosis;

/// <summary>What OpenSSL keeps in a slot, as far as the functions on the stack show it.</summary>
public static class SlotNames
{
    /// <summary>The name of the slot that a call sets; null when the stack does not show it.</summary>
    public static string? Of(CallChain chain, ulong value)
    {
        _ = chain;
        _ = value;
        return null;
    }
}
