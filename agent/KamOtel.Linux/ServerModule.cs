namespace KamOtel.Linux;

/// <summary>What the files of a server are, by their paths.</summary>
public static class ServerModule
{
    private const string Suffix = ".so";

    /// <summary>The name of a file, fit to be shown.</summary>
    public static string FileNameOf(string path) => TargetName.Sanitise(Path.GetFileName(path));

    /// <summary>The name of Kamailio's or OpenSIPS's module that a file is: <c>…/kamailio/modules/tls.so</c> is <c>tls</c>; or null.</summary>
    public static string? NameOf(string? path)
    {
        string[] parts = (path ?? string.Empty).Split('/');
        return parts is [.., "kamailio" or "opensips", "modules", var file] && file.Length > Suffix.Length && file.EndsWith(Suffix, StringComparison.Ordinal)
            ? TargetName.Sanitise(file[..^Suffix.Length])
            : null;
    }
}
