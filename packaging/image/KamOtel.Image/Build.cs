using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace KamOtel.Image;

/// <summary>What was built, as the executable itself says.</summary>
internal sealed partial record Build(string Version, string Revision, string Architecture)
{
    /// <summary>Asks the executable.</summary>
    public static Build Of(string binary)
    {
        Match match = VersionLine().Match(Tool.Output(Path.GetFullPath(binary), "--version"));
        return match.Success
            ? new Build(match.Groups[1].Value, match.Groups[2].Value, RuntimeInformation.OSArchitecture == System.Runtime.InteropServices.Architecture.Arm64 ? "arm64" : "amd64")
            : throw new InvalidDataException($"{binary} --version does not tell its version");
    }

    [GeneratedRegex(@"^kamotel (\S+) \(revision (\w+),")]
    private static partial Regex VersionLine();
}
