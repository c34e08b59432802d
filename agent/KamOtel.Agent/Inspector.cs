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
        long start = Stopwatch.GetTimestamp();
        ILookup<ProcessId, ThreadPointer>? threads = ListThreads(out string? refused);
        TimeSpan listing = Stopwatch.GetElapsedTime(start);
        var done = new List<Pass>(due.Count);
        foreach (InspectionRequest request in due)
        {
            start = Stopwatch.GetTimestamp();
            ProcessInspection[] found = threads is null ? [] : _processes.Inspect(request.Processes, threads);
            done.Add(new Pass(request, found, _processes.Facts(request.Root), BootClock.NowNs, Stopwatch.GetElapsedTime(start)));
        }
        start = Stopwatch.GetTimestamp();
        // Who is listed again was there, and the same, all the time.
        threads = threads is null ? null : ListThreads(out refused);
        listing += Stopwatch.GetElapsedTime(start);
        foreach (Pass pass in done)
        {
            fleet.Inspected(
                pass.Request.Instance,
                threads is null ? [.. pass.Request.Processes.Select(Denied)] : [.. pass.Found.Select(found => ProcessInspector.Confirm(found, threads))],
                pass.Facts,
                pass.DoneNs);
            Count++;
            duration((listing + pass.Took).TotalSeconds);
        }
        return due;

        ProcessInspection Denied(ProcessId process) => new() { Process = process, TimeNs = nowNs, Status = InspectionStatus.Denied, Detail = refused! };
    }

    /// <summary>What is needed to understand a process's slots; null when it cannot be known.</summary>
    public ProcessView? View(ProcessId process) => _processes.View(process);

    /// <summary>What a dying process held, from the kernel's copy of its slots.</summary>
    public ProcessInspection Decode(ProcessView view, ProcessId process, ReadOnlySpan<byte> blocks, uint blocksRead, ulong timeNs) =>
        _processes.Decode(view, process, blocks, blocksRead, timeNs);

    /// <summary>The threads of all watched processes; null when the kernel refused.</summary>
    private ILookup<ProcessId, ThreadPointer>? ListThreads(out string? refused)
    {
        _threads.Clear();
        try
        {
            kernel.ReadThreads(tgid: null, _threads);
            refused = null;
            return _threads.ToLookup(static t => t.Process);
        }
        catch (BpfException e)
        {
            NotRead(logger, e.Message);
            refused = e.Message;
            return null;
        }
    }

    /// <summary>What was read of an instance, to be confirmed.</summary>
    private sealed record Pass(InspectionRequest Request, ProcessInspection[] Found, ServerFacts Facts, ulong DoneNs, TimeSpan Took);

    [LoggerMessage(Level = LogLevel.Warning, Message = "threads cannot be read, so nothing can be inspected: {Reason}")]
    private static partial void NotRead(ILogger logger, string reason);
}
