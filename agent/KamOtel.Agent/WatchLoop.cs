using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Runs the <see cref="Watcher"/> on a thread of its own for as long as the host lives.</summary>
internal sealed partial class WatchLoop(
    RunOptions options,
    AgentState state,
    IFleetSink sink,
    Instruments instruments,
    IHostApplicationLifetime lifetime,
    ServiceManager manager,
    ILogger<WatchLoop> logger,
    IFleetJournal? journal = null) : IHostedService, IDisposable
{
    private readonly CancellationTokenSource _stopping = new();
    private Watcher? _watcher;
    private Thread? _thread;

    /// <summary>Loads and attaches. What the machine cannot do ends the start with an exception.</summary>
    /// <exception cref="KamOtel.Bpf.BpfException">The message says why and what helps.</exception>
    public Task StartAsync(CancellationToken cancellationToken)
    {
        _watcher = new Watcher(options, state, sink, instruments.AttachDelay.Record, instruments.InspectionDuration.Record, instruments.UnwindDuration.Record, logger, journal);
        _watcher.Start();
        _thread = new Thread(Run) { Name = "watch loop", IsBackground = true };
        _thread.Start();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken)
    {
        End();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // Where another service fails the start, nobody calls StopAsync.
        End();
        _watcher?.Dispose();
        _watcher = null;
        _stopping.Dispose();
    }

    private void End()
    {
        if (_thread is null)
        {
            return;
        }
        _stopping.Cancel();
        _watcher!.Wake();
        _thread.Join();
        _thread = null;
        state.SetNotReady("the agent is stopping");
    }

    private void Run()
    {
        try
        {
            while (!_stopping.IsCancellationRequested)
            {
                _watcher!.Turn();
                manager.Turned(Environment.TickCount64);
            }
            _watcher!.Finish();
        }
#pragma warning disable CA1031 // Whatever it is: an agent that does not watch must end, loudly.
        catch (Exception e)
#pragma warning restore CA1031
        {
            state.SetNotReady($"the watch loop failed: {e.Message}");
            Failed(logger, e);
            Environment.ExitCode = ExitCode.Software;
            lifetime.StopApplication();
        }
    }

    [LoggerMessage(Level = LogLevel.Critical, Message = "the watch loop failed")]
    private static partial void Failed(ILogger logger, Exception exception);
}
