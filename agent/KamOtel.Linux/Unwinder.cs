using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>How patient an <see cref="Unwinder"/> is.</summary>
public sealed record UnwinderOptions
{
    /// <summary>How long an unwind may take before its process is ended.</summary>
    public TimeSpan Deadline { get; init; } = TimeSpan.FromSeconds(1);

    /// <summary>How many processes may be started in a row.</summary>
    public int StartsAtOnce { get; init; } = 8;

    /// <summary>After how long one more may be started.</summary>
    public TimeSpan StartEvery { get; init; } = TimeSpan.FromSeconds(2);
}

/// <summary>
/// Unwinds copied stacks by the unwind information of the files that the process mapped. The files are whatever a server, or
/// whoever took it over, says they are; so they are parsed by a child process without any right, which may die of them: the
/// stack is then answered as failed, and the next one has a new child. Nothing here throws for what a file, a stack or the
/// child did. Any thread may call; one unwind at a time.
/// </summary>
public sealed class Unwinder : IDisposable
{
    private const int StrikesToQuarantine = 2;
    private const int MaxStrikes = 256;
    private const int MaxQuestions = 2 * UnwinderProtocol.MaxFrames;
    private const string Resource = "kamotel-unwind";

    private readonly Lock _gate = new();
    private readonly UnwinderOptions _options;
    private readonly ReadOnlyMemory<byte> _image;
    private readonly byte[] _buffer = new byte[UnwinderProtocol.MaxMessage];
    private readonly Dictionary<FileKey, int> _strikes = [];
    private readonly long[] _ends = new long[Enum.GetValues<UnwindEnd>().Length];
    private BlockingCollection<Action>? _starter;
    private SafeFileHandle? _program;
    private UnwinderProcess? _process;
    private double _starts;
    private long _startsCounted;
    private long _started;
    private ulong _lastRequest;
    private int _quarantined;
    private bool _disposed;

    /// <summary>An unwinder; its process is started when it is first needed.</summary>
    public Unwinder(UnwinderOptions? options = null)
        : this(options ?? new(), default)
    {
    }

    /// <summary>An unwinder that runs another program.</summary>
    internal Unwinder(UnwinderOptions options, ReadOnlyMemory<byte> image)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        _image = image;
        _starts = options.StartsAtOnce;
        _startsCounted = Stopwatch.GetTimestamp();
    }

    /// <summary>Processes that were started after another one had died.</summary>
    public long Restarts => Math.Max(0, Interlocked.Read(ref _started) - 1);

    /// <summary>Files that are not given to the unwinder any more.</summary>
    public int Quarantined => Volatile.Read(ref _quarantined);

    /// <summary>Whether the process can be ended when it hangs; tried when it was last ended.</summary>
    public bool MayEndProcess { get; private set; } = true;

    /// <summary>The process's number while there is one.</summary>
    internal int? ProcessNumber
    {
        get
        {
            lock (_gate)
            {
                return _process?.Pid;
            }
        }
    }

    /// <summary>How many unwinds ended so.</summary>
    public long Count(UnwindEnd end) => Interlocked.Read(ref _ends[(int)end]);

    /// <summary>Unwinds a stack. Takes no longer than the deadline and the start of a process.</summary>
    /// <param name="space">The code that the process had mapped when its stack was copied.</param>
    /// <param name="stack">The copy.</param>
    /// <exception cref="ObjectDisposedException">The unwinder was disposed of.</exception>
    public UnwoundStack Unwind(AddressSpace space, StackCopy stack)
    {
        ArgumentNullException.ThrowIfNull(space);
        ArgumentNullException.ThrowIfNull(stack);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_disposed, this);
            UnwoundStack result = TryStart(out string reason) ? Ask(space, stack) : Failed(reason);
            _ = Interlocked.Increment(ref _ends[(int)result.End]);
            return result;
        }
    }

    /// <summary>Makes the process close a file that nobody needs any more. The caller still disposes of it.</summary>
    public void Forget(CodeFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        Forget(UnwinderProtocol.ForgetFile, file.Id);
    }

    /// <summary>Makes the process drop an address space that nobody needs any more.</summary>
    public void Forget(AddressSpace space)
    {
        ArgumentNullException.ThrowIfNull(space);
        Forget(UnwinderProtocol.ForgetSpace, space.Id);
    }

    /// <summary>Ends the process.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            if (_disposed)
            {
                return;
            }

            _disposed = true;
            _ = EndProcess();
            _program?.Dispose();

            // Its thread ends, and disposes of it.
            _starter?.CompleteAdding();
        }
    }

    private static UnwoundStack Failed(string reason) => new([], UnwindEnd.Failed, reason);

    private void Forget(ushort kind, ulong id)
    {
        lock (_gate)
        {
            if (_process is { } process && !_disposed)
            {
                Span<byte> message = stackalloc byte[UnwinderProtocol.HeaderSize];
                UnwinderProtocol.WriteHeader(message, kind, message.Length, id);

                // One that does not listen is found out by the next unwind, and knows nothing then.
                _ = process.Send(message, [], null, Stopwatch.GetTimestamp());
            }
        }
    }

    private bool TryStart(out string reason)
    {
        reason = string.Empty;
        if (_process is not null && !_process.HasEnded())
        {
            return true;
        }

        EndProcess();
        if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            reason = "stacks are unwound on x86-64 only";
            return false;
        }

        long now = Stopwatch.GetTimestamp();
        _starts = Math.Min(_options.StartsAtOnce, _starts + (Stopwatch.GetElapsedTime(_startsCounted, now) / _options.StartEvery));
        _startsCounted = now;
        if (_starts < 1)
        {
            reason = $"the unwinder died too often; it starts again within {_options.StartEvery.TotalSeconds:0.#} s";
            return false;
        }

        _starts--;
        _process = StartOnItsThread(out reason);
        if (_process is null)
        {
            return false;
        }

        _ = Interlocked.Increment(ref _started);
        return true;
    }

    /// <summary>
    /// The child dies with the thread that started it (the kernel's PR_SET_PDEATHSIG), and a caller's thread may end long before
    /// the agent does.
    /// </summary>
    private UnwinderProcess? StartOnItsThread(out string reason)
    {
        try
        {
            _program ??= LoadProgram();
        }
        catch (IOException e)
        {
            reason = $"the unwinder's program cannot be written to memory: {e.Message}";
            return null;
        }

        if (_program.IsInvalid)
        {
            _program = null;
            reason = "the kernel gives no memory for the unwinder's program (memfd_create; see the sysctl vm.memfd_noexec)";
            return null;
        }

        if (_starter is null)
        {
            var starter = new BlockingCollection<Action>();
            _starter = starter;
            new Thread(() =>
            {
                using (starter)
                {
                    foreach (Action action in starter.GetConsumingEnumerable())
                    {
                        action();
                    }
                }
            })
            {
                IsBackground = true,
                Name = "unwinder",
            }.Start();
        }

        UnwinderProcess? process = null;
        string why = string.Empty;
        using var done = new ManualResetEventSlim();
        _starter.Add(() =>
        {
            try
            {
                process = UnwinderProcess.Start(_program, out why);
            }
            catch (Exception e) when (e is IOException or InvalidOperationException or OutOfMemoryException)
            {
                why = $"the unwinder cannot be started: {e.Message}";
            }
            finally
            {
                done.Set();
            }
        });
        done.Wait();
        reason = why;
        return process;
    }

    private SafeFileHandle LoadProgram()
    {
        if (!_image.IsEmpty)
        {
            return UnwinderNative.CreateProgram(Resource, _image.Span);
        }

        using Stream stream = typeof(Unwinder).Assembly.GetManifestResourceStream(Resource)
            ?? throw new InvalidOperationException($"this build lacks the resource {Resource}");
        byte[] image = new byte[stream.Length];
        stream.ReadExactly(image);
        return UnwinderNative.CreateProgram(Resource, image);
    }

    private UnwoundStack Ask(AddressSpace space, StackCopy stack)
    {
        UnwinderProcess process = _process!;
        long start = Stopwatch.GetTimestamp();
        long deadline = start + (long)(_options.Deadline.TotalSeconds * Stopwatch.Frequency);
        long processorTime = process.ProcessorTime;
        ulong request = ++_lastRequest;

        UnwinderProtocol.WriteUnwind(_buffer, request, space, stack);
        TalkOutcome outcome = process.Send(_buffer.AsSpan(0, UnwinderProtocol.UnwindSize), stack.Windows, null, deadline);
        for (int questions = 0; outcome == TalkOutcome.Done && questions < MaxQuestions; questions++)
        {
            outcome = process.Receive(_buffer, deadline, out int length);
            if (outcome != TalkOutcome.Done)
            {
                break;
            }

            ReadOnlySpan<byte> message = _buffer.AsSpan(0, length);
            if (!UnwinderProtocol.TryReadHeader(message, out ushort kind, out ulong id))
            {
                break;
            }

            if (kind == UnwinderProtocol.Frames)
            {
                if (id == request && UnwinderProtocol.ReadFrames(message, space, stack) is { } answer)
                {
                    return Explain(answer);
                }

                break;
            }

            if (length != UnwinderProtocol.HeaderSize || !TryAnswer(process, kind, id, space, deadline, out outcome))
            {
                break;
            }
        }

        return outcome switch
        {
            TalkOutcome.Gone => Died(space, process),
            TalkOutcome.Late => Hung(space, process, process.ProcessorTime - processorTime),
            TalkOutcome.TooLong => Failed("the kernel takes no message of this length (see the sysctl net.core.wmem_max)"),
            _ => Lied(space, process),
        };
    }

    /// <summary>Gives the process what it asks for. False when it asks for what it has no business with.</summary>
    private bool TryAnswer(UnwinderProcess process, ushort kind, ulong id, AddressSpace space, long deadline, out TalkOutcome outcome)
    {
        outcome = TalkOutcome.Done;
        if (kind == UnwinderProtocol.NeedSpace && id == space.Id)
        {
            int length = UnwinderProtocol.WriteSpace(_buffer, space);
            outcome = process.Send(_buffer.AsSpan(0, length), [], null, deadline);
            return true;
        }

        if (kind != UnwinderProtocol.NeedFile || FileOf(space, id) is not { } file)
        {
            return false;
        }

        Span<byte> message = stackalloc byte[UnwinderProtocol.HeaderSize];
        bool usable = !IsQuarantined(file);
        if (usable)
        {
            try
            {
                UnwinderProtocol.WriteHeader(message, UnwinderProtocol.File, message.Length, id);
                outcome = process.Send(message, [], file.Handle, deadline);
            }
            catch (ObjectDisposedException)
            {
                usable = false;
            }
        }

        if (!usable)
        {
            UnwinderProtocol.WriteHeader(message, UnwinderProtocol.NoFile, message.Length, id);
            outcome = process.Send(message, [], null, deadline);
        }

        return true;
    }

    private UnwoundStack Explain(UnwoundStack answer)
    {
        if (answer.End is not (UnwindEnd.BadFile or UnwindEnd.NoUnwindInfo) || answer.Frames[^1].Mapping is not { } mapping)
        {
            return answer;
        }

        string detail = IsQuarantined(mapping.File) ? "the file ended the unwinder before, and is not read again" : answer.Detail;
        return new(answer.Frames, answer.End, $"{NameOf(mapping.File)}: {detail}");
    }

    private UnwoundStack Died(AddressSpace space, UnwinderProcess process)
    {
        const int Terminated = 15;
        CodeFile? file = FileOf(space, process.CurrentFile);
        int status = EndProcess();
        int signal = status < 0 ? 0 : status & 0x7f;
        int code = status < 0 ? 0 : (status >> 8) & 0xff;

        // Those two come from outside.
        if (signal is not (UnwinderNative.SigKill or Terminated) && status > 0)
        {
            Strike(file);
        }

        string how = (signal, code) switch
        {
            ( > 0, _) => $"died of signal {signal}",
            (_, 64) => "is not for this machine",
            (_, 65) => "could not set itself up",
            (_, 66) => "could not give up its privileges, and did not begin",
            (_, 67) => "could not limit itself, and did not begin",
            (_, 68) => "has no seccomp here, and did not begin",
            (_, 69) => "did not understand",
            (_, 70) => "ran out of memory",
            _ => $"ended with code {code}",
        };
        return Failed($"the unwinder {how}{Over(file)}");
    }

    private UnwoundStack Hung(AddressSpace space, UnwinderProcess process, long processorTime)
    {
        CodeFile? file = FileOf(space, process.CurrentFile);

        // One that was not let run is not the file's fault.
        if (processorTime > _options.Deadline.TotalNanoseconds / 2)
        {
            Strike(file);
        }

        _ = EndProcess();
        return Failed($"the unwinder took more than {_options.Deadline.TotalSeconds:0.###} s{Over(file)}");
    }

    private UnwoundStack Lied(AddressSpace space, UnwinderProcess process)
    {
        CodeFile? file = FileOf(space, process.CurrentFile);
        _ = EndProcess();
        Strike(file);
        return Failed($"the unwinder's answer makes no sense{Over(file)}");
    }

    private int EndProcess()
    {
        if (_process is not { } process)
        {
            return -1;
        }

        int status = process.End();
        MayEndProcess = process.MayBeEnded;
        process.Dispose();
        _process = null;
        return status;
    }

    private void Strike(CodeFile? file)
    {
        if (file is null)
        {
            return;
        }

        if (!_strikes.TryGetValue(file.Key, out int strikes) && _strikes.Count >= MaxStrikes)
        {
            _ = _strikes.Remove(_strikes.MinBy(static strike => strike.Value).Key);
        }

        _strikes[file.Key] = strikes + 1;

        // Counted here, so that whoever wants to know does not wait for an unwind.
        Volatile.Write(ref _quarantined, _strikes.Count(static strike => strike.Value >= StrikesToQuarantine));
    }

    private bool IsQuarantined(CodeFile file) => _strikes.TryGetValue(file.Key, out int strikes) && strikes >= StrikesToQuarantine;

    private static CodeFile? FileOf(AddressSpace space, ulong id)
    {
        foreach (CodeMapping mapping in space.Mappings)
        {
            if (mapping.File.Id == id)
            {
                return mapping.File;
            }
        }

        return null;
    }

    private static string Over(CodeFile? file) => file is null ? string.Empty : $" over {NameOf(file)}";

    private static string NameOf(CodeFile file) => TargetName.Sanitise(file.Path);
}
