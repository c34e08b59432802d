using System.Runtime.InteropServices;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>Counts the signals that ask <c>kamotel</c> to end, in place of ending.</summary>
internal sealed class Interruption : IDisposable
{
    private static readonly (PosixSignal Signal, int Number)[] Heard =
        [(PosixSignal.SIGHUP, 1), (PosixSignal.SIGINT, 2), (PosixSignal.SIGQUIT, 3), (PosixSignal.SIGTERM, 15)];

    private readonly PosixSignalRegistration[] _registrations;
    private int _count;
    private string? _signal;

    /// <param name="signals">What was ignored at the start stays so: nohup(1) means it.</param>
    public Interruption(SignalState signals) => _registrations =
        [.. Heard.Where(s => (signals.Ignored >> (s.Number - 1) & 1) == 0).Select(s => PosixSignalRegistration.Create(s.Signal, Came))];

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
