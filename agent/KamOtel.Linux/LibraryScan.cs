using System.Collections.Immutable;
using System.IO.Enumeration;
using System.Text;

namespace KamOtel.Linux;

/// <summary>What a scan found.</summary>
/// <param name="Paths">Files without links in their paths, each once, sorted.</param>
/// <param name="Warnings">What could not be looked at, one sentence each.</param>
public sealed record ScanResult(ImmutableArray<string> Paths, ImmutableArray<string> Warnings);

/// <summary>Finds the files of a host that may be worth a probe. Looks at names only; opens none of them.</summary>
/// <param name="root">A prefix that is taken for the host's root, for an agent in a container. Paths are returned with it.</param>
public sealed class LibraryScan(string root = "/")
{
    private const int MaxIncludeDepth = 8;
    private const int MaxConfigurationFiles = 256;
    private const long MaxConfigurationSize = 1 << 20;
    private const int TaskNameBytes = 15;

    private static readonly string[] DefaultDirectories = [.. Defaults()];
    private static readonly string[] ProgramDirectories = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    private readonly RootedPaths _paths = new(root);

    /// <summary>
    /// Every <c>libcrypto*.so*</c> in the loader's directories (<c>/etc/ld.so.conf</c> and what it includes, and the usual ones)
    /// and in the directories given; also under the names that Python wheels give their own copies.
    /// </summary>
    /// <param name="extraDirectories">More directories: absolute paths, below the root.</param>
    /// <param name="systemDirectories">False: only <paramref name="extraDirectories"/>.</param>
    public ScanResult Libraries(IEnumerable<string> extraDirectories, bool systemDirectories = true)
    {
        ArgumentNullException.ThrowIfNull(extraDirectories);
        var scan = new Scan(_paths);
        foreach (string directory in extraDirectories)
        {
            // Somebody asked for this one: its absence is news.
            if (!directory.StartsWith('/'))
            {
                scan.Warnings.Add($"{directory} is no absolute path");
                continue;
            }

            if (_paths.Resolve(directory) is not { } real || !Directory.Exists(_paths.Outside(real)))
            {
                scan.Warnings.Add($"there is no directory {_paths.Outside(directory)}");
            }

            scan.AddFiles(directory, IsLibcrypto);
        }

        if (systemDirectories)
        {
            var configured = new List<string>();
            ReadLoaderConfiguration("/etc/ld.so.conf", configured, scan, depth: 0, new(StringComparer.Ordinal));
            foreach (string directory in configured.Concat(DefaultDirectories))
            {
                scan.AddFiles(directory, IsLibcrypto);

                // Some distributions ship a second build for newer processors, which the loader prefers.
                foreach (string level in scan.List(directory + "/glibc-hwcaps"))
                {
                    scan.AddFiles($"{directory}/glibc-hwcaps/{level}", IsLibcrypto);
                }
            }
        }

        return scan.Result();
    }

    /// <summary>The host's programs with these names, of which the first 15 bytes count, as for a task's name.</summary>
    public ScanResult Executables(IEnumerable<string> names)
    {
        ArgumentNullException.ThrowIfNull(names);
        var scan = new Scan(_paths);
        HashSet<string> wanted = new(names.Select(TaskNameOf), StringComparer.Ordinal);
        IEnumerable<string> optional = scan.List("/opt").SelectMany(static name => new[] { $"/opt/{name}/sbin", $"/opt/{name}/bin" });
        foreach (string directory in ProgramDirectories.Concat(optional))
        {
            scan.AddFiles(directory, name => wanted.Contains(TaskNameOf(name)));
        }

        return scan.Result();
    }

    private static bool IsLibcrypto(string name) =>
        name.StartsWith("libcrypto", StringComparison.Ordinal) && name.Contains(".so", StringComparison.Ordinal);

    private static string TaskNameOf(string name)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(name);
        return bytes.Length <= TaskNameBytes ? name : Encoding.Latin1.GetString(bytes, 0, TaskNameBytes);
    }

    private static IEnumerable<string> Defaults()
    {
        foreach (string top in (string[])["", "/usr", "/usr/local"])
        {
            yield return $"{top}/lib";
            yield return $"{top}/lib64";
            yield return $"{top}/lib/x86_64-linux-gnu";
            yield return $"{top}/lib/aarch64-linux-gnu";
        }
    }

    /// <summary>ldconfig's file: a directory a line, comments, and <c>include</c> with patterns.</summary>
    private void ReadLoaderConfiguration(string file, List<string> directories, Scan scan, int depth, HashSet<string> seen)
    {
        if (_paths.Resolve(file) is not { } real)
        {
            return;
        }

        if (depth > MaxIncludeDepth || seen.Count >= MaxConfigurationFiles)
        {
            scan.Warnings.Add($"{_paths.Outside(file)} was left out: there are too many files included in each other");
            return;
        }

        if (!seen.Add(real) || scan.ReadText(real, MaxConfigurationSize) is not { } text)
        {
            return;
        }

        foreach (string line in text.Split('\n'))
        {
            string[] words = line.Split('#')[0].Split([' ', '\t', '\r', ',', ':'], StringSplitOptions.RemoveEmptyEntries);
            switch (words)
            {
                case []:
                case ["hwcap", ..]:
                    break;
                case ["include", .. var patterns]:
                    foreach (string included in patterns.SelectMany(pattern => scan.Expand(pattern.StartsWith('/') ? pattern : $"{Path.GetDirectoryName(file)}/{pattern}")))
                    {
                        ReadLoaderConfiguration(included, directories, scan, depth + 1, seen);
                    }

                    break;
                default:
                    // "directory=type" is how it was written in the days of libc5.
                    directories.AddRange(words.Select(static word => word.Split('=')[0]).Where(static word => word.StartsWith('/')));
                    break;
            }
        }
    }

    /// <summary>What one scan has looked at so far.</summary>
    private sealed class Scan(RootedPaths paths)
    {
        // .NET's default would pass over hidden files, and over directories that may not be read, without a word.
        private static readonly EnumerationOptions Everything = new() { IgnoreInaccessible = false, AttributesToSkip = FileAttributes.None };

        private readonly SortedSet<string> _found = new(StringComparer.Ordinal);
        private readonly HashSet<string> _done = new(StringComparer.Ordinal);

        public SortedSet<string> Warnings { get; } = new(StringComparer.Ordinal);

        public ScanResult Result() => new([.. _found], [.. Warnings]);

        /// <summary>Adds the files of a directory whose names are wanted, under their real paths.</summary>
        public void AddFiles(string directory, Func<string, bool> wanted)
        {
            if (paths.Resolve(directory) is not { } real || !_done.Add(real))
            {
                return;
            }

            foreach (string name in List(real))
            {
                if (!wanted(name))
                {
                    continue;
                }

                string path = $"{real}/{name}";
                if (paths.Resolve(path) is not { } file)
                {
                    Warnings.Add($"{paths.Outside(path)} is a link that leads nowhere");
                }
                else if (File.Exists(paths.Outside(file)))
                {
                    _found.Add(paths.Outside(file));
                }
            }
        }

        /// <summary>The names in a directory; none, and a warning, when it cannot be read; none when it does not exist.</summary>
        public List<string> List(string directory)
        {
            if (paths.Resolve(directory) is not { } real || !Directory.Exists(paths.Outside(real)))
            {
                return [];
            }

            return Try(paths.Outside(real), static path =>
                new FileSystemEnumerable<string>(path, static (ref entry) => entry.FileName.ToString(), Everything).Order(StringComparer.Ordinal).ToList()) ?? [];
        }

        /// <summary>The paths that match a pattern with <c>*</c> and <c>?</c> in any of its parts.</summary>
        public IEnumerable<string> Expand(string pattern)
        {
            IEnumerable<string> found = [string.Empty];
            foreach (string part in pattern.Split('/', StringSplitOptions.RemoveEmptyEntries))
            {
                found = part.AsSpan().ContainsAny('*', '?')
                    ? found.SelectMany(path => List(path + "/")
                        .Where(name => FileSystemName.MatchesSimpleExpression(part, name, ignoreCase: false) && (name[0] != '.' || part[0] == '.'))
                        .Select(name => $"{path}/{name}"))
                    : found.Select(path => $"{path}/{part}");
            }

            return found;
        }

        public string? ReadText(string real, long maxSize) => Try(paths.Outside(real), path =>
        {
            var file = new FileInfo(path);
            return file.Length <= maxSize ? File.ReadAllText(path) : throw new IOException($"it has {file.Length} bytes, more than {maxSize}");
        });

        private T? Try<T>(string path, Func<string, T> read)
            where T : class
        {
            try
            {
                return read(path);
            }
            catch (Exception failure) when (failure is IOException or UnauthorizedAccessException)
            {
                Warnings.Add($"{path} could not be read: {failure.Message}");
                return null;
            }
        }
    }
}
