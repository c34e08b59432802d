using System.Collections.Concurrent;

namespace KamOtel.Linux;

/// <summary>
/// System calls that read another process's memory. Whoever backs that memory can make them wait for ever: a file server in user
/// space, userfaultfd, or just a network file system that is gone; and no signal ends such a wait, but the end of the process.
/// So they are made by a thread of their own, which is left behind when it takes too long, and comes back when the wait ends.
/// </summary>
internal static class BoundedCall
{
    /// <summary>Threads that may be left behind at the same time.</summary>
    public const int MaxStuck = 64;

    /// <summary>Memory that must come from a busy disk takes some tens of milliseconds.</summary>
    private const int LimitMs = 1000;

    /// <summary>While some other call is stuck, somebody may be at it on purpose: all of them together must not stop the agent for long.</summary>
    private const int ShortLimitMs = 200;

    /// <summary>A caller's own: it has its caller's rights, not another's.</summary>
    [ThreadStatic]
    private static Worker? _own;

    private static readonly ConcurrentDictionary<int, byte> Stuck = new();

    /// <summary>Calls that have not come back.</summary>
    public static int StuckCount => Stuck.Count;

    /// <summary>Makes a call that reads a process's memory. What it writes to must be its own: it may go on afterwards.</summary>
    /// <param name="pid">The process. While a call is stuck in it, it is not read.</param>
    /// <param name="call">The call; does not throw.</param>
    /// <param name="result">What it returned.</param>
    /// <param name="failure">Why there is no result.</param>
    public static bool TryRun(int pid, Func<nint> call, out nint result, out ProcFailure failure)
    {
        result = 0;
        failure = default;
        if (Stuck.ContainsKey(pid))
        {
            failure = new(ProcStatus.Unavailable, $"process {pid} is not read: an earlier read of its memory has not come back");
            return false;
        }

        if (Stuck.Count >= MaxStuck)
        {
            failure = new(ProcStatus.Unavailable, $"process {pid} is not read: {MaxStuck} reads of other processes have not come back");
            return false;
        }

        _own ??= new Worker();
        while (!_own.TryGive(call))
        {
            _own = new Worker();
        }

        int limit = Stuck.IsEmpty ? LimitMs : ShortLimitMs;
        if (_own.TryTake(limit, left: () => Stuck[pid] = 0, back: () => Stuck.TryRemove(pid, out _), out result))
        {
            return true;
        }

        _own = null;
        failure = new(ProcStatus.Unavailable, $"process {pid} does not let its memory be read: a read did not come back within {limit} ms");
        return false;
    }

    /// <summary>A thread that waits for calls, and ends when none comes.</summary>
    private sealed class Worker
    {
        private const int IdleMs = 10_000;

        private readonly object _state = new();
        private Func<nint>? _call;
        private Action? _back;
        private bool _done;
        private bool _ended;
        private nint _result;

        public Worker() => new Thread(Work, maxStackSize: 256 * 1024) { IsBackground = true, Name = "bounded call" }.Start();

        /// <summary>False when the thread has ended.</summary>
        public bool TryGive(Func<nint> call)
        {
            lock (_state)
            {
                _done = false;
                _call = call;
                Monitor.Pulse(_state);
                return !_ended;
            }
        }

        /// <summary>False when it takes too long: then the thread ends with the call.</summary>
        public bool TryTake(int limitMs, Action left, Action back, out nint result)
        {
            lock (_state)
            {
                long end = Environment.TickCount64 + limitMs;
                while (!_done && end - Environment.TickCount64 is > 0 and var rest)
                {
                    _ = Monitor.Wait(_state, (int)rest);
                }

                if (!_done)
                {
                    left();
                    _back = back;
                }

                result = _result;
                return _done;
            }
        }

        private void Work()
        {
            while (Next() is { } call)
            {
                nint result = call();
                lock (_state)
                {
                    if (_back is not null)
                    {
                        _back();
                        return;
                    }

                    _result = result;
                    _done = true;
                    Monitor.Pulse(_state);
                }
            }
        }

        private Func<nint>? Next()
        {
            lock (_state)
            {
                while (_call is null)
                {
                    if (!Monitor.Wait(_state, IdleMs) && _call is null)
                    {
                        _ended = true;
                        return null;
                    }
                }

                Func<nint> call = _call;
                _call = null;
                return call;
            }
        }
    }
}
