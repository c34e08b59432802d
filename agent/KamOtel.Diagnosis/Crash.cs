namespace KamOtel.Diagnosis;

/// <summary>The thread-local call that a process made last before something happened to it.</summary>
/// <param name="Call">Which function.</param>
/// <param name="Key">Its key; null where the call has none, or it could not be read.</param>
/// <param name="Slot">What OpenSSL keeps there, such as <c>err_state</c>; null when no stack showed it.</param>
/// <param name="BeforeNs">How long before, in nanoseconds.</param>
public sealed record LastCall(ObservationKind Call, uint? Key, string? Slot, ulong BeforeNs);

/// <summary>A process of a server ended by a signal that tells of a fault in what it did.</summary>
/// <param name="Process">The process.</param>
/// <param name="Role">What it was to its instance.</param>
/// <param name="Signal">The signal that ended it.</param>
/// <param name="TimeNs">When the signal came, in nanoseconds of boot time; when it ended, where the kernel did not tell of the signal.</param>
/// <param name="EndNs">When it ended: writing a core file comes between.</param>
/// <param name="Chain">The call chain of the thread that crashed; one without a frame says why it is not known.</param>
public sealed record Crash(ProcessId Process, ProcessRole Role, int Signal, ulong TimeNs, ulong EndNs, CallChain Chain)
{
    private const int SigIll = 4;
    private const int SigTrap = 5;
    private const int SigAbrt = 6;
    private const int SigBus = 7;
    private const int SigFpe = 8;
    private const int SigSegv = 11;

    /// <summary>The thread that crashed; null where the kernel did not tell of the signal.</summary>
    public int? Tid { get; init; }

    /// <summary>The thread-local call that the process made last; null when none was seen.</summary>
    public LastCall? LastCall { get; init; }

    /// <summary>
    /// Slots of its Thread#1 that still held the pointer that the parent had at the fork: a worker that never set its own has
    /// no last call, and that is the hazard.
    /// </summary>
    public int InheritedSlots { get; init; }

    /// <summary>The innermost of the server's modules on the stack, or <see cref="CallChain.Core"/>; null when it is not known.</summary>
    public string? Module => Chain.Author;

    /// <summary>
    /// The end is a crash: by a signal of a fault, or of a program that gave up on itself. SIGTRAP is one, for a jump astray
    /// lands in padding, and on aarch64 a compiler's trap is one; SIGSYS is none, but the answer of a sandbox, nor is SIGKILL.
    /// </summary>
    /// <param name="status">The wait status.</param>
    public static bool IsBy(int status) => (status & 0x7f) is SigIll or SigTrap or SigAbrt or SigBus or SigFpe or SigSegv;
}
