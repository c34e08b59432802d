using System.IO.Compression;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KamOtel.EndToEndTests;

/// <summary>What docs/security.md and <c>kamotel doctor</c> say of a set of capabilities is what then happens to a real server.</summary>
public sealed class DoctorTests
{
    /// <summary>A libcrypto with the one function that Debian's has not: it gets in nobody's way.</summary>
    private const string Tiny = "void CRYPTO_THREAD_clean_local(void) {}\n";

    private const string Root = "root";

    /// <summary>Another user than that of any server.</summary>
    private const string Other = "daemon";

    /// <summary>The list of docs/security.md, and the list without each one: for a user who owns nothing, as that takes most.</summary>
    public static TheoryData<string, string> Cases
    {
        get
        {
            var cases = new TheoryData<string, string> { { Root, "" }, { Other, "" } };
            foreach (string capability in SecurityGuide.Capabilities)
            {
                cases.Add(Other, capability);
            }
            return cases;
        }
    }

    /// <summary>And what the doctor says is what happens.</summary>
    [Theory]
    [MemberData(nameof(Cases))]
    public async Task The_capabilities_of_the_guide_are_enough_and_without_one_stops_what_it_says(string user, string missing)
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        using var scratch = new Scratch();
        var agent = new Restricted(scratch, user, [.. (HasUprobeLinks ? SecurityGuide.Capabilities : SecurityGuide.CapabilitiesOfOlderKernels).Where(c => c != missing)]);
        Libraries(scratch);
        string listen = $"127.0.0.1:{Scratch.FreePort()}";
        string[] settings = ["--watch", name, "--listen", listen];

        Ended doctor = await agent.Run(["doctor", "--json", .. settings]);
        doctor.Output.ShouldStartWith("{", customMessage: doctor.ToString());
        Dictionary<string, bool> said = JsonNode.Parse(doctor.Output)!["features"]!.AsArray()
            .Where(static f => f!["id"]!.GetValue<string>() != "otlp")
            .ToDictionary(static f => f!["id"]!.GetValue<string>(), static f => f!["works"]!.GetValue<bool>());
        Dictionary<string, bool> happened = await Happens(server, name, scratch, agent, settings, said);

        Told(happened).ShouldBe(Told(said), $"{user} without {missing}\n{doctor.Output}");
        doctor.Code.ShouldBe(said.Values.All(static works => works) ? 0 : said["watching"] ? 1 : 2);
        IEnumerable<string> stops = missing.Length == 0 ? [] : SecurityGuide.StopsWithout(missing) ?? [.. said.Keys];
        Told(said).ShouldBe(string.Join(' ', stops.Order(StringComparer.Ordinal)), doctor.Output);
    }

    [Fact]
    public async Task A_missing_capability_is_named_with_how_to_give_it_and_only_when_it_is_missed()
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        using var scratch = new Scratch();
        string[] settings = ["--watch", ServerName.New(), "--listen", $"127.0.0.1:{Scratch.FreePort()}"];
        // Who may become another user lets the unwinder do so, and has to end it then.
        foreach ((string missing, string[] more, string finding, string status) in new (string, string[], string, string)[]
        {
            ("CAP_SYS_PTRACE", [], "processes", "failed"), ("CAP_DAC_READ_SEARCH", [], "closed_files", "failed"), ("CAP_KILL", ["CAP_SETUID", "CAP_SETGID"], "unwinder", "warning"),
        })
        {
            var agent = new Restricted(scratch, Root, [.. SecurityGuide.Capabilities.Where(c => c != missing), .. more]);
            Ended ended = await agent.Run(["doctor", "--json", .. settings]);
            JsonNode found = Finding(ended, finding);
            found["status"]!.GetValue<string>().ShouldBe(status, ended.ToString());
            found["remedy"]!.GetValue<string>().ShouldContain($"AmbientCapabilities={missing}");
            found["remedy"]!.GetValue<string>().ShouldContain($"capabilities.add: [{missing["CAP_".Length..]}]");
            JsonNode.Parse(ended.Output)!["findings"]!.AsArray().Where(f => f!["id"]!.GetValue<string>() is not ("capabilities") && f["id"]!.GetValue<string>() != finding && f["id"]!.GetValue<string>() != "replaced_files")
                .ShouldAllBe(f => f!["remedy"] == null || !f["remedy"]!.GetValue<string>().Contains(missing), ended.Output);
        }
    }

    [Fact]
    public async Task Whoever_may_nothing_is_told_so_and_what_is_missing()
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        using var scratch = new Scratch();
        File.Copy(Requirements.Binary, scratch["kamotel"]);
        File.SetUnixFileMode(scratch["kamotel"], (UnixFileMode)Convert.ToInt32("755", 8));

        Ended ended = await RunningProgram.Run(
            "setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", scratch["kamotel"], "doctor", "--listen", $"127.0.0.1:{Scratch.FreePort()}"]);

        ended.Code.ShouldBe(2, ended.ToString());
        ended.Output.ShouldStartWith("`kamotel run` does not start here.\n");
        ended.Output.ShouldContain("give CAP_BPF and CAP_PERFMON: systemd");
        ended.Output.ShouldContain("Unknown here would be\n  - the verdict of a server: ");
        ended.Errors.ShouldBeEmpty();
    }

    [Fact]
    public async Task A_running_server_can_be_inspected_and_an_agent_that_runs_is_no_fault()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        int root = await server.StartAs(name);
        await using AgentProcess agent = await AgentProcess.Start(null, "--watch", ServerName.New());

        Ended ended = await RunningProgram.Run(Requirements.Binary, ["doctor", "--json", "--watch", name, "--listen", agent.Address.Authority]);

        ended.Code.ShouldBe(0, ended.ToString());
        JsonNode found = JsonNode.Parse(ended.Output)!["servers"]!.AsArray().ShouldHaveSingleItem()!;
        found["target"]!.GetValue<string>().ShouldBe(server.Configuration);
        found["rootPid"]!.GetValue<int>().ShouldBe(root);
        found["inspectable"]!.GetValue<bool>().ShouldBeTrue(ended.Output);
        Finding(ended, "listen")["status"]!.GetValue<string>().ShouldBe("note", ended.Output);
    }

    /// <summary>Lets a server live and die under an agent without these capabilities. By feature: does it work?</summary>
    private static async Task<Dictionary<string, bool>> Happens(
        KamailioServer server, string name, Scratch scratch, Restricted restricted, string[] settings, Dictionary<string, bool> said)
    {
        string file = Path.Combine(restricted.Folder, "run.kamotel");
        // What it says of its memory is certain, a server's complaints are not; it lies where servers do, and is found there.
        string complainer = $"/usr/local/sbin/{ServerName.New()}";
        using var complainerFile = new Defer(() => File.Delete(complainer));
        Run("gcc", "-O2", "-o", complainer, Path.Combine(Requirements.Repository, "tests", "targets", "complaints.c"));
        // By its own name, too: so its program's steps are probed before it starts.
        await using RunningProgram agent = restricted.Start(
            ["record", file, .. settings, "--watch", "kamailio", "--watch", Path.GetFileName(complainer), "--settle", "0.3", "--confirm", "0.2", "--library-path", scratch["closed"]]);
        await Until.True("the agent to watch, or to end", () => !agent.Alive || agent.Errors.Contains("listening on ", StringComparison.Ordinal), state: agent.ToString);
        using var client = new HttpClient();
        bool serves = agent.Alive && await client.GetStringAsync(new Uri($"http://{settings[^1]}/healthz")) == "alive\n";
        await using RunningProgram complains = RunningProgram.Start(complainer, ["", "slog", "1"]);
        int root = await server.StartAs(name, [], new Dictionary<string, string?> { ["LD_LIBRARY_PATH"] = scratch["own"], ["LD_PRELOAD"] = scratch["own/libcrypto-own.so"] });

        Dictionary<string, bool> Seen()
        {
            JsonNode[] told = Read(file);
            return new Dictionary<string, bool>
            {
                ["watching"] = told.Any(static t => Is(t, "observed", "exec")),
                ["calls"] = agent.Errors.Split('\n').Any(static l => l.Contains("probes attached to /usr/lib", StringComparison.Ordinal)) && told.Any(static t => Is(t, "observed", "set_local")),
                ["authors"] = told.Any(static t => Is(t, "chain", "set_local") && t["frames"]!.AsArray().Any(static f => f!["module"]?.GetValue<string>() == "tls")),
                ["starts"] = told.Any(static t => Is(t, "step", null) && t["module"] is not null),
                ["complaints"] = told.Any(static t => Is(t, "complained", null)),
                ["confirmation"] = told.Any(static t => Is(t, "confirmed", null)),
                ["last_slots"] = told.Any(static t => Is(t, "dying", null) && t["copy"]!["slots"]?.AsArray().Count > 0),
                ["own_libraries"] = agent.Errors.Contains($"probes attached to {scratch["own"]}", StringComparison.Ordinal),
                ["closed_files"] = agent.Errors.Contains($"probes attached to {scratch["closed"]}", StringComparison.Ordinal),
                ["metrics"] = serves,
            };
        }

        Task UntilSeen(params string[] but) => Until.True(
            "what should work to work", () => Seen() is var seen && said.All(pair => !pair.Value || !seen.TryGetValue(pair.Key, out bool works) || works || but.Contains(pair.Key)),
            TimeSpan.FromSeconds(20), () => $"{Told(Seen())} does not work\n{agent}\n{string.Join('\n', Read(file).Select(static t => t.ToJsonString()))}");

        await UntilSeen("last_slots");
        bool verdict = await Verdict(name, restricted);
        Replace(scratch);
        bool verdictAfterwards = await Verdict(name, restricted);
        Libc.Send(Proc.Children(root)[^1], Signal.SegmentationFault).ShouldBeTrue();
        await Until.True("the server's end", () => !Proc.Alive(root));
        await UntilSeen();
        if (agent.Alive)
        {
            int pid = agent.Pid;
            Libc.Send(pid, Signal.Terminate).ShouldBeTrue();
            Ended ended = await agent.End();
            ended.Code.ShouldBe(0, ended.ToString());
        }
        return new Dictionary<string, bool>(Seen()) { ["verdicts"] = verdict, ["replaced_files"] = verdictAfterwards };
    }

    private static async Task<bool> Verdict(string name, Restricted agent)
    {
        Ended ended = await agent.Run(["scan", "--json", "--watch", name, "--settle", "0.1"]);
        return ended.Output.StartsWith('{') && ScanReport.Parse(ended.Output).Instances.ShouldHaveSingleItem().Verdict == "hazard";
    }

    /// <summary>A C library and a libcrypto of the server's own, and a libcrypto in a folder that nobody but its owner may enter.</summary>
    private static void Libraries(Scratch scratch)
    {
        Libcrypto.CopyTo(scratch["closed"]);
        _ = Directory.CreateDirectory(scratch["own"]);
        File.Copy(LibcPath(), scratch["own/libc.so.6"]);
        File.WriteAllText(scratch["tiny.c"], Tiny);
        Run("gcc", "-shared", "-fPIC", "-o", scratch["own/libcrypto-own.so"], scratch["tiny.c"]);
        Run("chown", "nobody", scratch["closed"]); // Neither the agent's user nor the server's.
        File.SetUnixFileMode(scratch["closed"], (UnixFileMode)Convert.ToInt32("700", 8));
        File.SetUnixFileMode(scratch["own"], (UnixFileMode)Convert.ToInt32("755", 8));
    }

    private static void Replace(Scratch scratch)
    {
        File.Copy(scratch["own/libc.so.6"], scratch["own/new"]);
        File.Move(scratch["own/new"], scratch["own/libc.so.6"], overwrite: true);
    }

    private static string LibcPath() => File.ReadLines("/proc/self/maps").Select(static l => l.Split(' ')[^1]).First(static p => p.EndsWith("/libc.so.6", StringComparison.Ordinal));

    private static void Run(string program, params string[] arguments)
    {
        using var process = System.Diagnostics.Process.Start(program, arguments);
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, $"{program} {string.Join(' ', arguments)}");
    }

    /// <summary>Kernels that have the newer kind of probe, for which CAP_PERFMON is enough.</summary>
    private static bool HasUprobeLinks => OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 6, 6);

    private static JsonNode Finding(Ended ended, string id) =>
        JsonNode.Parse(ended.Output)!["findings"]!.AsArray().First(f => f!["id"]!.GetValue<string>() == id)!;

    /// <summary>What does not work, as a sentence for a comparison.</summary>
    private static string Told(Dictionary<string, bool> features) =>
        string.Join(' ', features.Where(static pair => !pair.Value).Select(static pair => pair.Key).Order(StringComparer.Ordinal));

    private static bool Is(JsonNode told, string what, string? kind) =>
        told["t"]?.GetValue<string>() == what && (kind is null || told["kind"]?.GetValue<string>() == kind);

    /// <summary>The lines that are whole so far.</summary>
    private static JsonNode[] Read(string file)
    {
        if (!File.Exists(file))
        {
            return [];
        }
        using FileStream compressed = new(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        using var text = new StreamReader(new GZipStream(compressed, CompressionMode.Decompress));
        var lines = new List<JsonNode>();
        try
        {
            while (text.ReadLine() is { } line)
            {
                lines.Add(JsonNode.Parse(line)!);
            }
        }
        catch (Exception e) when (e is InvalidDataException or JsonException)
        {
            // The rest is being written.
        }
        return [.. lines];
    }

    /// <summary>kamotel as a user with some capabilities and no other, in a folder where that user may write.</summary>
    private sealed class Restricted
    {
        private readonly string[] _command;

        public Restricted(Scratch scratch, string user, IReadOnlyList<string> capabilities)
        {
            Folder = scratch[user];
            _ = Directory.CreateDirectory(Folder);
            DoctorTests.Run("chown", user, Folder);
            // Where another user may not go in, a copy is.
            File.Copy(Requirements.Binary, scratch["kamotel"], overwrite: true);
            File.SetUnixFileMode(scratch["kamotel"], (UnixFileMode)Convert.ToInt32("755", 8));
            string held = string.Concat(capabilities.Select(static c => $",+{c["CAP_".Length..].ToLowerInvariant()}"));
            string[] identity = user == Root
                ? ["--inh-caps=-all", $"--bounding-set=-all{held}"]
                : [$"--reuid={user}", $"--regid={user}", "--clear-groups", $"--inh-caps=-all{held}", $"--ambient-caps=-all{held}", $"--bounding-set=-all{held}"];
            _command = [.. identity, "--", scratch["kamotel"]];
        }

        public string Folder { get; }

        public Task<Ended> Run(string[] arguments) => RunningProgram.Run("setpriv", [.. _command, .. arguments]);

        public RunningProgram Start(string[] arguments) => RunningProgram.Start("setpriv", [.. _command, .. arguments]);
    }

    private sealed class Defer(Action action) : IDisposable
    {
        public void Dispose() => action();
    }
}
