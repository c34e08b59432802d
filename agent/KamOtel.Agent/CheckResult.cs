using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>What the check of one command came to.</summary>
internal sealed record CheckResult
{
    /// <summary>What it is called: its configuration, else its program.</summary>
    public required string Name { get; init; }

    /// <summary>The value that it had of several; null when it was the only one.</summary>
    public required string? Configuration { get; init; }

    /// <summary>The servers that it started, oldest first, as they were when they were told to end or when they did by themselves.</summary>
    public required ImmutableArray<InstanceSnapshot> Servers { get; init; }

    /// <summary>The command's wait status; null when it did not run, or nobody knows.</summary>
    public int? Status { get; init; }

    /// <summary>It ended after it had been told to.</summary>
    public bool Stopped { get; init; }

    /// <summary>How many processes had to be killed, as SIGTERM did not end them in time.</summary>
    public int Killed { get; init; }

    /// <summary>Why the servers' verdicts are not enough to let this pass; null when they are.</summary>
    public string? Problem { get; init; }

    /// <summary>What is no verdict and yet worth to know, a sentence each.</summary>
    public ImmutableArray<string> Remarks { get; init; } = [];

    /// <summary>How long it took.</summary>
    public TimeSpan Duration { get; init; }

    /// <summary>The server that decides: the first of the worst; null when there is none.</summary>
    public InstanceSnapshot? Worst => Servers.OrderBy(static s => -(int)s.Verdict).FirstOrDefault(s => ScanCommand.CodeOf([s]) == ScanCommand.CodeOf(Servers));

    /// <summary>The system refused to execute the command.</summary>
    public bool NotExecuted { get; init; }

    /// <summary>A hazard before blindness, blindness before safety.</summary>
    public int Code =>
        NotExecuted ? ExitCode.CannotExecute
        : ScanCommand.CodeOf(Servers) is var code && code == ExitCode.Ok && Problem is not null ? ExitCode.CouldNotTell
        : code;

    /// <summary>The verdict on the configuration; what did not go as it should is not known to be safe.</summary>
    public Verdict Verdict => IsKnown ? Worst!.Verdict : Verdict.Unknown;

    /// <summary>Why, in a sentence.</summary>
    public string Reason => IsKnown ? Worst!.Reason : Problem ?? Worst!.Reason;

    /// <summary>How the command ended; null when it did not run.</summary>
    public string? End => Status is { } status ? $"{Words.OfStatus(status)}{(Stopped ? " after SIGTERM" : "")}" : null;

    private bool IsKnown => Code is ExitCode.Ok or ExitCode.Hazard;

    /// <summary>The worst decides, of all: 1 beats 2 beats 0.</summary>
    public static int CodeOf(IReadOnlyList<CheckResult> results) =>
        results.Count == 1 ? results[0].Code
        : results.Any(static r => r.Code == ExitCode.Hazard) ? ExitCode.Hazard
        : results.Any(static r => r.Code != ExitCode.Ok) ? ExitCode.CouldNotTell
        : ExitCode.Ok;
}
