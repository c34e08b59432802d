using System.Diagnostics;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>
/// Looks into live processes: the kernel side says where each thread keeps its slots, and they are read from there. Stops
/// nobody and needs no probe. One thread at a time.
/// </summary>
internal sealed partial class Inspector(KernelSide kernel, ProcFs proc, Action<double> duration, ILogger logger)
{
    private readonly ProcessInspector _processes = new(proc);
    private readonly List<ThreadPointer> _threads = [];

    /// <summary>Inspections of instances so far.</summary>
    public long Count { get; private set; }

    /// <summary>Does the inspections that are due, and says which they were.</summary>
    public IReadOnlyList<InspectionRequest> Inspect(Fleet fleet, ulong nowNs)
    {
        IReadOnlyList<InspectionRequest> due = fleet.TakeDueInspections(nowNs);
        if (due.Count == 0)
        {
            return due;
        }
        long asked = Stopwatch.GetTimestamp();
        string? refused = ReadThreads();
        TimeSpan listing = Stopwatch.GetElapsedTime(asked);
        ILookup<ProcessId, ThreadPointer> threads = _threads.ToLookup(static t => t.Process);
        foreach (InspectionRequest request in due)
        {
            long start = Stopwatch.GetTimestamp();
            ProcessInspection[] found = refused is null ? _processes.Inspect(request.Processes, threads) : [.. request.Processes.Select(Denied)];
            fleet.Inspected(request.Instance, found, _processes.Facts(request.Root), BootClock.NowNs);
            Count++;
            duration((listing + Stopwatch.GetElapsedTime(start)).TotalSeconds);
        }
        return due;

        ProcessInspection Denied(ProcessId process) => new() { Process = process, TimeNs = nowNs, Status = InspectionStatus.Denied, Detail = refused };
    }

    /// <summary>What is needed to understand a process's slots; null when it cannot be known.</summary>
    public ProcessView? View(ProcessId process) => _processes.View(process);

    /// <summary>What a dying process held, from the kernel's copy of its slots.</summary>
    public ProcessInspection Decode(ProcessView view, ProcessId process, ReadOnlySpan<byte> blocks, uint blocksRead, ulong timeNs) =>
        _processes.Decode(view, process, blocks, blocksRead, timeNs);

    /// <summary>Null, or why the kernel refused.</summary>
    private string? ReadThreads()
    {
        _threads.Clear();
        try
        {
            kernel.ReadThreads(tgid: null, _threads);
            return null;
        }
        catch (BpfException e)
        {
            NotRead(logger, e.Message);
            return e.Message;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "threads cannot be read, so nothing can be inspected: {Reason}")]
    private static partial void NotRead(ILogger logger, string reason);
}
