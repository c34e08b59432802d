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

    /// <summary>The container image of that agent.</summary>
    public static void Image(string archive) => Need(File.Exists(archive), $"{archive} (make image)");

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
        Module("tls", "tls");
        switch (kind)
        {
            case "db_postgres" or "db_postgres_tls":
                Module("db_postgres", kind);
                Postgres(kind);
                break;
            case "db_mysql":
                Module(kind, kind);
                Program("mariadbd");
                break;
            case "db_unixodbc":
                Module(kind, kind);
                Program("mariadbd");
                Library("odbc/libmaodbc.so", kind);
                break;
            case "db_unixodbc_postgres":
                Module("db_unixodbc", kind);
                Postgres(kind);
                Library("odbc/psqlodbca.so", kind);
                break;
            case "http_client":
                Module(kind, kind);
                break;
        }
    }

    private static void Postgres(string kind) =>
        Need(Directory.Exists("/usr/lib/postgresql"), $"PostgreSQL (scripts/setup {kind})");

    private static void Module(string name, string kind) => Library($"kamailio/modules/{name}.so", kind);

    private static void Library(string path, string kind) =>
        Need(Directory.EnumerateDirectories("/usr/lib").Any(folder => File.Exists($"{folder}/{path}")), $"{path} (scripts/setup {kind})");

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
