using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>
/// What has to be known of a process to read its threads' slots, as it was at one moment. Good until the process maps a library or
/// makes a key; a forked child begins with its parent's.
/// </summary>
public sealed class ProcessView
{
    internal ProcessView(ProcessId process, ThreadStorageLayout layout) => (Process, Layout) = (process, layout);

    /// <summary>The process.</summary>
    public ProcessId Process { get; }

    /// <summary>Where its C library keeps the values of keys.</summary>
    public ThreadStorageLayout Layout { get; }

    /// <summary>The process maps a libcrypto: a file that has its thread-local functions, or its name.</summary>
    public bool MapsLibcrypto { get; internal init; }

    /// <summary>The memory that it maps shared and writable, ordered by address.</summary>
    public ImmutableArray<SharedMemory> SharedMemory { get; internal init; } = [];

    /// <summary>Where its libcrypto and libssl have code, ordered by address.</summary>
    internal ImmutableArray<(ulong Start, ulong End)> OpenSslCode { get; init; } = [];

    /// <summary>What is added to the addresses of the C library's file.</summary>
    internal ulong Bias { get; init; }

    /// <summary>The table of keys as it was, up to the last key in use.</summary>
    internal ReadOnlyMemory<byte> Keys { get; init; }

    /// <summary>Whose a key is.</summary>
    internal SlotOwner OwnerOf(ulong destructor)
    {
        if (destructor == 0 || (Layout.NoDestructor is { } none && destructor == unchecked(none + Bias)))
        {
            return SlotOwner.Unnamed;
        }

        foreach ((ulong start, ulong end) in OpenSslCode)
        {
            if (destructor >= start && destructor < end)
            {
                return SlotOwner.OpenSsl;
            }
        }

        return SlotOwner.Other;
    }

    /// <summary>The shared and writable memory that an address is in, or null.</summary>
    internal SharedMemory? MemoryAt(ulong address)
    {
        int low = 0;
        for (int high = SharedMemory.Length; low < high;)
        {
            int middle = (low + high) / 2;
            if (SharedMemory[middle].End <= address)
            {
                low = middle + 1;
            }
            else
            {
                high = middle;
            }
        }

        return low < SharedMemory.Length && SharedMemory[low].Start <= address ? SharedMemory[low] : null;
    }
}
