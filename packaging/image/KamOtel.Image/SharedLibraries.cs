using System.Text.RegularExpressions;

namespace KamOtel.Image;

/// <summary>A library that the executable takes at run time.</summary>
/// <param name="Path">Where it is, here and in the image.</param>
/// <param name="Package">The Debian package that it comes from.</param>
internal sealed record SharedLibrary(string Path, DebianPackage Package);

/// <summary>The libraries of the executable: those that it is linked with, and those that it opens itself.</summary>
internal static partial class SharedLibraries
{
    /// <summary>libbpf loads the kernel side; .NET does TLS by OpenSSL.</summary>
    private static readonly string[] Opened = ["libbpf.so.1", "libssl.so.3"];

    public static IReadOnlyList<SharedLibrary> Of(string binary)
    {
        SortedSet<string> paths = new(Linked(binary), StringComparer.Ordinal);
        string folder = Path.GetDirectoryName(paths.FirstOrDefault(static p => p.EndsWith("/libc.so.6", StringComparison.Ordinal))
            ?? throw new InvalidDataException($"{binary} is not linked with glibc"))!;
        foreach (string name in Opened)
        {
            string path = Path.Combine(folder, name);
            if (!File.Exists(path))
            {
                throw new FileNotFoundException($"{path} is missing: scripts/setup image", path);
            }
            paths.Add(path);
            paths.UnionWith(Linked(path));
        }
        return [.. paths.Select(static path => new SharedLibrary(path, DebianPackage.Owning(path)))];
    }

    private static IEnumerable<string> Linked(string file) =>
        DynamicLinker().Matches(Tool.Output("ldd", Path.GetFullPath(file))).Select(static match => match.Groups[1].Value);

    /// <summary>"libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)" and "/lib64/ld-linux-x86-64.so.2 (0x…)".</summary>
    [GeneratedRegex(@"(/\S+) \(0x")]
    private static partial Regex DynamicLinker();
}
