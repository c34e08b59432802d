namespace KamOtel.Diagnosis;

/// <summary>Names one slot of a thread.</summary>
/// <param name="Key">The pthread key, or the id that the <c>_ex</c> functions take.</param>
/// <param name="Context">The library context for <c>_ex</c> slots; 0 for pthread slots.</param>
/// <param name="Extended">True for a slot of the <c>_ex</c> functions.</param>
public readonly record struct SlotKey(uint Key, ulong Context, bool Extended)
{
    /// <inheritdoc/>
    public override string ToString() => Extended ? $"ex:{Key}" : $"{Key}";
}

/// <summary>Values of slots.</summary>
public static class SlotValue
{
    /// <summary>OpenSSL stores −1 while a value is being made: no pointer.</summary>
    public const ulong Sentinel = ulong.MaxValue;

    /// <summary>What a set call stored.</summary>
    public static SlotValueKind KindOf(ulong value) => value switch
    {
        0 => SlotValueKind.Null,
        Sentinel => SlotValueKind.Sentinel,
        _ => SlotValueKind.Pointer,
    };
}
