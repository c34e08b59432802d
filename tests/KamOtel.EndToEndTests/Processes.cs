using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace KamOtel.EndToEndTests;

/// <summary>The signals that the tests send, numbered as on x86-64 and arm64.</summary>
internal enum Signal
{
    Interrupt = 2,
    Kill = 9,
    SegmentationFault = 11,
    Terminate = 15,
}

/// <summary>The few system calls that .NET has no name for.</summary>
internal static partial class Libc
{
    /// <summary>Sends a signal. False: there is no such process any more.</summary>
    public static bool Send(int pid, Signal signal) => Kill(pid, (int)signal) == 0;

    /// <summary>Sends a signal to all processes of a group.</summary>
    public static bool SendToGroup(int leader, Signal signal) => Kill(-leader, (int)signal) == 0;

    [LibraryImport("libc", EntryPoint = "geteuid")]
    public static partial uint EffectiveUser();

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Kill(int pid, int signal);
}

/// <summary>A program's end.</summary>
/// <param name="Code">Its exit code; 128 + the signal when one ended it.</param>
/// <param name="Output">Its standard output.</param>
/// <param name="Errors">Its standard error.</param>
internal sealed record Ended(int Code, string Output, string Errors)
{
    /// <summary>For messages: everything.</summary>
    public override string ToString() => $"exit code {Code}\n-- standard output\n{Output}\n-- standard error\n{Errors}";
}

/// <summary>A program that a test started: its output is collected, and it ends with the test.</summary>
internal sealed class RunningProgram : IAsyncDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly StringBuilder _errors = new();
    private readonly Task _readers;
    private bool _disposed;

    private RunningProgram(Process process)
    {
        _process = process;
        Pid = process.Id;
        _readers = Task.WhenAll(Collect(process.StandardOutput, _output), Collect(process.StandardError, _errors));
    }

    /// <summary>Its process identifier.</summary>
    public int Pid { get; }

    /// <summary>It has not ended.</summary>
    public bool Alive => !_disposed && !_process.HasExited;

    /// <summary>Its standard output so far.</summary>
    public string Output => Text(_output);

    /// <summary>Its standard error so far.</summary>
    public string Errors => Text(_errors);

    /// <summary>Starts a program.</summary>
    /// <param name="file">Program, searched in PATH and /usr/sbin.</param>
    /// <param name="arguments">Its arguments.</param>
    /// <param name="environment">Set (or, when null, removed) in its environment.</param>
    /// <param name="input">Its standard input.</param>
    public static RunningProgram Start(
        string file,
        IEnumerable<string> arguments,
        IReadOnlyDictionary<string, string?>? environment = null,
        string input = "")
    {
        var start = new ProcessStartInfo(file, arguments)
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Requirements.Repository,
        };
        start.Environment["PATH"] = $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin";
        foreach ((string name, string? value) in environment ?? new Dictionary<string, string?>())
        {
            start.Environment[name] = value;
        }
        Process process = Process.Start(start) ?? throw new InvalidOperationException($"{file} did not start");
        var program = new RunningProgram(process);
        process.StandardInput.Write(input);
        process.StandardInput.Close();
        return program;
    }

    /// <summary>Runs a program to its end.</summary>
    public static async Task<Ended> Run(
        string file,
        IEnumerable<string> arguments,
        IReadOnlyDictionary<string, string?>? environment = null,
        string input = "",
        TimeSpan? patience = null)
    {
        await using RunningProgram program = Start(file, arguments, environment, input);
        return await program.End(patience);
    }

    /// <summary>Sends a signal.</summary>
    public void Send(Signal signal) => Libc.Send(Pid, signal).ShouldBeTrue($"process {Pid} is gone: {this}");

    /// <summary>Waits until it ended, and until all that it wrote was read.</summary>
    public async Task<Ended> End(TimeSpan? patience = null)
    {
        await Until.True($"the end of process {Pid} ({_process.StartInfo.FileName})", () => _process.HasExited, patience, ToString);
        // A child that inherited the pipes may hold them open.
        _ = await Task.WhenAny(_readers, Task.Delay(TimeSpan.FromSeconds(5)));
        return new Ended(_process.ExitCode, Output, Errors);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_disposed)
        {
            return;
        }
        _disposed = true;
        if (!_process.HasExited)
        {
            _process.Kill();
            await _process.WaitForExitAsync();
        }
        _process.Dispose();
    }

    /// <summary>For messages: what it wrote.</summary>
    public override string ToString() => $"-- standard output\n{Output}\n-- standard error\n{Errors}";

    private static string Text(StringBuilder text)
    {
        lock (text)
        {
            return text.ToString();
        }
    }

    private static async Task Collect(StreamReader reader, StringBuilder text)
    {
        char[] buffer = new char[4096];
        while (await reader.ReadAsync(buffer) is > 0 and int count)
        {
            lock (text)
            {
                _ = text.Append(buffer, 0, count);
            }
        }
    }
}

/// <summary>What /proc tells.</summary>
internal static class Proc
{
    /// <summary>All process identifiers.</summary>
    public static IEnumerable<int> All() =>
        Directory.EnumerateDirectories("/proc")
            .Select(path => int.TryParse(Path.GetFileName(path), NumberStyles.None, null, out int pid) ? pid : 0)
            .Where(static pid => pid > 0);

    /// <summary>The process lives and is no zombie.</summary>
    public static bool Alive(int pid) => Stat(pid) is { } stat && stat[0] is not ("Z" or "X");

    /// <summary>The children of a process, zombies left out.</summary>
    public static int[] Children(int pid) =>
        [.. All().Where(child => Stat(child) is { } stat && stat[0] is not ("Z" or "X") && stat[1] == $"{pid}")];

    /// <summary>The children of a process that ended and that it did not wait for.</summary>
    public static int[] Zombies(int pid) => [.. All().Where(child => Stat(child) is { } stat && stat[0] == "Z" && stat[1] == $"{pid}")];

    /// <summary>The children of a process, their children and so on.</summary>
    public static int[] Descendants(int pid) => [.. Children(pid).SelectMany(static child => (int[])[child, .. Descendants(child)])];

    /// <summary>For messages: what a process is at. Its state, and where in the kernel it waits.</summary>
    public static string Doing(int pid)
    {
        string state = Stat(pid) is { } stat ? $"state {stat[0]}, parent {stat[1]}" : "gone";
        return $"{pid}: {state}, waits in {Read(pid, "wchan")}, system call {Read(pid, "syscall").Split(' ')[0].Trim()}";
    }

    /// <summary>Resident memory in bytes.</summary>
    public static long ResidentBytes(int pid) =>
        long.Parse(File.ReadLines($"/proc/{pid}/status").Single(static line => line.StartsWith("VmRSS:", StringComparison.Ordinal))
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024;

    /// <summary>Processes whose environment, command line or working directory mentions a text.</summary>
    public static int[] Mentioning(string text) =>
        [.. All().Where(pid => Alive(pid) && (Read(pid, "environ").Contains(text, StringComparison.Ordinal)
            || Read(pid, "cmdline").Contains(text, StringComparison.Ordinal)))];

    /// <summary>The numbers that /proc/PID/fdinfo gives for a field, for example <c>prog_id</c>.</summary>
    public static HashSet<long> DescriptorField(int pid, string field)
    {
        var found = new HashSet<long>();
        foreach (string path in Directory.EnumerateFiles($"/proc/{pid}/fdinfo"))
        {
            try
            {
                found.UnionWith(File.ReadLines(path)
                    .Where(line => line.StartsWith($"{field}:", StringComparison.Ordinal))
                    .Select(line => long.Parse(line[(field.Length + 1)..].Trim())));
            }
            catch (IOException)
            {
                // Closed meanwhile.
            }
        }
        return found;
    }

    // State, parent, …: the fields after the name, which may contain anything.
    private static string[]? Stat(int pid)
    {
        string stat = Read(pid, "stat");
        int end = stat.LastIndexOf(')');
        return end < 0 ? null : stat[(end + 2)..].Split(' ');
    }

    private static string Read(int pid, string file)
    {
        try
        {
            return File.ReadAllText($"/proc/{pid}/{file}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return "";
        }
    }
}
