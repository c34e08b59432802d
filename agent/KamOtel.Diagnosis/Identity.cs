namespace KamOtel.Diagnosis;

/// <summary>
/// A process, for good: a process identifier alone is reused.
/// </summary>
/// <param name="Tgid">The thread group identifier: what <c>/proc</c> calls the PID.</param>
/// <param name="StartTicks">
/// Start time of the thread group's leader since boot, in clock ticks of 1/100 s, as field 22 of
/// <c>/proc/PID/stat</c> prints it. The kernel's nanoseconds divided by <see cref="NanosecondsPerTick"/>.
/// </param>
public readonly record struct ProcessId(int Tgid, ulong StartTicks)
{
    /// <summary>Nanoseconds in one clock tick (USER_HZ is 100 on every architecture that we support).</summary>
    public const ulong NanosecondsPerTick = 10_000_000;

    /// <summary>The identity from the kernel's own start time, in nanoseconds since boot.</summary>
    public static ProcessId FromNanoseconds(int tgid, ulong startNs) => new(tgid, startNs / NanosecondsPerTick);

    /// <inheritdoc/>
    public override string ToString() => $"{Tgid}";
}

/// <summary>
/// An instance: one running server, all the processes connected by fork back to one exec.
/// </summary>
/// <param name="Tgid">The process that called exec (or, for a server found running, its oldest process).</param>
/// <param name="SinceNs">
/// Boot time of that exec in nanoseconds (for a server found running, the start time of that process,
/// rounded down to a clock tick).
/// </param>
public readonly record struct InstanceId(int Tgid, ulong SinceNs)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Tgid}@{SinceNs}";
}
