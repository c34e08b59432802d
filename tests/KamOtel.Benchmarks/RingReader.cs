using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;

namespace KamOtel.Benchmarks;

/// <summary>Reads the ring into a fleet on a thread of its own, as the agent does, until it is disposed of.</summary>
internal sealed class RingReader : IDisposable
{
    private readonly KernelSide _kernel;
    private readonly Thread _thread;
    private volatile bool _end;

    public RingReader(KernelSide kernel)
    {
        _kernel = kernel;
        _thread = new Thread(Read) { IsBackground = true };
        _thread.Start();
    }

    /// <summary>Takes what is still there, and ends.</summary>
    public void Dispose()
    {
        _end = true;
        _kernel.Wake();
        _thread.Join();
    }

    private void Read()
    {
        var observed = new ObservedEvents(new Fleet(new FleetOptions(), SilentSink.Instance));
        while (!_end)
        {
            _kernel.Poll(timeoutMs: -1, observed);
        }
        _kernel.Consume(observed);
    }
}
