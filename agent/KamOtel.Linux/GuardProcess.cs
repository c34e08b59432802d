using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>A command that is to run under guard.</summary>
/// <param name="Arguments">The program, searched for in PATH, and its arguments.</param>
/// <param name="StopWithin">From SIGTERM to SIGKILL.</param>
/// <param name="OutputToError">What it writes to standard output goes to standard error.</param>
/// <param name="Signals">What it shall find ignored and blocked.</param>
public sealed record GuardedCommand(IReadOnlyList<string> Arguments, TimeSpan StopWithin, bool OutputToError, SignalState Signals);

/// <summary>
/// A command and all that descends from it, watched over by a tiny process of its own (agent/guard) which begins it as if our
/// caller had, and ends it when it is told to, or when this process is gone, in whatever way.
/// </summary>
public sealed class GuardProcess : IDisposable
{
    private const string Resource = "kamotel-guard";

    private const int MostMilliseconds = 1_000_000_000;

    private readonly SafeFileHandle _socket;
    private readonly Action<GuardReport> _reported;
    private readonly Thread _reader;

    private GuardProcess(int pid, SafeFileHandle socket, Action<GuardReport> reported)
    {
        Pid = pid;
        _socket = socket;
        _reported = reported;
        _reader = new Thread(Read) { Name = "guard", IsBackground = true };
        _reader.Start();
    }

    /// <summary>The guard's own process: the ancestor of all that the command starts.</summary>
    public int Pid { get; }

    /// <summary>Starts the guard; the command waits for <see cref="Begin"/>.</summary>
    /// <param name="command">The command.</param>
    /// <param name="reported">Hears what the guard tells, on a thread of its own.</param>
    /// <exception cref="IOException">The guard cannot be started; the message says why.</exception>
    public static GuardProcess Start(GuardedCommand command, Action<GuardReport> reported)
    {
        ArgumentNullException.ThrowIfNull(command);
        ArgumentNullException.ThrowIfNull(reported);
        using SafeFileHandle program = LoadProgram();
        int error = program.IsInvalid ? Native.LastError : 0;
        if (error != 0 || !UnwinderNative.TrySocketPair(out SafeFileHandle ours, out SafeFileHandle theirs))
        {
            error = error != 0 ? error : Native.LastError;
            throw new IOException($"the guard of the command cannot be prepared: {Marshal.GetPInvokeErrorMessage(error)}");
        }

        using (theirs)
        {
            error = GuardNative.Spawn(program, theirs, ArgumentsOf(command, (int)theirs.DangerousGetHandle()), out int pid);
            if (error == 0)
            {
                return new(pid, ours, reported);
            }
        }

        ours.Dispose();
        throw new IOException($"the guard of the command cannot be started: {Marshal.GetPInvokeErrorMessage(error)}");
    }

    /// <summary>The file that a command's program is, as execvp(3) finds it; null when there is none.</summary>
    /// <param name="program">A path, or a name to be searched for in <paramref name="searchPath"/>.</param>
    /// <param name="searchPath">What PATH says; null when it is not set.</param>
    public static string? Find(string program, string? searchPath)
    {
        ArgumentNullException.ThrowIfNull(program);
        if (program.Contains('/', StringComparison.Ordinal))
        {
            return File.Exists(program) ? program : null;
        }

        string[] found = program.Length == 0 ? []
            : [.. (searchPath ?? "/bin:/usr/bin").Split(':').Select(folder => Path.Combine(folder.Length == 0 ? "." : folder, program)).Where(File.Exists)];
        return found.FirstOrDefault(GuardNative.IsExecutable) ?? found.FirstOrDefault();
    }

    /// <summary>The file may be executed.</summary>
    public static bool IsExecutable(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        return GuardNative.IsExecutable(path);
    }

    /// <summary>Begins the command.</summary>
    public void Begin() => GuardNative.Send(_socket, (byte)GuardOrder.Start);

    /// <summary>Ends it as an operator does: SIGTERM, and SIGKILL for what is left when the time is over.</summary>
    public void Stop() => GuardNative.Send(_socket, (byte)GuardOrder.Stop);

    /// <summary>Ends it at once.</summary>
    public void Kill() => GuardNative.Send(_socket, (byte)GuardOrder.Kill);

    /// <summary>Stops what is left, and waits until nothing is.</summary>
    public void Dispose()
    {
        Stop();
        _reader.Join();
        _socket.Dispose();
    }

    private static SafeFileHandle LoadProgram()
    {
        using Stream stream = typeof(GuardProcess).Assembly.GetManifestResourceStream(Resource)
            ?? throw new InvalidOperationException($"this build lacks the resource {Resource}");
        byte[] image = new byte[stream.Length];
        stream.ReadExactly(image);
        return UnwinderNative.CreateProgram(Resource, image);
    }

    private static string[] ArgumentsOf(GuardedCommand command, int socket) =>
    [
        Resource,
        socket.ToString(CultureInfo.InvariantCulture),
        ((int)Math.Min(command.StopWithin.TotalMilliseconds, MostMilliseconds)).ToString(CultureInfo.InvariantCulture),
        command.Signals.Ignored.ToString("x", CultureInfo.InvariantCulture),
        command.Signals.Blocked.ToString("x", CultureInfo.InvariantCulture),
        command.OutputToError ? "2" : "1",
        .. command.Arguments,
    ];

    private void Read()
    {
        Span<byte> buffer = stackalloc byte[64];
        bool gone = false;
        while (true)
        {
            _ = UnwinderNative.Wait(_socket, UnwinderNative.PollIn, -1);
            nint length = UnwinderNative.Receive(_socket, buffer, out int errno);
            if (length > 0 && GuardReport.Parse(buffer[..(int)Math.Min(length, buffer.Length)]) is { } report)
            {
                gone |= report.Kind == GuardReportKind.Gone;
                _reported(report);
            }
            else if (length <= 0 && errno != UnwinderNative.Again)
            {
                break;
            }
        }

        _ = UnwinderNative.Reap(Pid);
        if (!gone)
        {
            _reported(new(GuardReportKind.Lost, 0, 0));
        }
    }
}
