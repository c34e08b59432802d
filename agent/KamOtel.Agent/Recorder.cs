using System.Runtime.InteropServices;
using System.Threading.Channels;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>What <c>kamotel record</c> was told.</summary>
/// <param name="Path">The file.</param>
/// <param name="Force">Replace a file that is there.</param>
/// <param name="MaxBytes">The most that it may have.</param>
/// <param name="For">How long; null until a signal comes.</param>
internal sealed record RecordOptions(string Path, bool Force, long MaxBytes, TimeSpan? For);

/// <summary>
/// Takes what enters the fleet, without ever holding it up, and writes it into a file on a thread of the pool. Ends itself
/// when the file is full, the time is over or the disk refuses.
/// </summary>
internal sealed partial class Recorder : IFleetJournal, IDisposable
{
    /// <summary>Inputs, and inspections in them, that may wait for the disk: some tens of megabytes.</summary>
    private const long MaxWaiting = 100_000;

    private const int FlushMs = 1000;
    private const int LookMs = 100;

    private readonly Channel<FleetInput> _inputs = Channel.CreateUnbounded<FleetInput>(new UnboundedChannelOptions { SingleReader = true });
    private readonly CancellationTokenSource _stopping = new();
    private readonly RecordingWriter _writer;
    private readonly TimeSpan? _for;
    private readonly ulong _since = BootClock.NowNs;
    private long _waiting;
    private long _lost;
    private volatile bool _closed;
    private Task? _task;

    /// <param name="writer">It has its header already.</param>
    /// <param name="for">How long; null until it is stopped.</param>
    public Recorder(RecordingWriter writer, TimeSpan? @for)
    {
        _writer = writer;
        _for = @for;
    }

    /// <summary>Why it ended; null when it could not end as it should.</summary>
    public RecordingEnd? End { get; private set; }

    /// <summary>Why it could not be written; null when it could.</summary>
    public string? Failure { get; private set; }

    /// <summary>Inputs that came too fast to be written.</summary>
    public long Lost => Interlocked.Read(ref _lost);

    /// <summary>Inputs in the file.</summary>
    public long Inputs => _writer.Inputs;

    /// <summary>Bytes in the file.</summary>
    public long Bytes => _writer.Bytes;

    /// <summary>From its making to its end.</summary>
    public TimeSpan Duration { get; private set; }

    /// <summary>Makes the file, for its owner only, with a header for a fleet of these options.</summary>
    /// <exception cref="RecordingException">It is there already, or cannot be made.</exception>
    public static Recorder Create(RecordOptions options, FleetOptions fleet)
    {
        BootClock clock = BootClock.Sample();
        // So that what is exported meanwhile has the times that a replay has.
        WallClock.Fix(clock);
        FileStream file;
#pragma warning disable CA1416 // There is no KamOtel elsewhere.
        try
        {
            if (options.Force && new FileInfo(options.Path) is { Exists: true, LinkTarget: null } old && RegularFile.Open(options.Path).TryGet(out SafeFileHandle? opened))
            {
                opened.Dispose();
                old.Delete();
            }
            file = new FileStream(options.Path, new FileStreamOptions
            {
                Mode = FileMode.CreateNew,
                Access = FileAccess.Write,
                Share = FileShare.Read,
                BufferSize = 0,
                UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite,
            });
        }
#pragma warning restore CA1416
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            string why = File.Exists(options.Path) ? "the file exists; name another, or replace it with --force (a regular file only)" : e.Message;
            throw new RecordingException($"{options.Path} cannot be recorded to: {why}", ExitCode.CannotCreate);
        }
        try
        {
            return new Recorder(new RecordingWriter(file, HeaderOf(clock, fleet), options.MaxBytes), options.For);
        }
        catch (IOException e)
        {
            file.Dispose();
            throw new RecordingException($"{options.Path} cannot be recorded to: {e.Message}", ExitCode.OutputError);
        }
    }

    /// <summary>The header of a recording that begins now.</summary>
    public static RecordingHeader HeaderOf(BootClock clock, FleetOptions fleet) => new()
    {
        Format = RecordingHeader.FormatName,
        Version = RecordingHeader.CurrentVersion,
        Kamotel = $"{CommandLine.Build.Version}+{CommandLine.Build.Revision}",
        RecordedAt = clock.ToTime(BootClock.NowNs),
        BootToWallNs = clock.OffsetNs,
        Kernel = File.Exists("/proc/sys/kernel/osrelease") ? File.ReadAllText("/proc/sys/kernel/osrelease").Trim() : "",
        Architecture = RuntimeInformation.OSArchitecture switch { Architecture.X64 => "x86_64", Architecture.Arm64 => "aarch64", Architecture other => $"{other}" },
        Fleet = RecordedFleet.Of(fleet),
    };

    /// <inheritdoc/>
    public void Take(FleetInput input)
    {
        if (_closed)
        {
            return;
        }
        long weight = WeightOf(input);
        // From the first that does not fit on nothing is taken: with a hole in it the rest would tell another story.
        if (Interlocked.Read(ref _lost) > 0 || Interlocked.Add(ref _waiting, weight) > MaxWaiting)
        {
            _ = Interlocked.Increment(ref _lost);
            return;
        }
        _ = _inputs.Writer.TryWrite(input);
    }

    /// <summary>Begins to write.</summary>
    /// <param name="state">Where the agent publishes what it tells beside the fleet.</param>
    /// <param name="ended">Called when the recording ends by itself.</param>
    /// <param name="logger">Hears why it could not be written.</param>
    public void Begin(AgentState state, Action ended, ILogger logger) => _task = Task.Run(() => WriteAsync(state, ended, logger), CancellationToken.None);

    /// <summary>Writes what was taken and the end. After the fleet told the last.</summary>
    public async Task FinishAsync()
    {
        await _stopping.CancelAsync();
        if (_task is not null)
        {
            await _task;
        }
    }

    public void Dispose()
    {
        _writer.Dispose();
        _stopping.Dispose();
    }

    private static long WeightOf(FleetInput input) => input switch
    {
        InspectedInput inspected => 1 + inspected.Found.Sum(static f => 1L + f.MainThreadSlots.Length),
        AttributedInput attributed => 1 + attributed.Chain.Frames.Length,
        _ => 1,
    };

    private async Task WriteAsync(AgentState state, Action ended, ILogger logger)
    {
        try
        {
            End = await WriteAllAsync(state);
            _closed = true;
            _writer.End(End.Value, Lost, BootClock.NowNs);
        }
        catch (IOException e)
        {
            _closed = true;
            End = null;
            Failure = e.Message;
            NotWritten(logger, e.Message);
        }
        Duration = TimeSpan.FromTicks((long)((BootClock.NowNs - _since) / TimeSpan.NanosecondsPerTick));
        ended();
    }

    private async Task<RecordingEnd> WriteAllAsync(AgentState state)
    {
        long flushed = Environment.TickCount64;
        AgentSnapshot? told = null;
        while (true)
        {
            // Looked at before the channel is emptied: what came until then is written.
            bool stopping = _stopping.IsCancellationRequested;
            bool lost = Lost > 0;
            while (_inputs.Reader.TryRead(out FleetInput? input))
            {
                _ = Interlocked.Add(ref _waiting, -WeightOf(input));
                if (!_writer.TryWrite(InputLine.Of(input)))
                {
                    return RecordingEnd.Size;
                }
            }
            RecordingEnd? end =
                lost ? RecordingEnd.Overflow
                : stopping ? RecordingEnd.Stopped
                : BootClock.NowNs - _since >= _for?.TotalNanoseconds ? RecordingEnd.Duration
                : null;
            if (end is not null || Environment.TickCount64 - flushed >= FlushMs)
            {
                flushed = Environment.TickCount64;
                // Only with something else, or nothing happening would fill the disk.
                if ((_writer.IsDirty || end is not null) && state.Current is var now && !ReferenceEquals(now, told) && !ReferenceEquals(now, AgentSnapshot.Empty))
                {
                    told = now;
                    if (!_writer.TryWrite(AgentLine.Of(now)))
                    {
                        return RecordingEnd.Size;
                    }
                }
                _writer.Flush();
            }
            if (end is { } why)
            {
                return why;
            }
            await Task.Delay(LookMs, _stopping.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "the recording ends here, as it cannot be written: {Reason}; what was written before replays")]
    private static partial void NotWritten(ILogger logger, string reason);
}

/// <summary>Begins the recording before the watch loop, and ends it after.</summary>
internal sealed class RecorderService(Recorder recorder, AgentState state, IHostApplicationLifetime lifetime, ILogger<Recorder> logger) : IHostedService
{
    public Task StartAsync(CancellationToken cancellationToken)
    {
        recorder.Begin(state, lifetime.StopApplication, logger);
        return Task.CompletedTask;
    }

    public Task StopAsync(CancellationToken cancellationToken) => recorder.FinishAsync();
}
