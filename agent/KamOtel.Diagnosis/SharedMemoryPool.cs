namespace KamOtel.Diagnosis;

/// <summary>The shared memory that a server allocates from, and how full it is. All figures are bytes.</summary>
/// <param name="Start">The segment's first address.</param>
/// <param name="End">The address after its last.</param>
/// <param name="Manager">Who manages it, as <c>kamailio -x</c> calls it: <c>qm</c>, <c>fm</c> or <c>tlsf</c>; null for another one.</param>
/// <param name="Used">What is given out, the manager's own share included; null when the manager's figures cannot be read.</param>
/// <param name="Free">What is left; null when <paramref name="Used"/> is.</param>
/// <param name="MaxUsed">The highest that <paramref name="Used"/> has been; null when <paramref name="Used"/> is.</param>
public sealed record SharedMemoryPool(ulong Start, ulong End, string? Manager, ulong? Used, ulong? Free, ulong? MaxUsed)
{
    /// <summary>The segment's size.</summary>
    public ulong Size => End - Start;

    /// <summary>The figures do not contradict each other: none is more than there is, and all three are known, or none is.</summary>
    public bool IsConsistent =>
        End > Start
        && ((Used, Free, MaxUsed) is (null, null, null)
            || (Used is { } used && Free is { } free && MaxUsed is { } most && used <= most && most <= Size && free <= Size - used));
}
