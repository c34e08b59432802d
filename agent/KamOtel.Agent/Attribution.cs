using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Diagnostics;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>
/// Finds out who made the calls, or crashed, whose stacks were copied: unwinds them on a thread of its own, and tells the fleet. Every
/// stack that is taken is answered, whatever came of it. Watch loop only.
/// </summary>
/// <param name="maps">What each process has mapped.</param>
/// <param name="wake">Ends the loop's wait: there is an answer.</param>
/// <param name="duration">Takes the seconds that each stack took.</param>
/// <param name="logger">Where trouble is told.</param>
internal sealed partial class Attribution(CodeMaps maps, Action wake, Action<double> duration, ILogger logger) : IDisposable
{
    /// <summary>Stacks that may wait, of at most 64 KiB each: more than a server's start has.</summary>
    private const int MaxWaiting = 256;

    private const int MaxKnown = 1024;

    private readonly Unwinder _unwinder = new();

    /// <summary>Of the thread that unwinds.</summary>
    private readonly HashSet<CallChain> _known = [];
    private readonly List<(Observation Call, StackCopy Stack)> _taken = [];
    private readonly BlockingCollection<Request> _requests = new(MaxWaiting);
    private readonly ConcurrentQueue<(Observation Call, CallChain Chain)> _answers = [];
    private Thread? _thread;
    private bool _failing;
    private int _asked;
    private int _told;

    /// <summary>Times that the process which unwinds was started anew.</summary>
    public long Restarts => _unwinder.Restarts;

    /// <summary>No stack is on its way.</summary>
    public bool IsIdle => _taken.Count == 0 && _asked == _told;

    /// <summary>The process that unwinds closes the file.</summary>
    public void Forget(CodeFile file) => _unwinder.Forget(file);

    /// <summary>Takes a stack, as it came. Whose it is becomes clear when the mappings that came before it were told.</summary>
    public void Take(in Observation call, in CopiedStack stack)
    {
        const int BitsInByte = 8;
        int inner = stack.Bytes.Length / CopiedStack.ChunkSize;
        byte[] holes = BitConverter.GetBytes(stack.Holes);
        byte[] outerHoles = inner < sizeof(ulong) * BitsInByte ? BitConverter.GetBytes(stack.Holes >> inner) : [];
        var windows = ImmutableArray.Create(new StackWindow(stack.Start, stack.Bytes.ToArray(), holes));
        if (!stack.OuterBytes.IsEmpty)
        {
            windows = windows.Add(new StackWindow(stack.Outer, stack.OuterBytes.ToArray(), outerHoles));
        }
        _taken.Add((call, new StackCopy([.. stack.Registers], windows)));
    }

    /// <summary>Hands on what was taken. All mappings that were made before those calls must have been told.</summary>
    public void Dispatch()
    {
        _asked += _taken.Count;
        foreach ((Observation call, StackCopy stack) in _taken)
        {
            if (maps.At(call.Process, call.TimeNs) is not var (space, program))
            {
                _answers.Enqueue((call, CallChain.Unknown(ChainEnd.Failed, "what its process has mapped is not known")));
            }
            else if (!_requests.TryAdd(new Request(call, stack, space, program)))
            {
                _answers.Enqueue((call, CallChain.Unknown(ChainEnd.Failed, $"more than {MaxWaiting} stacks waited to be unwound")));
            }
            else if (_thread is null)
            {
                _thread = new Thread(Work) { Name = "unwind", IsBackground = true };
                _thread.Start();
            }
        }
        _taken.Clear();
    }

    /// <summary>Tells the fleet what was found out meanwhile; true when there was something.</summary>
    public bool Tell(Fleet fleet)
    {
        bool told = false;
        while (_answers.TryDequeue(out (Observation Call, CallChain Chain) answer))
        {
            fleet.Attributed(in answer.Call, answer.Chain);
            _told++;
            told = true;
        }
        return told;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _requests.CompleteAdding();
        // At most one stack is still being unwound, and that has a deadline.
        if (_thread is null || _thread.Join(TimeSpan.FromSeconds(2)))
        {
            _requests.Dispose();
        }
        _unwinder.Dispose();
    }

    /// <summary>The chain that a stack is, in the fleet's words.</summary>
    internal static CallChain ChainOf(UnwoundStack stack, string? program)
    {
        var frames = ImmutableArray.CreateBuilder<CallFrame>(stack.Frames.Length);
        foreach (UnwoundFrame frame in stack.Frames)
        {
            if (frame.Mapping is { File: { Path: var path } file })
            {
                string name = ServerModule.FileNameOf(path);
                frames.Add(new CallFrame(name, file.Module, path == program, frame.Function, frame.Function is null ? frame.FileAddress : frame.Offset));
            }
        }
        ChainEnd end = stack.End switch
        {
            UnwindEnd.Complete => ChainEnd.Complete,
            UnwindEnd.Truncated => ChainEnd.Truncated,
            UnwindEnd.NoUnwindInfo => ChainEnd.NoUnwindInfo,
            UnwindEnd.UnknownCode => ChainEnd.UnknownCode,
            UnwindEnd.BadFile => ChainEnd.BadFile,
            UnwindEnd.TooDeep => ChainEnd.TooDeep,
            _ => ChainEnd.Failed,
        };
        return new CallChain(frames.DrainToImmutable(), end, stack.Detail);
    }

    private void Work()
    {
        foreach (Request request in _requests.GetConsumingEnumerable())
        {
            if (_requests.IsAddingCompleted)
            {
                break;
            }
            long start = Stopwatch.GetTimestamp();
            CallChain chain;
            try
            {
                StackCopy stack = request.Call.Kind == ObservationKind.FatalSignal ? LostCall.Undo(request.Space, request.Stack) : request.Stack;
                chain = Known(ChainOf(_unwinder.Unwind(request.Space, stack), request.Program));
            }
#pragma warning disable CA1031 // Whatever a stranger's file provokes: the loop must hear something of each stack.
            catch (Exception e)
#pragma warning restore CA1031
            {
                Failed(logger, e);
                chain = CallChain.Unknown(ChainEnd.Failed, "a fault of kamotel's: its log has it");
            }
            Complain(chain);
            duration(Stopwatch.GetElapsedTime(start).TotalSeconds);
            _answers.Enqueue((request.Call, chain));
            wake();
        }
    }

    /// <summary>Servers make the same calls at each start: the chains of all of them are one in memory.</summary>
    private CallChain Known(CallChain chain)
    {
        if (_known.TryGetValue(chain, out CallChain? known))
        {
            return known;
        }
        if (_known.Count >= MaxKnown)
        {
            _known.Clear();
        }
        _ = _known.Add(chain);
        return chain;
    }

    /// <summary>Once when it begins to fail, and once when that is over.</summary>
    private void Complain(CallChain chain)
    {
        bool failed = chain.End == ChainEnd.Failed;
        if (failed && !_failing)
        {
            NotUnwound(logger, chain.Detail);
        }
        else if (!failed && _failing)
        {
            UnwoundAgain(logger);
        }
        _failing = failed;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "it is not known who makes thread-local calls: {Reason}")]
    private static partial void NotUnwound(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "it is known again who makes thread-local calls")]
    private static partial void UnwoundAgain(ILogger logger);

    [LoggerMessage(Level = LogLevel.Error, Message = "a stack could not be unwound")]
    private static partial void Failed(ILogger logger, Exception exception);

    private sealed record Request(Observation Call, StackCopy Stack, AddressSpace Space, string? Program);
}
