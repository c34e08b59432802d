using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>
/// Reads the thread-local values that live processes really hold, without stopping them. What goes wrong is a status with a sentence,
/// never an exception and never a guess. For one thread at a time.
/// </summary>
public sealed class SlotReader
{
    /// <summary>Blocks in a copy of a dying process's slots.</summary>
    public const int CopiedBlocks = 4;

    /// <summary>Bytes of one of them.</summary>
    public const int CopiedBlockSize = 512;

    private const int MaxOtherThreads = 256;
    private const int MaxReads = 6;

    /// <summary>The most processes whose mappings are remembered.</summary>
    private const int MaxViews = 8192;

    private readonly ProcFs _proc;
    private readonly MappedFiles _files;
    private readonly MapScan _scan;
    private readonly List<MemoryRange> _ranges = [];
    private List<Slot> _slots = [];
    private List<Slot> _previous = [];
    private byte[] _read = [];

    /// <summary>What was learned of processes whose mappings have a version: good as long as that is the same.</summary>
    private readonly Dictionary<ProcessId, (ulong Version, ProcessView View)> _views = [];

    /// <summary>Where the blocks of slots were in the process before: a forked one has them at the same places.</summary>
    private byte[] _table = [];
    private ThreadStorageLayout? _tableOf;

    /// <summary>A reader of processes that this proc file system shows.</summary>
    public SlotReader(ProcFs proc)
    {
        ArgumentNullException.ThrowIfNull(proc);
        _proc = proc;
        _files = new(proc);
        _scan = new(proc, _files);
    }

    /// <summary>
    /// Begins a pass over processes. Within a pass, equal lines of <c>maps</c> are taken for the same file; call it before each, and
    /// keep passes short.
    /// </summary>
    public void BeginPass()
    {
        _files.BeginPass();
        _tableOf = null;
    }

    /// <summary>Learns what is needed to read a process's slots.</summary>
    /// <param name="process">The process.</param>
    /// <param name="view">What was learned, when true.</param>
    /// <param name="failure">Why not, when false.</param>
    public bool TryView(ProcessId process, [NotNullWhen(true)] out ProcessView? view, [NotNullWhen(false)] out ProcessInspection? failure)
    {
        view = null;
        ulong now = BootClock.NowNs;
        if (!TryMap(process, now, out ProcessView? mapped, out failure))
        {
            return false;
        }

        ThreadStorageLayout layout = mapped.Layout;
        Span<byte> keys = Room(ref _read, layout.KeyTableSize);
        if (!ProcessMemory.TryRead(process.Tgid, unchecked(mapped.Bias + (layout.KeyTable ?? 0)), keys, out ProcFailure unread))
        {
            failure = Failed(process, now, unread);
            return false;
        }

        if (!IsStill(process, now, out failure))
        {
            return false;
        }

        view = new(process, layout)
        {
            MapsLibcrypto = mapped.MapsLibcrypto,
            SharedMemory = mapped.SharedMemory,
            OpenSslCode = mapped.OpenSslCode,
            Bias = mapped.Bias,
            Keys = UsedPart(layout, keys).ToArray(),
        };
        return true;
    }

    /// <summary>Forgets the processes that are not among the living.</summary>
    public void Forget(ILookup<ProcessId, ThreadPointer> living)
    {
        ArgumentNullException.ThrowIfNull(living);
        if (_views.Count > living.Count)
        {
            foreach (ProcessId ended in _views.Keys.Where(process => !living.Contains(process)).ToArray())
            {
                _ = _views.Remove(ended);
            }
        }
    }

    /// <summary>Reads the slots of a process.</summary>
    /// <param name="process">The process.</param>
    /// <param name="threads">Its threads; those of other processes are passed over.</param>
    /// <returns>
    /// The slots of Thread#1, read twice alike, and how many slots with a pointer the others have (of at most 256, read once).
    /// </returns>
    public ProcessInspection Inspect(ProcessId process, IReadOnlyList<ThreadPointer> threads)
    {
        ProcessInspection found = Read(process, threads);
        return found.Status is InspectionStatus.Inspected or InspectionStatus.Unstable && !IsStill(process, found.TimeNs, out ProcessInspection? gone) ? gone : found;
    }

    /// <summary>The same, when somebody else finds out afterwards whether it was that process all the time.</summary>
    internal ProcessInspection Read(ProcessId process, IReadOnlyList<ThreadPointer> threads)
    {
        ArgumentNullException.ThrowIfNull(threads);
        ulong now = BootClock.NowNs;
        if (!TryFindMain(process, threads, out ThreadPointer main))
        {
            return Failed(process, now, InspectionStatus.Gone, $"process {process} has no Thread#1 any more");
        }

        if (!TryView(main, now, out ProcessView? view, out ProcessInspection? failure))
        {
            return failure;
        }

        bool stable = false;
        for (int i = 0; i < MaxReads && !stable; i += 2)
        {
            if (!TryReadTwice(view, main.TlsBase, out stable, out ProcFailure unread))
            {
                return IsStill(process, now, out failure) ? Failed(process, now, unread) : failure;
            }
        }

        ImmutableArray<HeldSlot> slots = Held(view, _slots);
        int others = CountOthers(view, threads);
        return stable
            ? new()
            {
                Process = process,
                TimeNs = now,
                Status = InspectionStatus.Inspected,
                MapsLibcrypto = view.MapsLibcrypto,
                MainThreadSlots = slots,
                OtherThreadSlots = others,
            }
            : Failed(process, now, InspectionStatus.Unstable, $"the slots of process {process} changed each of the {MaxReads} times that they were read");
    }

    /// <summary>
    /// The same from a copy that the kernel took of a dying process's Thread#1. A value under a key that was made after the view
    /// is passed over: nobody can have inherited it.
    /// </summary>
    /// <param name="view">What was known of it, or of the process that it was forked from.</param>
    /// <param name="process">The process.</param>
    /// <param name="blocks">
    /// <see cref="CopiedBlocks"/> blocks of <see cref="CopiedBlockSize"/> bytes one after the other. glibc: its first blocks of slots
    /// (keys 0–127). musl: the flat array, which is the first two.
    /// </param>
    /// <param name="blocksRead">
    /// Bit i: block i could be read. Only glibc's first is always there; others that were not read hold nothing.
    /// </param>
    /// <param name="timeNs">Boot time of the copy, in nanoseconds.</param>
    public ProcessInspection Decode(ProcessView view, ProcessId process, ReadOnlySpan<byte> blocks, uint blocksRead, ulong timeNs)
    {
        ArgumentNullException.ThrowIfNull(view);
        ThreadStorageLayout layout = view.Layout;
        int slots = CopiedBlockSize / layout.SlotSize;
        if (!layout.Flat && layout.BlockSize != CopiedBlockSize)
        {
            return Failed(process, timeNs, InspectionStatus.Unsupported, $"the C library of process {process} has blocks of {layout.BlockSize} bytes, and {CopiedBlockSize} were copied");
        }

        if (blocks.Length < CopiedBlocks * CopiedBlockSize || (!layout.Flat && (blocksRead & 1) == 0))
        {
            return Failed(process, timeNs, InspectionStatus.Unreadable, $"the slots of process {process} could not be copied when it ended");
        }

        _slots.Clear();
        int count = Math.Min(CopiedBlocks, (layout.Blocks * layout.BlockSlots) / slots);
        for (int i = 0; i < count; i++)
        {
            if ((blocksRead & (1u << i)) == 0)
            {
                continue;
            }

            AddLive(layout, view.Keys.Span, blocks.Slice(i * CopiedBlockSize, CopiedBlockSize), i * slots, _slots);
        }

        return new()
        {
            Process = process,
            TimeNs = timeNs,
            Status = InspectionStatus.Inspected,
            MapsLibcrypto = view.MapsLibcrypto,
            MainThreadSlots = Held(view, _slots),
        };
    }

    private static ProcessInspection Failed(ProcessId process, ulong timeNs, InspectionStatus status, string detail) =>
        new() { Process = process, TimeNs = timeNs, Status = status, Detail = detail };

    internal static ProcessInspection Failed(ProcessId process, ulong timeNs, ProcFailure failure) =>
        Failed(process, timeNs, MapScan.ToStatus(failure.Status), failure.Detail);

    private static bool TryFindMain(ProcessId process, IReadOnlyList<ThreadPointer> threads, out ThreadPointer main)
    {
        for (int i = 0; i < threads.Count; i++)
        {
            if (threads[i].Process == process && threads[i].Tid == process.Tgid)
            {
                main = threads[i];
                return true;
            }
        }

        main = default;
        return false;
    }

    private static Span<byte> Room(ref byte[] buffer, int size)
    {
        if (buffer.Length < size)
        {
            buffer = new byte[size];
        }

        return buffer.AsSpan(0, size);
    }

    /// <summary>The table of keys up to the last one in use.</summary>
    private static ReadOnlySpan<byte> UsedPart(ThreadStorageLayout layout, ReadOnlySpan<byte> keys)
    {
        int size = layout.KeyEntrySize;
        int last = keys.Length - size;
        while (last >= 0 && !keys.Slice(last, size).ContainsAnyExcept((byte)0))
        {
            last -= size;
        }

        return keys[..Math.Max(last + size, 0)];
    }

    /// <summary>Adds a block's live slots.</summary>
    /// <param name="layout">How the block is laid out.</param>
    /// <param name="keys">The table of keys; keys beyond its end are not in use.</param>
    /// <param name="block">The block.</param>
    /// <param name="firstKey">The key of its first slot.</param>
    /// <param name="slots">Where to.</param>
    private static void AddLive(ThreadStorageLayout layout, ReadOnlySpan<byte> keys, ReadOnlySpan<byte> block, int firstKey, List<Slot> slots)
    {
        for (int key = firstKey; block.Length >= layout.SlotSize; key++, block = block[layout.SlotSize..])
        {
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(block[layout.DataAt..]);
            if (value == 0)
            {
                continue;
            }

            int at = key * layout.KeyEntrySize;
            ReadOnlySpan<byte> entry = at + layout.KeyEntrySize <= keys.Length ? keys.Slice(at, layout.KeyEntrySize) : default;
            if (!layout.Flat)
            {
                // A key's number is odd while it is in use and grows with each making and deleting: an older value is nobody's.
                ulong known = entry.IsEmpty ? 0 : BinaryPrimitives.ReadUInt64LittleEndian(entry[layout.KeySequenceAt..]);
                ulong set = BinaryPrimitives.ReadUInt64LittleEndian(block[layout.SequenceAt..]);
                if (set != known || known % 2 == 0)
                {
                    continue;
                }
            }

            slots.Add(new((uint)key, value, entry.IsEmpty ? 0 : BinaryPrimitives.ReadUInt64LittleEndian(entry[layout.KeyDestructorAt..])));
        }
    }

    private static ImmutableArray<HeldSlot> Held(ProcessView view, List<Slot> slots)
    {
        ImmutableArray<HeldSlot>.Builder held = ImmutableArray.CreateBuilder<HeldSlot>(slots.Count);
        foreach (Slot slot in slots)
        {
            held.Add(new(slot.Key, slot.Value, view.OwnerOf(slot.Destructor), view.MemoryAt(slot.Value)));
        }

        return held.MoveToImmutable();
    }

    private bool IsStill(ProcessId process, ulong now, [NotNullWhen(false)] out ProcessInspection? failure)
    {
        failure = null;
        if (!_proc.ReadStat(process.Tgid).TryGet(out ProcessStat? stat, out ProcFailure unread))
        {
            failure = unread.Status == ProcStatus.Gone
                ? Failed(process, now, InspectionStatus.Gone, $"process {process} is gone")
                : Failed(process, now, unread);
        }
        else if (stat.Id != process)
        {
            failure = Failed(process, now, InspectionStatus.Gone, $"process {process} is gone, and its number is in use again");
        }
        else if (stat.State is 'Z' or 'X' or 'x')
        {
            failure = Failed(process, now, InspectionStatus.Gone, $"process {process} has exited");
        }

        return failure is null;
    }

    /// <summary>The version was asked for before the mappings are read: whatever changes in between gives another one.</summary>
    private bool TryView(ThreadPointer main, ulong now, [NotNullWhen(true)] out ProcessView? view, [NotNullWhen(false)] out ProcessInspection? failure)
    {
        if (main.MapsVersion != 0 && _views.TryGetValue(main.Process, out (ulong Version, ProcessView View) known) && known.Version == main.MapsVersion)
        {
            (view, failure) = (known.View, null);
            return true;
        }

        _ = _views.Remove(main.Process);
        if (!TryMap(main.Process, now, out view, out failure))
        {
            return false;
        }

        // A file that could not be opened is tried again.
        if (main.MapsVersion != 0 && _scan.OpenedAll && _views.Count < MaxViews)
        {
            _views[main.Process] = (main.MapsVersion, view);
        }

        return true;
    }

    private bool TryMap(ProcessId process, ulong now, [NotNullWhen(true)] out ProcessView? view, [NotNullWhen(false)] out ProcessInspection? failure)
    {
        if (_scan.TryRead(process, out view, out InspectionStatus status, out string detail))
        {
            failure = null;
            return true;
        }

        // The maps of a process that ends are empty: that is the reason, then, and not what it lacks.
        failure = IsStill(process, now, out ProcessInspection? ended) ? Failed(process, now, status, detail) : ended;
        return false;
    }

    /// <summary>Finds a thread's blocks of slots: into <see cref="_table"/>.</summary>
    private bool TryFindBlocks(ProcessView view, ulong thread, out ProcFailure failure)
    {
        ThreadStorageLayout layout = view.Layout;
        Span<byte> head = Room(ref _read, sizeof(ulong) + layout.TableSize);
        _tableOf = null;
        if (!ProcessMemory.TryRead(view.Process.Tgid, [new(thread, sizeof(ulong)), new(unchecked(thread + (ulong)layout.TableOffset), (ulong)layout.TableSize)], head, out failure))
        {
            return false;
        }

        if (layout.PointsToItself && BinaryPrimitives.ReadUInt64LittleEndian(head) != thread)
        {
            failure = new(ProcStatus.Unavailable, $"there is no thread at 0x{thread:x} of process {view.Process.Tgid}; it may have started another program since its threads were listed");
            return false;
        }

        head[sizeof(ulong)..].CopyTo(Room(ref _table, layout.TableSize));
        _tableOf = layout;
        return true;
    }

    /// <summary>Reads the slots of Thread#1 by one call twice: into <see cref="_slots"/> and <see cref="_previous"/>.</summary>
    /// <param name="view">The process.</param>
    /// <param name="thread">The thread's pointer.</param>
    /// <param name="alike">They were the same both times.</param>
    /// <param name="failure">Why they could not be read.</param>
    private bool TryReadTwice(ProcessView view, ulong thread, out bool alike, out ProcFailure failure)
    {
        // Mostly a fork of the process before, with its blocks at the same places.
        if (view.Layout == _tableOf && TryReadBlocks(view, thread, times: 2, out alike, out failure) && alike)
        {
            return true;
        }

        alike = false;
        return TryFindBlocks(view, thread, out failure) && TryReadBlocks(view, thread, times: 2, out alike, out failure);
    }

    /// <summary>Reads the slots from the blocks that <see cref="_table"/> tells: the last time into <see cref="_slots"/>.</summary>
    private bool TryReadBlocks(ProcessView view, ulong thread, int times, out bool alike, out ProcFailure failure)
    {
        ThreadStorageLayout layout = view.Layout;
        ReadOnlySpan<byte> table = _table.AsSpan(0, layout.TableSize);
        int used = 0;
        int blocks = 0;
        _ranges.Clear();
        for (int i = 0; i < times; i++)
        {
            _ranges.Add(new(thread, sizeof(ulong)));
            _ranges.Add(new(unchecked(thread + (ulong)layout.TableOffset), (ulong)layout.TableSize));
            int keys = _ranges.Count;
            _ranges.Add(default);
            blocks = 0;
            for (int block = 0; block < layout.Blocks; block++)
            {
                if (Word(table, block) is not 0 and var at)
                {
                    _ranges.Add(new(at, (ulong)layout.BlockSize));
                    used = block + 1;
                    blocks++;
                }
            }

            // Of the keys only those that the blocks have slots for.
            _ranges[keys] = new(unchecked(view.Bias + (layout.KeyTable ?? 0)), (ulong)layout.KeyTableSizeOf(used));
        }

        int keysSize = layout.KeyTableSizeOf(used);
        int size = sizeof(ulong) + layout.TableSize + keysSize + (blocks * layout.BlockSize);
        Span<byte> read = Room(ref _read, times * size);
        alike = false;
        if (!ProcessMemory.TryRead(view.Process.Tgid, CollectionsMarshal.AsSpan(_ranges), read, out failure))
        {
            return false;
        }

        alike = true;
        for (int i = 0; i < times; i++, read = read[size..])
        {
            (_slots, _previous) = (_previous, _slots);
            _slots.Clear();
            alike &= (!layout.PointsToItself || Word(read, 0) == thread) && read.Slice(sizeof(ulong), layout.TableSize).SequenceEqual(table);
            ReadOnlySpan<byte> keys = read.Slice(sizeof(ulong) + layout.TableSize, keysSize);
            ReadOnlySpan<byte> block = read[(sizeof(ulong) + layout.TableSize + keysSize)..];
            for (int b = 0; b < used; b++)
            {
                if (Word(table, b) != 0)
                {
                    AddLive(layout, keys, block[..layout.BlockSize], b * layout.BlockSlots, _slots);
                    block = block[layout.BlockSize..];
                }
            }
        }

        alike &= times == 1 || CollectionsMarshal.AsSpan(_slots).SequenceEqual(CollectionsMarshal.AsSpan(_previous));
        return true;

        static ulong Word(ReadOnlySpan<byte> words, int index) => BinaryPrimitives.ReadUInt64LittleEndian(words[(index * sizeof(ulong))..]);
    }

    /// <summary>Threads come and go: one that could not be read is no longer there.</summary>
    private int CountOthers(ProcessView view, IReadOnlyList<ThreadPointer> threads)
    {
        int count = 0;
        int read = 0;
        for (int i = 0; i < threads.Count && read < MaxOtherThreads; i++)
        {
            if (threads[i].Process != view.Process || threads[i].Tid == view.Process.Tgid)
            {
                continue;
            }

            read++;
            if (TryFindBlocks(view, threads[i].TlsBase, out _) && TryReadBlocks(view, threads[i].TlsBase, times: 1, out _, out _))
            {
                foreach (Slot slot in _slots)
                {
                    count += new HeldSlot(slot.Key, slot.Value, view.OwnerOf(slot.Destructor), Memory: null).IsOpenSsl(view.MapsLibcrypto) ? 1 : 0;
                }
            }
        }

        return count;
    }

    private readonly record struct Slot(uint Key, ulong Value, ulong Destructor);
}
