namespace KamOtel.EndToEndTests;

/// <summary><c>kamotel scan</c> at the prompt: table, colours, exit codes, messages.</summary>
public sealed class ScanTests
{
    private const string Escape = "\u001b[";

    [Fact]
    public async Task Servers_of_both_kinds_are_all_listed_and_the_worst_gives_the_exit_code()
    {
        await using KamailioServer none = await KamailioServer.Prepare("none");
        await using KamailioServer tls = await KamailioServer.Prepare("tls");
        string name = ServerName.New(), other = ServerName.New();
        int healthy = await none.StartAs(name);
        int ill = await tls.StartAs(other);

        Ended good = await Scan.Run("--watch", name);
        good.Code.ShouldBe(0, good.ToString());
        Row(good, none).ShouldContain("safe");
        good.Output.ShouldNotContain(tls.Configuration);

        Ended bad = await Scan.Run("--watch", other);
        bad.Code.ShouldBe(1, bad.ToString());
        Row(bad, tls).ShouldContain("hazard");

        Ended both = await Scan.Run("--watch", name, "--watch", other);
        both.Code.ShouldBe(1, both.ToString());
        Row(both, none).ShouldContain("safe");
        Row(both, none).ShouldContain($"{healthy}");
        Row(both, tls).ShouldContain("hazard");
        Row(both, tls).ShouldContain($"{ill}");
        both.Errors.ShouldBeEmpty();

        ScanReport report = await Scan.Json("--watch", name, "--watch", other);
        report.Instances.Select(static instance => (instance.RootPid, instance.Verdict))
            .ShouldBe([(healthy, "safe"), (ill, "hazard")], ignoreOrder: true);
        report.ExitCode().ShouldBe(1);
    }

    [Fact]
    public async Task There_is_colour_on_a_terminal_and_where_it_is_asked_for_and_nowhere_else()
    {
        Requirements.Bpf();
        Requirements.Program("script");
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        _ = await server.StartAs(name);

        Ended piped = await Scan.Run("--watch", name);
        piped.Output.ShouldNotContain(Escape);
        Row(piped, server).ShouldContain("hazard");
        (await Scan.Run("--watch", name, "--color", "auto")).Output.ShouldBe(piped.Output);
        (await Scan.Run("--watch", name, "--color", "never")).Output.ShouldBe(piped.Output);
        Ended always = await Scan.Run("--watch", name, "--color", "always");
        always.Output.ShouldContain(Escape);
        WithoutColour(always.Output).ShouldBe(piped.Output);

        Ended terminal = await AtTerminal($"scan --watch {name}");
        terminal.Output.ShouldContain(Escape);
        WithoutColour(terminal.Output).ShouldBe(piped.Output);
        (await AtTerminal($"scan --watch {name} --color never")).Output.ShouldBe(piped.Output);
        (await AtTerminal($"scan --watch {name}", ("NO_COLOR", "1"))).Output.ShouldBe(piped.Output);
        (await AtTerminal($"scan --watch {name}", ("NO_COLOR", ""))).Output.ShouldContain(Escape);
        (await AtTerminal($"scan --watch {name} --color always", ("NO_COLOR", "1"))).Output.ShouldContain(Escape);
        // JSON is for programs, wherever it goes.
        (await AtTerminal($"scan --watch {name} --json")).Output.ShouldNotContain(Escape);
        (await Scan.Run("--watch", name, "--json", "--color", "always")).Output.ShouldNotContain(Escape);
    }

    [Fact]
    public async Task Without_a_server_a_scan_could_not_tell_and_says_so()
    {
        string name = ServerName.New();
        Ended ended = await Scan.Run("--watch", name);

        ended.Code.ShouldBe(2, ended.ToString());
        ended.Output.ShouldBeEmpty();
        ended.Errors.ShouldStartWith("kamotel: ");
        ended.Errors.ShouldContain("no server");
        ended.Errors.ShouldContain(name);
        Message.IsOne(ended);

        Ended json = await Scan.Run("--json", "--watch", name);
        json.Code.ShouldBe(2, json.ToString());
        json.Errors.ShouldBe(ended.Errors);
        ScanReport.Parse(json.Output).Instances.ShouldBeEmpty();
    }

    [Fact]
    public async Task Without_the_privilege_a_scan_could_not_tell_and_says_what_helps()
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        _ = await server.StartAs(name);
        // Where nobody may go in, a copy does.
        using var scratch = new Scratch();
        File.Copy(Requirements.Binary, scratch["kamotel"]);
        File.SetUnixFileMode(scratch["kamotel"], (UnixFileMode)Convert.ToInt32("755", 8));

        Ended ended = await RunningProgram.Run(
            "setpriv", ["--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", scratch["kamotel"], "scan", "--watch", name]);

        ended.Code.ShouldBe(2, ended.ToString());
        ended.Output.ShouldNotContain("safe");
        ended.Errors.ShouldStartWith("kamotel: ");
        ended.Errors.ShouldContain("root");
        Message.IsOne(ended);
    }

    [Theory]
    [InlineData("--no-such-option")]
    [InlineData("--color", "sometimes")]
    [InlineData("--settle", "soon")]
    [InlineData("--settle", "-1")]
    [InlineData("--watch")]
    [InlineData("--listen", "127.0.0.1:0")]
    [InlineData("everything")]
    public async Task A_usage_error_ends_with_code_64_and_points_to_the_help(params string[] options)
    {
        Ended ended = await Scan.Run(options);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Output.ShouldBeEmpty();
        ended.Errors.ShouldStartWith("kamotel: error: ");
        ended.Errors.ShouldContain("--help");
        Message.IsOne(ended);
    }

    [Fact]
    public async Task Help_tells_options_and_exit_codes()
    {
        Requirements.Agent();
        Ended help = await RunningProgram.Run(Requirements.Binary, ["scan", "--help"]);

        help.Code.ShouldBe(0, help.ToString());
        help.Errors.ShouldBeEmpty();
        foreach (string told in new[] { "--json", "--watch", "--color", "--settle", "0 ", "1 ", "2 ", "64 ", "root" })
        {
            help.Output.ShouldContain(told);
        }
        help.Output.Split('\n').ShouldAllBe(static line => !line.StartsWith("   at ", StringComparison.Ordinal));
        Ended all = await RunningProgram.Run(Requirements.Binary, ["--help"]);
        all.Output.ShouldMatch(@"(?m)^  scan\b");
    }

    [Theory]
    [InlineData("scan --watch")]
    [InlineData("scan --json --watch")]
    public async Task A_reader_that_went_away_is_no_reason_to_crash(string command)
    {
        Requirements.Bpf();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        _ = await server.StartAs(name);

        // The reader is gone for certain before the scan begins.
        Ended ended = await RunningProgram.Run(
            "bash", ["-c", $"exec 3> >(:); wait $!; \"$0\" {command} {name} >&3", Requirements.Binary]);
        // By SIGPIPE, as other programs, or with the verdict.
        ended.Code.ShouldBeOneOf(1, 128 + 13);
        Message.IsOne(ended);

        Ended head = await RunningProgram.Run(
            "bash", ["-c", $"\"$0\" {command} {name} | head -c0; exit ${{PIPESTATUS[0]}}", Requirements.Binary]);
        head.Code.ShouldBeOneOf(1, 128 + 13);
        Message.IsOne(head);
    }

    [Fact]
    public async Task A_scan_leaves_nothing_behind_and_its_server_running()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        int root = await server.StartAs(name);
        int[] before = Proc.Descendants(root);
        using var scratch = new Scratch();

        Ended ended = await RunningProgram.Run(
            Requirements.Binary, ["scan", "--watch", name], new Dictionary<string, string?> { ["TMPDIR"] = scratch.Folder });

        ended.Code.ShouldBe(1, ended.ToString());
        Directory.EnumerateFileSystemEntries(scratch.Folder).ShouldBeEmpty();
        Proc.Mentioning($"TMPDIR={scratch.Folder}").ShouldBeEmpty();
        Proc.Descendants(root).ShouldBe(before, ignoreOrder: true);
        await server.Handshake();
    }

    // The line that begins a server's part of the table.
    private static string Row(Ended ended, KamailioServer server) =>
        ended.Output.Split('\n').Where(line => line.Contains(server.Configuration, StringComparison.Ordinal)).ShouldHaveSingleItem(ended.ToString());

    private static string WithoutColour(string text) =>
        System.Text.RegularExpressions.Regex.Replace(text, "\u001b\\[[0-9;]*m", "");

    // A pseudo-terminal, whose lines end with carriage return and line feed.
    private static async Task<Ended> AtTerminal(string command, params (string Name, string Value)[] environment)
    {
        var variables = new Dictionary<string, string?> { ["NO_COLOR"] = null, ["TERM"] = "xterm" };
        foreach ((string name, string value) in environment)
        {
            variables[name] = value;
        }
        Ended ended = await RunningProgram.Run("script", ["--quiet", "--return", "--command", $"'{Requirements.Binary}' {command}", "/dev/null"], variables);
        ended.Code.ShouldBe(1, ended.ToString());
        return ended with { Output = ended.Output.Replace("\r\n", "\n", StringComparison.Ordinal) };
    }
}
