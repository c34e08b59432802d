using System.Diagnostics;

namespace KamOtel.Image;

/// <summary>Programs of the machine that the image is built on.</summary>
internal static class Tool
{
    /// <summary>What a program prints.</summary>
    /// <exception cref="InvalidDataException">It is not there, or failed.</exception>
    public static string Output(string program, params string[] arguments) =>
        TryOutput(out string text, program, arguments) ? text : throw new InvalidDataException($"{program} {string.Join(' ', arguments)} failed: {text}");

    /// <summary>The same; false where it failed, with what it said.</summary>
    public static bool TryOutput(out string text, string program, params string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true };
        start.Environment["LC_ALL"] = "C";
        try
        {
            using Process process = Process.Start(start)!;
            Task<string> errors = process.StandardError.ReadToEndAsync();
            text = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            text = process.ExitCode == 0 ? text : errors.Result.Trim();
            return process.ExitCode == 0;
        }
        catch (System.ComponentModel.Win32Exception e)
        {
            throw new InvalidDataException($"{program} cannot be run: {e.Message}", e);
        }
    }
}
