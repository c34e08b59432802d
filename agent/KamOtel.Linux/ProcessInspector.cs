using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>
/// Inspects live processes, none of which can hold the caller: who makes his reader wait is given up, and the others are read.
/// For one thread at a time.
/// </summary>
/// <param name="proc">Where the processes are shown.</param>
public sealed class ProcessInspector(ProcFs proc)
{
    private SlotReader _slots = new(proc);
    private ServerFactsReader _facts = new(proc);

    /// <summary>
    /// Reads the slots of processes in one pass: see <see cref="SlotReader.Inspect"/>. To be taken for true only by
    /// <see cref="Confirm"/>.
    /// </summary>
    /// <param name="processes">The processes.</param>
    /// <param name="threads">The threads of all.</param>
    public ProcessInspection[] Inspect(IReadOnlyList<ProcessId> processes, ILookup<ProcessId, ThreadPointer> threads)
    {
        ArgumentNullException.ThrowIfNull(processes);
        ArgumentNullException.ThrowIfNull(threads);
        _slots.Forget(threads);
        return Read(
            processes,
            slots => i => slots.Read(processes[i], [.. threads[processes[i]]]),
            (i, unread) => SlotReader.Failed(processes[i], BootClock.NowNs, unread));
    }

    /// <summary>What was found, when the process was there all the time: its Thread#1 is listed again afterwards.</summary>
    /// <param name="found">What <see cref="Inspect"/> found.</param>
    /// <param name="threads">The threads of all, listed after that.</param>
    public static ProcessInspection Confirm(ProcessInspection found, ILookup<ProcessId, ThreadPointer> threads)
    {
        ArgumentNullException.ThrowIfNull(found);
        ArgumentNullException.ThrowIfNull(threads);
        ProcessId process = found.Process;
        return found.Status == InspectionStatus.Gone || threads[process].Any(thread => thread.Tid == process.Tgid)
            ? found
            : new() { Process = process, TimeNs = found.TimeNs, Status = InspectionStatus.Gone, Detail = $"process {process} is gone" };
    }

    /// <summary>What is needed to understand a process's slots; null when it cannot be known.</summary>
    public ProcessView? View(ProcessId process) =>
        Read<ProcessView?>([process], slots => _ => slots.TryView(process, out ProcessView? view, out ProcessInspection? _) ? view : null, static (_, _) => null)[0];

    /// <summary>See <see cref="SlotReader.Decode"/>.</summary>
    public ProcessInspection Decode(ProcessView view, ProcessId process, ReadOnlySpan<byte> blocks, uint blocksRead, ulong timeNs) =>
        _slots.Decode(view, process, blocks, blocksRead, timeNs);

    /// <summary>See <see cref="ServerFactsReader.Read"/>.</summary>
    public ServerFacts Facts(ProcessId root) =>
        BoundedCall.ForEach(
            [root.Tgid],
            () =>
            {
                ServerFactsReader facts = _facts;
                return _ => facts.Read(root);
            },
            static (_, _) => ServerFacts.Unknown,
            left: () => _facts = new(proc))[0];

    private T[] Read<T>(IReadOnlyList<ProcessId> processes, Func<SlotReader, Func<int, T>> begin, Func<int, ProcFailure, T> unread) =>
        BoundedCall.ForEach(
            [.. processes.Select(static p => p.Tgid)],
            () =>
            {
                _slots.BeginPass();
                return begin(_slots);
            },
            unread,
            left: () => _slots = new(proc));
}
