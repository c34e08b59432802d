using System.Collections.Immutable;

namespace KamOtel.Agent;

/// <summary>What <c>kamotel check</c> was told beside settings.</summary>
/// <param name="Command">The command as it was given, with <see cref="Placeholder"/> where each value goes.</param>
/// <param name="Each">The values; empty to run the command once, as it is.</param>
/// <param name="For">How long a server is watched once it is ready.</param>
/// <param name="ReadyWithin">How long it may take to become ready.</param>
/// <param name="StopWithin">How long it may take to end after SIGTERM.</param>
/// <param name="Json">The report alone on standard output, as JSON.</param>
/// <param name="JUnit">The file for a JUnit report; null for none.</param>
/// <param name="Colored">The table has colours.</param>
internal sealed record CheckOptions(
    ImmutableArray<string> Command, ImmutableArray<string> Each, TimeSpan For, TimeSpan ReadyWithin, TimeSpan StopWithin, bool Json, string? JUnit, bool Colored)
{
    /// <summary>What stands for the value, as in find(1) and xargs(1).</summary>
    public const string Placeholder = "{}";

    /// <summary>The commands to run, one after the other, each with its value.</summary>
    /// <exception cref="UsageException">The value would go nowhere.</exception>
    public ImmutableArray<CheckedCommand> Commands()
    {
        if (Command.IsEmpty || Command[0].Length == 0)
        {
            throw new UsageException("the command is missing: it comes last, after --");
        }
        if (Each.IsEmpty)
        {
            return [new CheckedCommand(null, Command)];
        }
        if (!Command.Any(static word => word.Contains(Placeholder, StringComparison.Ordinal)))
        {
            throw new UsageException($"--each: the command has no {Placeholder} where the value would go");
        }
        return
        [
            .. Each.Select(value => value.Length == 0
                ? throw new UsageException("--each: a value is empty")
                : new CheckedCommand(value, [.. Command.Select(word => word.Replace(Placeholder, value, StringComparison.Ordinal))])),
        ];
    }
}

/// <summary>One command of a check.</summary>
/// <param name="Configuration">The value that it has; null when it is the only one.</param>
/// <param name="Words">The program and its arguments.</param>
internal sealed record CheckedCommand(string? Configuration, ImmutableArray<string> Words)
{
    /// <summary>The file that will run.</summary>
    /// <exception cref="CommandException">There is none, or it may not run.</exception>
    public string FindProgram()
    {
        string program = Words[0];
        string file = Linux.GuardProcess.Find(program, Environment.GetEnvironmentVariable("PATH"))
            ?? throw new CommandException(ExitCode.NotFound, $"{program}: no such program{(program.Contains('/', StringComparison.Ordinal) ? "" : " in PATH")}");
        return Linux.GuardProcess.IsExecutable(file) ? file : throw new CommandException(ExitCode.CannotExecute, $"{file}: may not be executed");
    }
}

/// <summary>The command cannot be run, and nothing was; the message says why.</summary>
internal sealed class CommandException(int exitCode, string message) : Exception(message)
{
    public int ExitCode { get; } = exitCode;
}
