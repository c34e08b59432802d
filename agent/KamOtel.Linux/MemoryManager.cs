using System.Buffers.Binary;

namespace KamOtel.Linux;

/// <summary>What a memory manager of Kamailio writes down about its pool.</summary>
/// <param name="Fixed">What never changes of it: two readings of one pool have the same.</param>
/// <param name="Total">The pool's size as the manager counts it, in bytes.</param>
/// <param name="Used">Bytes that are given out, its own share included.</param>
/// <param name="MaxUsed">The most that this has been, in bytes.</param>
internal readonly record struct PoolFigures((ulong, ulong) Fixed, ulong Total, ulong Used, ulong MaxUsed);

/// <summary>
/// Kamailio's memory managers, each of which keeps its figures in a structure at the start of its pool. The layouts are those
/// of src/core/mem (q_malloc.h, f_malloc.h, tlsf_malloc.c), the same from 5.6 to 6.x. A structure is believed only when all
/// that is known of it fits: another layout gives nothing rather than a wrong number.
/// </summary>
internal static class MemoryManager
{
    /// <summary>As many bytes of a structure as are looked at.</summary>
    public const int StructureSize = 112;

    /// <summary>The longest name, with its end.</summary>
    public const int NameSize = 12;

    /// <summary>What <c>-x</c> calls the manager with this name in Kamailio's memory; null for another.</summary>
    public static string? NameOf(ReadOnlySpan<byte> text) =>
        text.StartsWith("q_malloc\0"u8) ? "qm"
        : text.StartsWith("f_malloc\0"u8) ? "fm"
        : text.StartsWith("tlsf_malloc\0"u8) ? "tlsf"
        : null;

    /// <summary>The figures of a pool; null when they make no sense.</summary>
    /// <param name="manager">A name from <see cref="NameOf"/>.</param>
    /// <param name="structure">The pool's first bytes.</param>
    /// <param name="pool">The pool's address.</param>
    /// <param name="size">The size that it was made with, in bytes.</param>
    public static PoolFigures? Parse(string manager, ReadOnlySpan<byte> structure, ulong pool, ulong size) =>
        structure.Length < StructureSize ? null : manager switch
        {
            "qm" or "fm" => ParseList(structure, pool, size),
            // Built with and without debugging, each block's head has another size.
            "tlsf" => ParseTlsf(structure[64..], pool, size, structure, overhead: 40) ?? ParseTlsf(structure[32..], pool, size, structure, overhead: 8),
            _ => null,
        };

    /// <summary>struct qm_block and fm_block: type, size, used, real_used, max_real_used, ffrags, first_frag, the last one's place.</summary>
    private static PoolFigures? ParseList(ReadOnlySpan<byte> block, ulong pool, ulong size)
    {
        (ulong type, ulong total, ulong given, ulong used) = (Word(block, 0), Word(block, 1), Word(block, 2), Word(block, 3));
        (ulong most, ulong first, ulong last) = (Word(block, 4), Word(block, 6), Word(block, 7));
        // The end of a fragment: 16 to 72 bytes by manager and build.
        const ulong MaxTail = 128;
        return type <= byte.MaxValue
            && total <= size && size - total < 16 && total % 8 == 0
            && first % 8 == 0 && first >= pool + 64 && first < pool + total
            && last % 8 == 0 && last > first && last < pool + total && pool + total - last <= MaxTail
            // The structure itself is given out from the beginning.
            && used >= first - pool
            && IsOrdered(given, used, most, total)
            ? new PoolFigures((first, last), total, used, most)
            : null;
    }

    /// <summary>control_t behind its block_null: total_size, allocated, real_used, max_used, fragments, max_fragments.</summary>
    private static PoolFigures? ParseTlsf(ReadOnlySpan<byte> figures, ulong pool, ulong size, ReadOnlySpan<byte> control, ulong overhead)
    {
        // Heads of the free lists: 8 KiB.
        const ulong MinUsed = 8192;
        (ulong total, ulong given, ulong used, ulong most) = (Word(figures, 0), Word(figures, 1), Word(figures, 2), Word(figures, 3));
        // Two heads of blocks belong to nobody. The empty list's block is linked with blocks of the pool only.
        int links = overhead > 8 ? 6 : 2;
        return size > 2 * overhead && total == (size - (2 * overhead)) / 8 * 8
            && IsInside(Word(control, links)) && IsInside(Word(control, links + 1))
            && used >= MinUsed
            && IsOrdered(given, used, most, total)
            ? new PoolFigures((total, overhead), total, used, most)
            : null;

        bool IsInside(ulong address) => address >= pool && address - pool < size;
    }

    private static bool IsOrdered(ulong given, ulong used, ulong most, ulong total) => given <= used && used <= most && most <= total;

    private static ulong Word(ReadOnlySpan<byte> bytes, int index) => BinaryPrimitives.ReadUInt64LittleEndian(bytes[(8 * index)..]);
}
