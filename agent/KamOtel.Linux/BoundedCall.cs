using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace KamOtel.Linux;

/// <summary>
/// Reads of other processes' memory and files. Whoever backs them can make the reader wait for ever: a file server in user space,
/// userfaultfd, or just a network file system that is gone; and no signal ends such a wait, but the end of the process. So they are
/// made by a thread of their own, which is left behind when it takes too long, and comes back when the wait ends. Handing over
/// costs more than a read does: so one thread takes many processes, one after the other, and is watched at each.
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

    /// <summary>What this thread is at, when it is one that may be left behind.</summary>
    [ThreadStatic]
    private static Work? _here;

    private static readonly ConcurrentDictionary<int, byte> Stuck = new();

    /// <summary>Calls that have not come back.</summary>
    public static int StuckCount => Stuck.Count;

    /// <summary>This thread may wait: somebody else watches it.</summary>
    public static bool IsHere => _here is not null;

    /// <summary>Before each read of a work that has many: the time that one may take begins now.</summary>
    public static void Progress() => _here?.Progress();

    /// <summary>Makes a call that reads a process's memory. What it writes to must be its own: it may go on afterwards.</summary>
    /// <param name="pid">The process. While a call is stuck in it, it is not read.</param>
    /// <param name="call">The call.</param>
    /// <param name="result">What it returned.</param>
    /// <param name="failure">Why there is no result.</param>
    public static bool TryRun<T>(int pid, Func<T> call, out T result, out ProcFailure failure)
    {
        ProcFailure why = default;
        result = ForEach([pid], () => _ => call(), Unread, static () => { })[0];
        failure = why;
        return why.Status == ProcStatus.Ok;

        T Unread(int index, ProcFailure unread)
        {
            why = unread;
            return default!;
        }
    }

    /// <summary>Does a step for each process, in their order, by one thread as long as none makes it wait.</summary>
    /// <param name="pids">The processes. One that a call is stuck in is passed over.</param>
    /// <param name="begin">Gives the step, which takes an index. Asked for another one after <paramref name="left"/>.</param>
    /// <param name="unread">What stands for a process that is not read, and why it is not. Any thread.</param>
    /// <param name="left">A thread was left behind: it goes on with the step that it has, and with whatever that uses.</param>
    /// <returns>What the steps returned, by index.</returns>
    public static T[] ForEach<T>(IReadOnlyList<int> pids, Func<Func<int, T>> begin, Func<int, ProcFailure, T> unread, Action left)
    {
        var results = new T[pids.Count];
        for (int at = 0; at < pids.Count; at++)
        {
            var work = new Work<T>(pids, at, results, begin(), unread);
            _own ??= new Worker();
            while (!_own.TryGive(work))
            {
                _own = new Worker();
            }

            at = work.Await(out int limit);
            if (at < pids.Count)
            {
                _own = null;
                left();
                results[at] = unread(at, new(ProcStatus.Unavailable, $"process {pids[at]} does not let itself be read: a read did not come back within {limit} ms"));
            }
        }

        return results;
    }

    private static ProcFailure? WhyNot(int pid) =>
        Stuck.IsEmpty ? null
        : Stuck.ContainsKey(pid) ? new(ProcStatus.Unavailable, $"process {pid} is not read: an earlier read of it has not come back")
        : Stuck.Count >= MaxStuck ? new(ProcStatus.Unavailable, $"process {pid} is not read: {MaxStuck} reads of other processes have not come back")
        : null;

    /// <summary>What a thread was given to do, as far as both sides know of it.</summary>
    private abstract class Work
    {
        private long _sinceMs = Environment.TickCount64;

        /// <summary>When what it is at began, by <see cref="Environment.TickCount64"/>.</summary>
        protected long SinceMs => Volatile.Read(ref _sinceMs);

        public void Progress() => Volatile.Write(ref _sinceMs, Environment.TickCount64);

        /// <summary>By the thread. False when it was left behind: then it ends.</summary>
        public abstract bool Run();
    }

    private sealed class Work<T>(IReadOnlyList<int> pids, int at, T[] results, Func<int, T> step, Func<int, ProcFailure, T> unread) : Work
    {
        private readonly object _state = new();
        private int _at = at;
        private bool _left;
        private ExceptionDispatchInfo? _error;

        public override bool Run()
        {
            for (int i = _at; i < pids.Count; i++)
            {
                T result = default!;
                ExceptionDispatchInfo? error = null;
                try
                {
                    Progress();
                    result = WhyNot(pids[i]) is { } refused ? unread(i, refused) : step(i);
                }
#pragma warning disable CA1031 // Whatever it is, it is the caller's.
                catch (Exception e)
#pragma warning restore CA1031
                {
                    error = ExceptionDispatchInfo.Capture(e);
                }

                lock (_state)
                {
                    if (_left)
                    {
                        _ = Stuck.TryRemove(pids[i], out _);
                        return false;
                    }

                    results[i] = result;
                    _at = i + 1;
                    Progress();
                    _error = error;
                    if (error is not null || _at == pids.Count)
                    {
                        Monitor.Pulse(_state);
                        return true;
                    }
                }
            }

            return true;
        }

        /// <summary>By the caller: the index of the process that the thread was left behind in, or the number of processes.</summary>
        public int Await(out int limitMs)
        {
            lock (_state)
            {
                while (true)
                {
                    _error?.Throw();
                    limitMs = Stuck.IsEmpty ? LimitMs : ShortLimitMs;
                    if (_at == pids.Count)
                    {
                        return _at;
                    }

                    long rest = SinceMs + limitMs - Environment.TickCount64;
                    if (rest <= 0)
                    {
                        _left = true;
                        Stuck[pids[_at]] = 0;
                        return _at;
                    }

                    _ = Monitor.Wait(_state, (int)rest);
                }
            }
        }
    }

    /// <summary>A thread that waits for work, and ends when none comes.</summary>
    private sealed class Worker
    {
        private const int IdleMs = 10_000;

        private readonly object _state = new();
        private Work? _work;
        private bool _ended;

        public Worker() => new Thread(Run, maxStackSize: 512 * 1024) { IsBackground = true, Name = "bounded call" }.Start();

        /// <summary>False when the thread has ended.</summary>
        public bool TryGive(Work work)
        {
            lock (_state)
            {
                _work = work;
                Monitor.Pulse(_state);
                return !_ended;
            }
        }

        private void Run()
        {
            while (Next() is { } work)
            {
                _here = work;
                if (!work.Run())
                {
                    return;
                }

                _here = null;
            }
        }

        private Work? Next()
        {
            lock (_state)
            {
                while (_work is null)
                {
                    if (!Monitor.Wait(_state, IdleMs) && _work is null)
                    {
                        _ended = true;
                        return null;
                    }
                }

                Work work = _work;
                _work = null;
                return work;
            }
        }
    }
}
