using System.Runtime.CompilerServices;
using System.Text;

namespace KamOtel.Diagnosis;

/// <summary>What was observed. The numbers below 32 are those of <c>bpf/events.h</c>.</summary>
public enum ObservationKind : ushort
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>A process executed a program: a watched name, or a watched process left for another program.</summary>
    Exec = 1,

    /// <summary>A watched process forked another process (threads are not reported).</summary>
    Fork = 2,

    /// <summary>A thread of a watched process ended; <see cref="Observation.LastThread"/> tells whether the process did.</summary>
    Exit = 3,

    /// <summary><c>CRYPTO_THREAD_init_local(key*, cleanup)</c>.</summary>
    InitLocal = 4,

    /// <summary><c>CRYPTO_THREAD_set_local(key*, value)</c>.</summary>
    SetLocal = 5,

    /// <summary><c>CRYPTO_THREAD_cleanup_local(key*)</c>: the key ends, in every thread of the process.</summary>
    CleanupLocal = 6,

    /// <summary><c>CRYPTO_THREAD_set_local_ex(id, ctx, value)</c> of OpenSSL 3.6 and later.</summary>
    SetLocalEx = 7,

    /// <summary><c>CRYPTO_THREAD_clean_local()</c> of OpenSSL 3.6 and later: this thread's <c>_ex</c> slots end.</summary>
    CleanLocal = 8,

    /// <summary>A watched process is about to die of a signal that memory corruption ends in: SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE.</summary>
    FatalSignal = 10,

    /// <summary>A function of the server itself was entered: a step of its start.</summary>
    Entered = 12,

    /// <summary>The server's memory manager is about to log a complaint.</summary>
    Complained = 13,

    /// <summary>A process found in <c>/proc</c> that runs already: not an event, and nothing is known of its past.</summary>
    Seeded = 32,
}

/// <summary>
/// One observation, as the kernel side or <c>/proc</c> told it. A value type without references: the watch
/// loop makes one an event, on the stack.
/// </summary>
public readonly record struct Observation
{
    /// <summary>What happened.</summary>
    public ObservationKind Kind { get; init; }

    /// <summary>Boot time (CLOCK_BOOTTIME) in nanoseconds.</summary>
    public ulong TimeNs { get; init; }

    /// <summary>The process it happened in (for <see cref="ObservationKind.Fork"/>: the parent).</summary>
    public ProcessId Process { get; init; }

    /// <summary>The thread it happened in.</summary>
    public int Tid { get; init; }

    /// <summary>The instance that the kernel side counts the process to, after the event.</summary>
    public InstanceId Instance { get; init; }

    /// <summary>Exec and Seeded: the task's name, at most 15 bytes.</summary>
    public TaskName Name { get; init; }

    /// <summary>Exec: the process is watched under its new name (false: it left its instance).</summary>
    public bool Watched { get; init; }

    /// <summary>Fork: the child. Seeded: the parent (default when the parent is no watched process).</summary>
    public ProcessId Other { get; init; }

    /// <summary>
    /// Exit: the wait status, as <c>wait(2)</c> encodes it (signal in the low 7 bits, code in bits 8–15). FatalSignal:
    /// the signal.
    /// </summary>
    public int Status { get; init; }

    /// <summary>Exit: this was the process's last thread.</summary>
    public bool LastThread { get; init; }

    /// <summary>
    /// Thread-local calls: the pthread key (SetLocal, CleanupLocal) or the key's id (SetLocalEx). Null when it
    /// could not be read, and for InitLocal, whose key does not exist yet.
    /// </summary>
    public uint? Key { get; init; }

    /// <summary>
    /// Thread-local calls: the address of the key variable; 0 where the probe stands behind the instruction that loads the
    /// key. SetLocalEx: the library context.
    /// </summary>
    public ulong KeyAddress { get; init; }

    /// <summary>SetLocal, SetLocalEx: the value set. InitLocal: the cleanup function.</summary>
    public ulong Value { get; init; }

    /// <summary>Entered, Complained: the address of the code in the process.</summary>
    public ulong Address { get; init; }

    /// <summary>Thread-local calls and FatalSignal: the stack was copied, and <see cref="Fleet.Attributed"/> will tell who called.</summary>
    public bool HasStack { get; init; }

    /// <summary>The thread is the process's main thread, Thread#1 (its tid equals its tgid).</summary>
    public bool MainThread => Tid == Process.Tgid;

    /// <summary>One of libcrypto's thread-local calls.</summary>
    public bool IsCall => Kind is >= ObservationKind.InitLocal and <= ObservationKind.CleanLocal;
}

/// <summary>A task's name as the kernel keeps it: at most 15 bytes, padded with NUL.</summary>
[InlineArray(Length)]
public struct TaskName : IEquatable<TaskName>
{
    /// <summary>Bytes, the terminating NUL among them (TASK_COMM_LEN).</summary>
    public const int Length = 16;

    private byte _first;

    /// <summary>The first 15 bytes of <paramref name="name"/> in UTF-8, as the kernel cuts a name.</summary>
    public static TaskName From(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return From(Encoding.UTF8.GetBytes(name));
    }

    /// <summary>The first 15 of these bytes, up to a NUL.</summary>
    public static TaskName From(ReadOnlySpan<byte> bytes)
    {
        var result = default(TaskName);
        int end = bytes.IndexOf((byte)0);
        bytes = end < 0 ? bytes : bytes[..end];
        bytes[..Math.Min(bytes.Length, Length - 1)].CopyTo(result);
        return result;
    }

    /// <summary>The name without its padding.</summary>
    public readonly bool Equals(TaskName other) => ((ReadOnlySpan<byte>)this).SequenceEqual(other);

    /// <inheritdoc/>
    public override readonly bool Equals(object? obj) => obj is TaskName other && Equals(other);

    /// <inheritdoc/>
    public override readonly int GetHashCode()
    {
        HashCode hash = default;
        hash.AddBytes(this);
        return hash.ToHashCode();
    }

    /// <summary>The name as <see cref="PlainText"/>; bytes that are no UTF-8 become U+FFFD.</summary>
    public override readonly string ToString()
    {
        ReadOnlySpan<byte> bytes = this;
        int end = bytes.IndexOf((byte)0);
        return PlainText.Of(Encoding.UTF8.GetString(end < 0 ? bytes : bytes[..end]));
    }

    /// <summary>Equal bytes.</summary>
    public static bool operator ==(TaskName left, TaskName right) => left.Equals(right);

    /// <summary>Different bytes.</summary>
    public static bool operator !=(TaskName left, TaskName right) => !left.Equals(right);
}
