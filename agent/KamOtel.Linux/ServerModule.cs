using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>What the files of a server are, by their paths.</summary>
public static class ServerModule
{
    private const string Suffix = ".so";

    /// <summary>
    /// The same of an open file: modules may lie anywhere (Kamailio's <c>mpath</c>), so one that is named as modules are is
    /// asked for the name that it exports.
    /// </summary>
    public static string? NameOf(string? path, SafeFileHandle file) => NameOf(path) ?? (ExportedNameOf(path) is { } name && ModuleExports.ReadInit(file, name).TryGet(out _, out _) ? TargetName.Sanitise(name) : null);

    /// <summary>What a module in this file would call itself; null when the file is named as libraries and programs are.</summary>
    public static string? ExportedNameOf(string? path)
    {
        string file = Path.GetFileName(path) ?? string.Empty;
        return file.Length > Suffix.Length && file.EndsWith(Suffix, StringComparison.Ordinal) && !file.StartsWith("lib", StringComparison.Ordinal) ? file[..^Suffix.Length] : null;
    }

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
