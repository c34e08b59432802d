using System.Globalization;

namespace KamOtel.EndToEndTests;

/// <summary>Names for servers that are this test's own, however many others run on this machine.</summary>
internal static class ServerName
{
    private static int _count;

    /// <summary>One that nobody else has. The kernel keeps 15 bytes.</summary>
    public static string New() => $"e2e{System.Environment.ProcessId}-{Interlocked.Increment(ref _count)}";
}

/// <summary>A real Kamailio in a folder of its own, made and ended by <c>demo/server</c>.</summary>
internal sealed class KamailioServer : IAsyncDisposable
{
    private static readonly string Script = Path.Combine(Requirements.Repository, "demo", "server");

    private readonly Scratch _scratch = new();

    private KamailioServer(string kind) => Kind = kind;

    /// <summary>Each kind in which OpenSSL is called before the first fork.</summary>
    public static IEnumerable<string> Kinds =>
        ["tls", "db_postgres", "db_postgres_tls", "db_mysql", "db_unixodbc", "db_unixodbc_postgres", "http_client"];

    /// <summary>
    /// Each kind whose module calls OpenSSL itself: with <c>--tls-disabled</c> that is the first call. db_postgres does not,
    /// when the database takes clear text only.
    /// </summary>
    public static IEnumerable<string> Callers =>
        ["db_postgres_tls", "db_mysql", "db_unixodbc", "db_unixodbc_postgres", "http_client"];

    /// <summary>What <c>demo/server --help</c> lists: tls, db_postgres, …, none.</summary>
    public string Kind { get; }

    /// <summary>Where it lives.</summary>
    public string Folder => _scratch["server"];

    /// <summary>Its configuration file, which is its target name, too.</summary>
    public string Configuration => Path.Combine(Folder, "kamailio.cfg");

    /// <summary>The certificate that it shows.</summary>
    public string Certificate => Path.Combine(Folder, "tls.crt");

    /// <summary>The process started last, in the foreground.</summary>
    public RunningProgram? Process { get; private set; }

    /// <summary>Certificate, configuration, database: everything but Kamailio itself runs afterwards.</summary>
    /// <param name="kind">What <c>demo/server prepare --with</c> takes.</param>
    /// <param name="workers">How many it has for UDP, and as many for TLS.</param>
    /// <param name="tlsDisabled">OpenSSL's first call is the database's or libcurl's; there is no TLS.</param>
    public static async Task<KamailioServer> Prepare(string kind, int workers = 2, bool tlsDisabled = false)
    {
        Requirements.Kamailio(kind);
        var server = new KamailioServer(kind);
        try
        {
            string[] options = ["--with", kind, "--workers", $"{workers}", .. tlsDisabled ? ["--tls-disabled"] : Array.Empty<string>()];
            Ended ended = await RunningProgram.Run(Script, ["prepare", server.Folder, .. options], patience: TimeSpan.FromSeconds(120));
            ended.Code.ShouldBe(0, ended.ToString());
            return server;
        }
        catch
        {
            await server.DisposeAsync();
            throw;
        }
    }

    /// <summary>Runs Kamailio in the foreground and waits until a worker answers.</summary>
    /// <returns>The process identifier of the exec, which stays.</returns>
    public async Task<int> Start()
    {
        int root = Exec();
        await WaitUntilUp();
        return root;
    }

    /// <summary>
    /// The same under a name that no other process of this machine has. So whoever watches that name sees nothing but
    /// what this test started.
    /// </summary>
    /// <param name="name">From <see cref="ServerName.New"/>.</param>
    /// <param name="options">More of Kamailio's options.</param>
    public Task<int> StartAs(string name, params string[] options) => StartAs(name, options, new Dictionary<string, string?>());

    /// <inheritdoc cref="StartAs(string, string[])"/>
    /// <param name="environment">More in its environment.</param>
    public async Task<int> StartAs(string name, string[] options, IReadOnlyDictionary<string, string?> environment)
    {
        string[] command = await CommandAs(name);
        Dictionary<string, string?> all = await Environment();
        foreach ((string variable, string? value) in environment)
        {
            all[variable] = value;
        }
        Process = RunningProgram.Start(command[0], [.. command[1..], .. options], all);
        await WaitUntilUp();
        return Process.Pid;
    }

    /// <summary>The same where another program runs Kamailio, and ends with it: a debugger.</summary>
    /// <param name="program">That program.</param>
    /// <param name="arguments">Its arguments, without Kamailio's command line, which follows them.</param>
    /// <param name="name">From <see cref="ServerName.New"/>.</param>
    public async Task StartUnder(string program, string[] arguments, string name)
    {
        Process = RunningProgram.Start(program, [.. arguments, .. await CommandAs(name)], await Environment());
        await WaitUntilUp();
    }

    /// <summary>Runs Kamailio in the foreground and waits for nothing.</summary>
    /// <returns>The process identifier of the exec, which stays.</returns>
    public int Exec()
    {
        Process = RunningProgram.Start(Script, ["exec", Folder]);
        return Process.Pid;
    }

    /// <summary>Waits until a worker answers over UDP.</summary>
    public async Task WaitUntilUp()
    {
        await using RunningProgram wait = RunningProgram.Start(Script, ["wait", Folder, "60"]);
        await Until.True(
            "Kamailio to answer",
            () =>
            {
                (Process?.Alive ?? true).ShouldBeTrue($"Kamailio ended before it answered\n{Process}");
                return !wait.Alive;
            },
            TimeSpan.FromSeconds(90),
            ToString);
        string doing = ToString();
        Ended ended = await wait.End();
        ended.Code.ShouldBe(0, $"{ended}\n{doing}");
    }

    /// <summary>One TLS handshake and a request through it.</summary>
    public async Task Handshake()
    {
        Ended ended = await RunningProgram.Run(Script, ["handshake", Folder]);
        ended.Code.ShouldBe(0, $"{ended}\n-- Kamailio\n{Process}");
    }

    /// <summary>Where it takes TLS.</summary>
    public async Task<int> TlsPort()
    {
        const string Name = "tls_port=";
        string[] lines = await File.ReadAllLinesAsync(Path.Combine(Folder, "server"));
        return int.Parse(
            lines.Single(static line => line.StartsWith(Name, StringComparison.Ordinal))[Name.Length..], CultureInfo.InvariantCulture);
    }

    /// <summary>The command line in the foreground.</summary>
    public async Task<string[]> Command() => await Lines("command");

    /// <summary>What the command needs in its environment.</summary>
    public async Task<Dictionary<string, string?>> Environment() =>
        (await Lines("environment")).Select(static line => line.Split('=', 2))
            .ToDictionary(static pair => pair[0], static pair => (string?)pair[1]);

    /// <summary>The process identifier that a daemonised Kamailio wrote down.</summary>
    public async Task<int> PidFile() => int.Parse(
        await Until.Found("Kamailio's pid file", () =>
        {
            string path = Path.Combine(Folder, "kamailio.pid");
            string text = File.Exists(path) ? File.ReadAllText(path).Trim() : "";
            return text.Length > 0 ? text : null;
        }),
        CultureInfo.InvariantCulture);

    /// <summary>Ends Kamailio; the folder and the database stay until the test ends.</summary>
    public async Task<Ended> Stop()
    {
        RunningProgram process = Process ?? throw new InvalidOperationException("it was not started");
        process.Send(Signal.Terminate);
        return await process.End();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _ = await RunningProgram.Run(Script, ["stop", Folder]);
        if (Process is not null)
        {
            await Process.DisposeAsync();
        }
        _scratch.Dispose();
    }

    /// <summary>For messages: what each of its processes is at, and what they said.</summary>
    public override string ToString() =>
        $"-- Kamailio's processes\n{string.Join('\n', Proc.Mentioning(Configuration).Select(Proc.Doing))}\n-- Kamailio\n{Process}";

    /// <summary>The command line in the foreground, under a name that no other process has.</summary>
    public async Task<string[]> CommandAs(string name)
    {
        string[] command = await Command();
        string link = Path.Combine(Folder, name);
        if (!File.Exists(link))
        {
            _ = File.CreateSymbolicLink(link, command[0]);
        }
        return [link, .. command[1..]];
    }

    private async Task<string[]> Lines(string subcommand)
    {
        Ended ended = await RunningProgram.Run(Script, [subcommand, Folder]);
        ended.Code.ShouldBe(0, ended.ToString());
        return ended.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
