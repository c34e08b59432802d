using System.Buffers.Binary;
using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>
/// Finds the shared memory that a server allocates from, and how full it is. Kamailio's program exports where
/// (<c>_shm_root</c>: the manager's name, the pool, the manager's structure) and how large (<c>shm_mem_size</c>). Nothing is
/// locked: what changed while it was read is read again, and what does not fit is absent.
/// </summary>
internal static class SharedMemoryPoolReader
{
    public const string Root = "_shm_root";
    public const string AskedSize = "shm_mem_size";

    private const int MaxReadings = 6;

    /// <summary>What of <c>_shm_root</c> is read: its first three pointers.</summary>
    private const int RootSize = 24;

    /// <summary>Null when there is none, or it is not clear which.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="mappings">All that it maps.</param>
    /// <param name="root">Where its <c>_shm_root</c> is; null when its program exports none, as OpenSIPS's.</param>
    /// <param name="askedSize">Where its <c>shm_mem_size</c> is.</param>
    public static SharedMemoryPool? Read(int pid, ImmutableArray<Mapping> mappings, ulong? root, ulong? askedSize)
    {
        Span<byte> bytes = stackalloc byte[RootSize];
        if (askedSize is not { } at || !ProcessMemory.TryRead(pid, at, bytes[..8], out _))
        {
            return null;
        }

        ulong size = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        if (root is not { } start)
        {
            return Only(mappings, size) is { } segment ? new(segment.Start, segment.End, null, null, null, null) : null;
        }

        if (!ProcessMemory.TryRead(pid, start, bytes, out _))
        {
            return null;
        }

        (ulong name, ulong pool, ulong block) =
            (BinaryPrimitives.ReadUInt64LittleEndian(bytes), BinaryPrimitives.ReadUInt64LittleEndian(bytes[8..]), BinaryPrimitives.ReadUInt64LittleEndian(bytes[16..]));
        if (mappings.FirstOrDefault(mapping => mapping.Start == pool && IsSegment(mapping, size)) is not { } found)
        {
            return null;
        }

        string? manager = ManagerOf(pid, name);
        return manager is not null && block == pool && ReadFigures(pid, manager, pool, size) is { } figures
            ? new(found.Start, found.End, manager, figures.Used, figures.Total - figures.Used, figures.MaxUsed)
            : new(found.Start, found.End, manager, null, null, null);
    }

    /// <summary>Memory that processes share by inheritance, of that size.</summary>
    internal static bool IsSegment(Mapping mapping, ulong size)
    {
        const MappingAccess SharedData = MappingAccess.Read | MappingAccess.Write | MappingAccess.Shared;
        ulong length = mapping.End - mapping.Start;
        return mapping is { Path: "/dev/zero", Deleted: true, Access: SharedData }
            && size > 0 && size <= length && length - size < (ulong)Environment.SystemPageSize;
    }

    private static Mapping? Only(ImmutableArray<Mapping> mappings, ulong size)
    {
        Mapping[] candidates = [.. mappings.Where(mapping => IsSegment(mapping, size)).Take(2)];
        return candidates is [var only] ? only : null;
    }

    private static string? ManagerOf(int pid, ulong address)
    {
        Span<byte> name = stackalloc byte[MemoryManager.NameSize];
        return ProcessMemory.TryRead(pid, address, name, out _) ? MemoryManager.NameOf(name) : null;
    }

    /// <summary>Two readings of the same pool that make sense; the manager may be in the middle of something.</summary>
    private static PoolFigures? ReadFigures(int pid, string manager, ulong pool, ulong size)
    {
        Span<byte> structure = stackalloc byte[MemoryManager.StructureSize];
        PoolFigures? before = null;
        for (int reading = 0; reading < MaxReadings; reading++)
        {
            if (!ProcessMemory.TryRead(pid, pool, structure, out _))
            {
                return null;
            }

            PoolFigures? now = MemoryManager.Parse(manager, structure, pool, size);
            if (now is { } figures && before is { } known && figures.Fixed == known.Fixed)
            {
                return figures;
            }

            before = now;
        }

        return null;
    }
}
