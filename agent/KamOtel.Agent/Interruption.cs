using System.Runtime.InteropServices;

namespace KamOtel.Agent;

/// <summary>Counts the signals that ask <c>kamotel</c> to end, in place of ending.</summary>
internal sealed class Interruption : IDisposable
{
    private readonly PosixSignalRegistration[] _registrations;
    private int _count;
    private string? _signal;

    public Interruption() => _registrations =
        [.. new[] { PosixSignal.SIGINT, PosixSignal.SIGTERM, PosixSignal.SIGHUP, PosixSignal.SIGQUIT }.Select(s => PosixSignalRegistration.Create(s, Came))];

    /// <summary>Is told of each signal, on a thread of the pool.</summary>
    public Action? Told { get; set; }

    /// <summary>How many came.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>The first that came, such as <c>SIGINT</c>; null when none did.</summary>
    public string? Signal => Volatile.Read(ref _signal);

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (PosixSignalRegistration registration in _registrations)
        {
            registration.Dispose();
        }
    }

    private void Came(PosixSignalContext context)
    {
        context.Cancel = true;
        _ = Interlocked.CompareExchange(ref _signal, context.Signal.ToString(), null);
        _ = Interlocked.Increment(ref _count);
        Told?.Invoke();
    }
}
