namespace KamOtel.Agent;

/// <summary><c>kamotel doctor</c>: can this machine do it, and what to change?</summary>
internal static class DoctorCommand
{
    /// <summary>What stands below its options in the help.</summary>
    public const string Epilog = """
        Tries, at the agent itself, what 'kamotel run' and 'scan' do: loads each program, attaches probes to memory of its own, looks
        whether other users' processes may be read. Changes nothing, stops nobody, and takes about a second. Run it as the user and with
        the capabilities of the service. Settings and OTEL_* variables count as for 'kamotel run'.

        Exit status: 0 everything works, 1 a feature does not work, 2 'kamotel run' would not start, 64 usage.

        Examples:
          kamotel doctor
          kamotel doctor --json | jq -r '.findings[] | select(.status == "failed") | "\(.seen)\n  \(.remedy)"'
        """;

    /// <summary>Examines, prints, and returns the exit code.</summary>
    public static async Task<int> RunAsync(RunOptions options, bool json, bool colored, TextWriter output, TextWriter error)
    {
        DoctorReport report = await Doctor.ExamineAsync(options, Environment.GetEnvironmentVariable, Environment.GetEnvironmentVariables().Keys.Cast<string>());
        try
        {
            if (json)
            {
                await output.WriteLineAsync(report.ToJson());
            }
            else
            {
                new DoctorTable(output, colored).Print(report);
            }
            await output.FlushAsync();
        }
        catch (IOException e)
        {
            // The exit code still tells.
            await error.WriteLineAsync($"kamotel: error: the result cannot be written: {e.Message}");
        }
        return report.ExitCode;
    }
}
