using System.Globalization;

namespace KamOtel.EndToEndTests;

/// <summary>A real Kamailio in a folder of its own, made and ended by <c>demo/server</c>.</summary>
internal sealed class KamailioServer : IAsyncDisposable
{
    private static readonly string Script = Path.Combine(Requirements.Repository, "demo", "server");

    private readonly Scratch _scratch = new();

    private KamailioServer(string kind) => Kind = kind;

    /// <summary>tls, db_postgres, db_mysql or db_unixodbc.</summary>
    public string Kind { get; }

    /// <summary>Where it lives.</summary>
    public string Folder => _scratch["server"];

    /// <summary>Its configuration file, which is its target name, too.</summary>
    public string Configuration => Path.Combine(Folder, "kamailio.cfg");

    /// <summary>The process started last, in the foreground.</summary>
    public RunningProgram? Process { get; private set; }

    /// <summary>Certificate, configuration, database: everything but Kamailio itself runs afterwards.</summary>
    public static async Task<KamailioServer> Prepare(string kind)
    {
        Requirements.Kamailio(kind);
        var server = new KamailioServer(kind);
        try
        {
            Ended ended = await RunningProgram.Run(Script, ["prepare", server.Folder, "--with", kind], patience: TimeSpan.FromSeconds(120));
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
        Process = RunningProgram.Start(Script, ["exec", Folder]);
        await WaitUntilUp();
        return Process.Pid;
    }

    /// <summary>Waits until a worker answers over UDP.</summary>
    public async Task WaitUntilUp()
    {
        Ended ended = await RunningProgram.Run(Script, ["wait", Folder, "60"], patience: TimeSpan.FromSeconds(90));
        ended.Code.ShouldBe(0, $"{ended}\n-- Kamailio\n{Process}");
    }

    /// <summary>One TLS handshake and a request through it.</summary>
    public async Task Handshake()
    {
        Ended ended = await RunningProgram.Run(Script, ["handshake", Folder]);
        ended.Code.ShouldBe(0, $"{ended}\n-- Kamailio\n{Process}");
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

    private async Task<string[]> Lines(string subcommand)
    {
        Ended ended = await RunningProgram.Run(Script, [subcommand, Folder]);
        ended.Code.ShouldBe(0, ended.ToString());
        return ended.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }
}
