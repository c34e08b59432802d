namespace KamOtel.EndToEndTests;

/// <summary>
/// What a test needs of the machine. Where something is missing the test is skipped, naming it; with CI=true it fails.
/// </summary>
internal static class Requirements
{
    /// <summary>The repository: the folder with KamOtel.sln.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>The agent's binary: what KAMOTEL_BINARY names, else <c>out/kamotel</c>.</summary>
    public static string Binary { get; } =
        Environment.GetEnvironmentVariable("KAMOTEL_BINARY") is { Length: > 0 } given
            ? Path.GetFullPath(given)
            : Path.Combine(Repository, "out", "kamotel");

    /// <summary>The agent as an executable.</summary>
    public static void Agent() => Need(File.Exists(Binary), $"{Binary} (make build, or set KAMOTEL_BINARY)");

    /// <summary>Root on a kernel with BTF, and the agent.</summary>
    public static void Bpf()
    {
        Agent();
        Need(Libc.EffectiveUser() == 0, "root");
        Need(File.Exists("/sys/kernel/btf/vmlinux"), "a kernel with BTF (/sys/kernel/btf/vmlinux)");
    }

    /// <summary>A program in the search path.</summary>
    public static void Program(string name) => Need(Find(name) is not null, $"the program {name} (scripts/setup test)");

    /// <summary>Kamailio with what <c>demo/server</c> needs for this kind.</summary>
    public static void Kamailio(string kind)
    {
        Program("kamailio");
        if (kind == "none")
        {
            return;
        }
        Program("openssl");
        Module("tls");
        if (kind != "tls")
        {
            Module(kind);
            if (kind == "db_postgres")
            {
                Need(Directory.Exists("/usr/lib/postgresql"), "PostgreSQL (scripts/setup db_postgres)");
            }
            else
            {
                Program("mariadbd");
            }
        }
    }

    private static void Module(string name) =>
        Need(
            Directory.EnumerateDirectories("/usr/lib").Any(library => File.Exists($"{library}/kamailio/modules/{name}.so")),
            $"Kamailio's module {name} (scripts/setup {name})");

    private static void Need(bool there, string what)
    {
        if (there)
        {
            return;
        }
        if (Environment.GetEnvironmentVariable("CI") == "true")
        {
            Assert.Fail($"Missing: {what}. With CI=true nothing may be missing.");
        }
        Assert.Skip($"missing: {what}");
    }

    private static string? Find(string program) =>
        $"{Environment.GetEnvironmentVariable("PATH")}:/usr/sbin:/sbin".Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(folder => Path.Combine(folder, program))
            .FirstOrDefault(File.Exists);

    private static string FindRepository()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "KamOtel.sln")))
            {
                return folder.FullName;
            }
        }
        throw new InvalidOperationException($"{AppContext.BaseDirectory} is not inside the repository");
    }
}
