using System.Globalization;

namespace KamOtel.Agent;

/// <summary><c>kamotel record</c>: watches as <c>kamotel run</c> does, and writes down what it observes.</summary>
internal static class RecordCommand
{
    /// <summary>Records until a signal comes, the time is over or the file is full. Returns the exit code.</summary>
    /// <exception cref="RecordingException">The file is there already, or cannot be made.</exception>
    /// <exception cref="KamOtel.Bpf.BpfException">The machine cannot do it.</exception>
    public static async Task<int> RunAsync(RunOptions options, RecordOptions recorded, StoryPrinter? story, TextWriter error, CancellationToken cancellation)
    {
        if (recorded.Path.Length == 0)
        {
            throw new UsageException("FILE is empty: name the file to record into");
        }
        using var recorder = Recorder.Create(recorded, options.ForFleet());
        int code;
        try
        {
            code = await AgentHost.RunAsync(options, story, recorder, cancellation);
        }
        catch
        {
            // Nothing was watched, so nothing is in it.
            if (recorder.Inputs == 0)
            {
                File.Delete(recorded.Path);
            }
            throw;
        }
        string much = string.Create(CultureInfo.InvariantCulture, $"{recorder.Inputs} inputs in {recorder.Duration.TotalSeconds:0.0} s, {(recorder.Bytes + 1023) / 1024} KiB: {recorded.Path}");
        string? problem = recorder switch
        {
            { Failure: { } failure } => $"the recording was cut: {failure}",
            { End: RecordingEnd.Overflow } => $"the recording ended early: {recorder.Lost} inputs came faster than they could be written",
            _ => null,
        };
        if (problem is not null)
        {
            await error.WriteLineAsync($"kamotel: error: {problem}");
        }
        string why = recorder.End == RecordingEnd.Size ? " (as large as it may be, --max-size)" : "";
        await error.WriteLineAsync($"kamotel: recorded {much}{why}");
        return problem is not null ? ExitCode.OutputError : code;
    }
}
