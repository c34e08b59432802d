using System.Collections.Immutable;
using KamOtel.Bpf;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>A libcrypto of this host, as the doctor sees it.</summary>
/// <param name="Path">Where it is.</param>
/// <param name="Version">OpenSSL's version; null when the file does not tell.</param>
/// <param name="Functions">The functions that would carry probes.</param>
/// <param name="Entry">What the set function begins with.</param>
/// <param name="Problem">Why it would carry none; null when it would.</param>
/// <param name="Set">Where the set function would carry its probe; null when it would not.</param>
internal sealed record ExaminedLibrary(string Path, string? Version, ImmutableArray<string> Functions, EntryInstruction Entry, string? Problem, ProbedFunction? Set = null)
{
    /// <summary>What a probe on the set function costs is what one on this costs.</summary>
    public EntryInstruction Priced => Set is { Reason: "" } ? EntryInstruction.Push : Entry;
}

/// <summary>The doctor at files: libraries to probe, programs to watch, C libraries to understand. Only reads them.</summary>
internal sealed class DoctorLibraries(RunOptions options, Capabilities own)
{
    private const string SetLocal = "CRYPTO_THREAD_set_local";

    private static readonly string[] LibraryFolders = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];
    private static readonly string[] ServerNames = ["kamailio", "opensips"];

    /// <summary>Every libcrypto that <c>run</c> would look at when it starts.</summary>
    public ImmutableArray<ExaminedLibrary> Libraries { get; private set; } = [];

    public IEnumerable<Finding> Examine()
    {
        ScanResult found = new LibraryScan().Libraries(options.LibraryPath, options.SystemLibraries);
        ScanResult programs = new LibraryScan().Executables(options.Watch);
        Libraries = [.. found.Paths.Select(Examine)];
        foreach (string warning in found.Warnings.Concat(programs.Warnings).Distinct())
        {
            yield return Finding.Warning("library_paths", warning, "a libcrypto there is not probed before a server maps it", "mend the path, or leave it out of --library-path and /etc/ld.so.conf");
        }
        ExaminedLibrary[] bad = [.. Libraries.Where(static l => l.Problem is not null)];
        foreach (ExaminedLibrary library in bad)
        {
            yield return Finding.Warning("libraries", $"{library.Path}: {library.Problem}", "it carries no probes: the calls of a server that maps it are not seen; its slots are inspected all the same", RemedyOf(library));
        }
        if (Libraries.Length > bad.Length)
        {
            yield return Finding.Ok(
                "libraries",
                string.Join(", ", Libraries.Where(static l => l.Problem is null).Select(static l => $"{l.Path} ({(l.Version is null ? "version unknown" : $"OpenSSL {l.Version}")}, {l.Functions.Length} functions)")),
                "would be probed when the agent starts");
        }
        else if (bad.Length == 0)
        {
            yield return Finding.Note("libraries", "no libcrypto in the system's library paths", "one is probed when a server maps it, a moment late", "--library-path DIRECTORY, where the server has its own");
        }
        yield return programs.Paths.IsEmpty
            ? Finding.Note("executables", $"no program called {string.Join(" or ", options.Watch)} in the usual folders", "its own steps (init of modules, fork of workers) are watched from its exec on, a moment late")
            : Finding.Ok("executables", string.Join(", ", programs.Paths), "their starts are watched");
        yield return Modules();
        yield return CLibraries();
    }

    private ExaminedLibrary Examine(string path)
    {
        if (!RegularFile.Open(path).TryGet(out SafeFileHandle? file, out ProcFailure failure))
        {
            return new ExaminedLibrary(path, null, [], EntryInstruction.Unknown, failure.Detail.Split("; ", 2)[0]);
        }
        using (file)
        {
            if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out ElfError? error) || !elf.FindFunctions([.. KernelSide.Functions]).TryGet(out ElfFunctions? functions, out error))
            {
                return new ExaminedLibrary(path, null, [], EntryInstruction.Unknown, error.ToString());
            }
            string? problem = !functions.Found.IsEmpty ? null : functions.Rejected.IsEmpty ? "none of the thread-local functions is among its symbols" : functions.Rejected[0].ToString();
            return new ExaminedLibrary(path, ServerFactsReader.ScanForOpenSsl(file), [.. functions.Found.Select(static f => f.Name).Order(StringComparer.Ordinal)], EntryOf(file, functions), problem, SetOf(elf, functions));
        }
    }

    private static EntryInstruction EntryOf(SafeFileHandle file, ElfFunctions functions)
    {
        ElfFunction set = functions.Found.FirstOrDefault(static f => f.Name == SetLocal);
        Span<byte> code = stackalloc byte[4];
        return set.Name is not null && RandomAccess.Read(file, code, (long)set.FileOffset) == code.Length ? SampleFunction.Recognise(code) : EntryInstruction.Unknown;
    }

    private static ProbedFunction? SetOf(ElfFile elf, ElfFunctions functions)
    {
        ElfFunction set = functions.Found.FirstOrDefault(static f => f.Name == SetLocal);
        if (set.Name is null)
        {
            return null;
        }
        ProbeSite site = ProbeSites.Of(elf, set);
        return new ProbedFunction(set.Name, Words.Of(site), Words.ReasonOf(site));
    }

    private string RemedyOf(ExaminedLibrary library) => library.Problem!.Contains("cannot be read", StringComparison.Ordinal)
        ? DoctorPrivileges.Remedy("closed_files", own)
        : "take a build that exports its symbols";

    private static Finding Modules()
    {
        string[] folders =
        [
            .. LibraryFolders.Where(Directory.Exists)
                .SelectMany(static top => Directory.EnumerateDirectories(top).Append(top))
                .SelectMany(static folder => ServerNames.Select(name => $"{folder}/{name}/modules").Where(Directory.Exists))
                .Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal),
        ];
        return folders.Length == 0
            ? Finding.Ok("modules", "no folder with modules in the usual places", "modules are found when a server maps them, wherever they lie")
            : Finding.Ok("modules", string.Join(", ", folders), "modules are found when a server maps them, wherever they lie");
    }

    private static Finding CLibraries()
    {
        const string Means = "where a server's C library keeps thread-local values must be known to inspect it; in a container it is the container's";
        var known = new List<string>();
        var problems = new List<string>();
        foreach (string path in CLibraryPaths())
        {
            if (!RegularFile.Open(path).TryGet(out SafeFileHandle? file, out ProcFailure failure))
            {
                problems.Add(failure.Detail);
                continue;
            }
            using (file)
            {
                switch (CLibrary.Examine(file))
                {
                    case { Family: { } family }:
                        known.Add($"{family} ({path})");
                        break;
                    case { Problem: { } problem }:
                        problems.Add($"{path}: {problem}");
                        break;
                    default:
                        break;
                }
            }
        }
        return problems.Count > 0 ? Finding.Warning("c_libraries", string.Join("; ", problems), $"{Means}: one that uses this is unknown", "report it with the library's name and version")
            : known.Count > 0 ? Finding.Ok("c_libraries", string.Join(", ", known), Means)
            : Finding.Note("c_libraries", "neither glibc nor musl was found in the usual places", Means);
    }

    private static IEnumerable<string> CLibraryPaths()
    {
        string[] folders = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", .. Directory.Exists("/usr/lib") ? Directory.EnumerateDirectories("/usr/lib", "*-linux-*") : []];
        return folders.Where(Directory.Exists)
            .SelectMany(static folder => Directory.EnumerateFiles(folder, "libc.so.6").Concat(Directory.EnumerateFiles(folder, "ld-musl-*.so.1")).Concat(Directory.EnumerateFiles(folder, "libc.musl-*.so.1")))
            .Select(static path => File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path)
            .Select(static path => path.StartsWith("/lib/", StringComparison.Ordinal) && File.Exists("/usr" + path) && Directory.ResolveLinkTarget("/lib", returnFinalTarget: true) is not null ? "/usr" + path : path)
            .Distinct(StringComparer.Ordinal);
    }
}
