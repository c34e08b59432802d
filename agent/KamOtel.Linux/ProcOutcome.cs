using System.Diagnostics.CodeAnalysis;
using System.Runtime.InteropServices;

namespace KamOtel.Linux;

/// <summary>How a question to a live process ended.</summary>
public enum ProcStatus
{
    /// <summary>There is an answer.</summary>
    Ok,

    /// <summary>The process, or what was asked for in it, is no longer there: nothing to worry about.</summary>
    Gone,

    /// <summary>The kernel does not let us: the detail says what would help.</summary>
    Denied,

    /// <summary>The answer makes no sense.</summary>
    Malformed,

    /// <summary>It is there, but cannot be used: the detail says why.</summary>
    Unavailable,
}

/// <summary>An answer about a live process, or why there is none.</summary>
/// <typeparam name="T">The answer.</typeparam>
public readonly struct ProcOutcome<T>
    where T : notnull
{
    private readonly T? _value;
    private readonly ProcFailure _failure;

    private ProcOutcome(T? value, ProcFailure failure) => (_value, _failure) = (value, failure);

    /// <summary>How it ended.</summary>
    public ProcStatus Status => _failure.Status;

    /// <summary>A sentence for people, without a full stop; empty when there is an answer.</summary>
    public string Detail => _failure.Detail ?? string.Empty;

    /// <summary>The answer.</summary>
    /// <exception cref="InvalidOperationException">There is none.</exception>
    public T Value => TryGet(out T? value) ? value : throw new InvalidOperationException($"{Status}: {Detail}");

    /// <summary>The answer, when there is one.</summary>
    public bool TryGet([NotNullWhen(true)] out T? value) => TryGet(out value, out _);

    /// <summary>Either the answer or the reason why there is none.</summary>
    public bool TryGet([NotNullWhen(true)] out T? value, out ProcFailure failure)
    {
        value = _value;
        failure = _failure;
        return Status == ProcStatus.Ok;
    }

    /// <summary>An answer.</summary>
    public static implicit operator ProcOutcome<T>(T value) => new(value, default);

    /// <summary>No answer.</summary>
    public static implicit operator ProcOutcome<T>(ProcFailure failure) => new(default, failure);
}

/// <summary>Why there is no answer, whatever the question was.</summary>
/// <param name="Status">Anything but <see cref="ProcStatus.Ok"/>.</param>
/// <param name="Detail">A sentence for people.</param>
public readonly record struct ProcFailure(ProcStatus Status, string Detail)
{
    /// <summary>What the kernel's error means for <paramref name="what"/>.</summary>
    internal static ProcFailure FromErrno(int errno, string what, string remedy) => errno switch
    {
        Native.NoSuchFile or Native.NoSuchProcess or Native.NotDirectory => new(ProcStatus.Gone, $"{what} is gone"),
        Native.AccessDenied or Native.NotPermitted =>
            new(ProcStatus.Denied, $"{what} cannot be read: {Marshal.GetPInvokeErrorMessage(errno)}; {remedy}"),
        _ => new(ProcStatus.Unavailable, $"{what} cannot be read: {Marshal.GetPInvokeErrorMessage(errno)}"),
    };
}
