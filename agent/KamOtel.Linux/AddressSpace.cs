using System.Collections.Immutable;

namespace KamOtel.Linux;

/// <summary>Code out of a file, as a process has it mapped.</summary>
/// <param name="Start">Its first address.</param>
/// <param name="End">The address after its last.</param>
/// <param name="Offset">Where in the file it begins, in bytes.</param>
/// <param name="File">The file.</param>
public sealed record CodeMapping(ulong Start, ulong End, ulong Offset, CodeFile File);

/// <summary>
/// The code that a process had mapped at some moment. Immutable: a process that maps or unmaps code has another one from then
/// on, and a stack belongs to the one of the time of its copy.
/// </summary>
public sealed class AddressSpace
{
    /// <summary>The most mappings; code in others is unknown.</summary>
    public const int MaxMappings = UnwinderProtocol.MaxMappings;

    private static ulong s_lastId;

    private AddressSpace(ImmutableArray<CodeMapping> mappings) => Mappings = mappings;

    /// <summary>By address, without overlaps.</summary>
    public ImmutableArray<CodeMapping> Mappings { get; }

    /// <summary>Never given twice.</summary>
    internal ulong Id { get; } = Interlocked.Increment(ref s_lastId);

    /// <summary>
    /// Puts mappings in order. Of mappings that overlap (read while the process changed them) none is kept: nobody knows which
    /// was true.
    /// </summary>
    public static AddressSpace Create(IEnumerable<CodeMapping> mappings)
    {
        ArgumentNullException.ThrowIfNull(mappings);
        CodeMapping[] sorted = [.. mappings.Where(static mapping => mapping.Start < mapping.End).OrderBy(static mapping => mapping.Start)];
        ImmutableArray<CodeMapping>.Builder kept = ImmutableArray.CreateBuilder<CodeMapping>();
        ulong end = 0;
        for (int i = 0; i < sorted.Length && kept.Count < MaxMappings; i++)
        {
            CodeMapping mapping = sorted[i];
            bool alone = mapping.Start >= end && (i + 1 == sorted.Length || sorted[i + 1].Start >= mapping.End);
            end = Math.Max(end, mapping.End);
            if (alone)
            {
                kept.Add(mapping);
            }
        }

        return new(kept.DrainToImmutable());
    }
}
