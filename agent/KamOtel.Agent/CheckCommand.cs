using System.Collections.Immutable;
using KamOtel.Bpf;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary><c>kamotel check</c>: runs commands under watch, one after the other, and tells what servers they started and whether those are safe.</summary>
internal static partial class CheckCommand
{
    /// <summary>What Kamailio and OpenSIPS, whatever their file is called, export.</summary>
    private const string ServerFunction = "init_modules";

    /// <summary>The most names that are watched.</summary>
    private const int MaxNames = 64;

    /// <summary>Checks, prints, and returns the exit code.</summary>
    /// <exception cref="BpfException">The machine cannot do it; nothing was run.</exception>
    /// <exception cref="CommandException">The command or the report cannot be; nothing was run.</exception>
    public static int Run(RunOptions options, CheckOptions check, TextWriter output, TextWriter error)
    {
        // Before anything here handles one.
        SignalState signals = SignalState.OfThisProcess();
        using var interruption = new Interruption(signals);
        ImmutableArray<CheckedCommand> commands = check.Commands();
        // The last of it shall be seen, too.
        options.InspectEverySeconds = Math.Min(options.InspectEverySeconds, Math.Max(1, check.For.TotalSeconds / 2));
        using JUnitReport? junit = check.JUnit is { } path ? JUnitReport.Create(path) : null;
        List<CheckResult> results = [];
        int? code = null;
        try
        {
            options.Watch = [.. options.Watch.Concat(commands.Select(static c => ServerName(c.FindProgram())).OfType<string>()).Distinct(StringComparer.Ordinal).Take(MaxNames)];
            RunAll(options, check, commands, signals, interruption, results, error);
        }
        catch (Exception e) when (junit is not null && (e is BpfException or CommandException or IOException))
        {
            error.WriteLine($"kamotel: error: {e.Message}");
            code = e is CommandException refused ? refused.ExitCode : e is BpfException { Denied: true } ? ExitCode.NoPermission : ExitCode.Unavailable;
            results.AddRange(commands.Skip(results.Count).Select(c => NotRun(c, e.Message)));
        }
        if (code is null)
        {
            Print(results, check, output, error);
        }
        try
        {
            junit?.Write(results);
        }
        catch (IOException e)
        {
            error.WriteLine($"kamotel: error: {e.Message}");
            code ??= CheckResult.CodeOf(results) is var found && found == ExitCode.Ok ? ExitCode.OutputError : found;
        }
        return code ?? CheckResult.CodeOf(results);
    }

    private static void RunAll(
        RunOptions options, CheckOptions check, ImmutableArray<CheckedCommand> commands, SignalState signals, Interruption interruption, List<CheckResult> results, TextWriter error)
    {
        using ILoggerFactory loggers = LoggerFactory.Create(logging => logging.SetMinimumLevel(options.LogLevel).AddProvider(new StderrLoggerProvider(error, options.LogJson)));
        ILogger logger = loggers.CreateLogger("kamotel");
        foreach (string warning in Settings.Warnings(options, Environment.GetEnvironmentVariables().Keys.Cast<string>()))
        {
            Doubtful(logger, warning);
        }
        var state = new AgentState();
        var servers = new CheckedServers(new ProcFs());
        using var watcher = new Watcher(options, state, servers, static _ => { }, static _ => { }, static _ => { }, logger);
        if (interruption.Count == 0)
        {
            watcher.Start();
            if (state.NotReady is { } reason)
            {
                throw new CommandException(ExitCode.NoPermission, $"nothing was run: {reason}");
            }
        }
        foreach (CheckedCommand command in commands)
        {
            if (interruption.Count > 0)
            {
                results.Add(NotRun(command, $"{interruption.Signal} came before the command was run"));
                continue;
            }
            if (command.Configuration is { } configuration)
            {
                // To find one's way in what all the servers write.
                error.WriteLine($"kamotel: checking {configuration} ({results.Count + 1} of {commands.Length})");
            }
            results.Add(new CheckRun(watcher, state, servers, options, check, command, signals, interruption).Run());
        }
    }

    private static void Print(List<CheckResult> results, CheckOptions check, TextWriter output, TextWriter error)
    {
        try
        {
            if (check.Json)
            {
                output.WriteLine(ScanReport.Of(results).ToJson());
            }
            else
            {
                new CheckTable(output, check.Colored).Print(results);
            }
            output.Flush();
        }
        catch (IOException e)
        {
            // The exit code still tells.
            error.WriteLine($"kamotel: error: the result cannot be written: {e.Message}");
        }
    }

    private static CheckResult NotRun(CheckedCommand command, string problem) => new()
    {
        Name = command.Configuration ?? Path.GetFileName(command.Words[0]),
        Configuration = command.Configuration,
        Servers = [],
        Problem = problem,
    };

    /// <summary>The name that a SIP server's program will have as a process; null when the program is none, but a script, a shell.</summary>
    private static string? ServerName(string path)
    {
        if (!RegularFile.Open(path).TryGet(out SafeFileHandle? file, out _))
        {
            return null;
        }
        using (file)
        {
            return ElfFile.Open(file).TryGet(out ElfFile? elf, out _) && elf.FindFunctions([ServerFunction]).TryGet(out ElfFunctions? functions, out _) && !functions.Found.IsEmpty
                ? Path.GetFileName(path)
                : null;
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Message}")]
    private static partial void Doubtful(ILogger logger, string message);
}
