namespace KamOtel.Image;

/// <summary>An installed Debian package.</summary>
internal sealed record DebianPackage(string Name, string Version, string Architecture)
{
    /// <summary>The package that a file belongs to.</summary>
    public static DebianPackage Owning(string path)
    {
        // dpkg knows a file below /lib or below /usr/lib, wherever both are one.
        string other = path.StartsWith("/usr/", StringComparison.Ordinal) ? path["/usr".Length..] : $"/usr{path}";
        return Tool.TryOutput(out string owner, "dpkg-query", "--search", path) || Tool.TryOutput(out owner, "dpkg-query", "--search", other)
            ? Named(owner.Split(": ", 2)[0])
            : throw new InvalidDataException($"no Debian package has {path}");
    }

    /// <summary>A package by its name.</summary>
    public static DebianPackage Named(string name) =>
        Tool.Output("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\t${Architecture}", name).Split('\t') is [string package, string version, string architecture]
            ? new DebianPackage(package, version, architecture)
            : throw new InvalidDataException($"the Debian package {name} is not installed: scripts/setup image");
}
