using System.Text;
using System.Xml.Linq;

namespace KamOtel.EndToEndTests;

/// <summary><c>kamotel check</c> on real configurations: the gate, and what it does to the server and leaves of it.</summary>
public sealed class CheckTests
{
    private static readonly string[] Quick = ["check", "--settle", "0.3", "--for", "100ms"];

    [Fact]
    public async Task Tls_before_the_fork_does_not_pass_and_every_report_says_so()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        // Of another name than is watched, and yet plainly a SIP server.
        string[] command = await server.CommandAs(ServerName.New());
        Ended ended = await RunningProgram.Run(Requirements.Binary, [.. Quick, "--json", "--junit", scratch["junit.xml"], "--", .. command]);

        ended.Code.ShouldBe(1, ended.ToString());
        ScanSchemaTests.Faults(ended.Output).ShouldBeEmpty(ended.ToString());
        ScanReport report = ScanReport.Parse(ended.Output);
        report.ExitCode().ShouldBe(1);
        ScannedInstance found = report.Instances.ShouldHaveSingleItem();
        (found.Target, found.Verdict, found.Kamailio).ShouldBe((server.Configuration, "hazard", "5.6.3"));
        found.Coverage.SinceExec.ShouldBeTrue();
        found.Coverage.Inspected.ShouldBe(found.Processes);
        found.SharedSlots.Select(static slot => slot.Author).ShouldAllBe(static author => author == "tls");
        CheckedCommand told = report.Commands.ShouldHaveSingleItem();
        (told.Verdict, told.ExitCode, told.Signal, told.Stopped, told.Killed).ShouldBe(("hazard", 0, null, true, 0));
        told.RootPids.ShouldBe([found.RootPid]);
        ended.Errors.ShouldContain("Thank you for flying kamailio");
        ended.Errors.ShouldContain("Listening on");
        ended.Errors.ShouldNotContain("kamotel:");

        XElement test = XDocument.Load(scratch["junit.xml"]).Descendants("testcase").ShouldHaveSingleItem();
        test.Attribute("name")!.Value.ShouldBe(server.Configuration);
        test.Element("failure")!.Attribute("message")!.Value.ShouldBe(found.Reason);
        Proc.Mentioning(server.Configuration).ShouldBeEmpty();
    }

    [Fact]
    public async Task Of_several_configurations_there_is_one_table_and_the_worst_exit_code()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        await using KamailioServer none = await KamailioServer.Prepare("none");
        await using KamailioServer tls = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        string program = (await none.CommandAs(name))[0];
        string absent = scratch["absent.cfg"];
        // Daemons: the command itself returns as soon as they run.
        string[] each = ["--each", none.Configuration, tls.Configuration, "--each", absent, "--", program, "-f", "{}", "-P", scratch["pid"], "-w", scratch.Folder];
        Ended ended = await RunningProgram.Run(Requirements.Binary, [.. Quick, "--junit", scratch["junit.xml"], .. each]);

        ended.Code.ShouldBe(1, ended.ToString());
        string table = ended.Output[ended.Output.IndexOf("VERDICT", StringComparison.Ordinal)..];
        string[] rows = [.. table.Split('\n').Where(static line => line.Length > 0 && line[0] != ' ')];
        rows.Length.ShouldBe(4, table);
        rows[1].ShouldMatch($@"^safe +5\.6\.3 +- +0 +- +{none.Configuration}$");
        rows[2].ShouldMatch($@"^hazard +5\.6\.3 +\S+ +2 +tls +{tls.Configuration}$");
        rows[3].ShouldMatch($@"^unknown +- +- +- +- +{absent}$");
        table.ShouldContain("the server ended after SIGTERM: exit code 0");
        table.ShouldContain("the server ended before it was ready: exit code 255");
        XElement[] tests = [.. XDocument.Load(scratch["junit.xml"]).Descendants("testcase")];
        tests.Select(static test => test.Elements().Single().Name.LocalName).ShouldBe(["system-out", "failure", "error"]);
        Proc.Mentioning(none.Configuration).ShouldBeEmpty();
        Proc.Mentioning(tls.Configuration).ShouldBeEmpty();

        Ended blind = await RunningProgram.Run(Requirements.Binary, [.. Quick, "--each", absent, .. each[^8..]]);
        blind.Code.ShouldBe(2, blind.ToString());
    }

    [Fact]
    public async Task A_script_that_starts_the_server_passes_when_both_are_well()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        await using KamailioServer server = await KamailioServer.Prepare("none");
        string name = ServerName.New();
        string[] command = await server.CommandAs(name);
        await File.WriteAllTextAsync(
            scratch["script"],
            // It waits, tests, ends the server and says how that went.
            """
            "$@" & server=$!
            trap 'kill $server; wait $server; echo "server: $?" >&2; exit 0' TERM
            [ -z "$AFTER" ] || { sleep "$AFTER"; kill -"$SIGNAL" $server; wait $server; exit "$RESULT"; }
            wait
            """,
            TestContext.Current.CancellationToken);
        string[] check = [.. Quick, "--watch", name, "--", "sh", scratch["script"], .. command];
        Ended stopped = await RunningProgram.Run(Requirements.Binary, check);
        stopped.Code.ShouldBe(0, stopped.ToString());
        stopped.Output.ShouldContain($"safe     5.6.3     -        0      -       {server.Configuration}\n");
        stopped.Output.ShouldContain("  command: exit code 0 after SIGTERM\n");
        stopped.Errors.ShouldContain("server: 0\n");

        string[] later = [.. check.Select(static word => word == "100ms" ? "30s" : word)];
        Dictionary<string, string?> Script(string signal, string result) => new() { ["AFTER"] = "2.5", ["SIGNAL"] = signal, ["RESULT"] = result };
        Ended ended = await RunningProgram.Run(Requirements.Binary, later, Script("TERM", "0"));
        ended.Code.ShouldBe(0, ended.ToString());
        ended.Output.ShouldContain("  command: exit code 0\n");
        Ended failed = await RunningProgram.Run(Requirements.Binary, later, Script("TERM", "3"));
        failed.Code.ShouldBe(2, failed.ToString());
        failed.Output.ShouldContain("  the command failed: exit code 3\n");
        Ended killed = await RunningProgram.Run(Requirements.Binary, later, Script("KILL", "0"));
        killed.Code.ShouldBe(2, killed.ToString());
        killed.Output.ShouldContain("the server ended by itself before the check was over: signal 9 (SIGKILL); until then it was safe");
        Proc.Mentioning(server.Configuration).ShouldBeEmpty();
    }

    [Fact]
    public async Task A_crash_of_a_server_with_a_hazard_is_no_mere_early_end()
    {
        Requirements.Bpf();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        string name = ServerName.New();
        string[] command = await server.CommandAs(name);
        await using RunningProgram check = RunningProgram.Start(Requirements.Binary, ["check", "--settle", "0.3", "--for", "60s", "--", .. command]);
        int[] workers = await Workers(server, check);
        // One that takes longer to see it: when it has, the check knows it, too.
        (await RunningProgram.Run(Requirements.Binary, ["scan", "--watch", name])).Code.ShouldBe(1);
        Libc.Send(workers[^1], Signal.SegmentationFault).ShouldBeTrue();
        Ended ended = await check.End();
        ended.Code.ShouldBe(1, ended.ToString());
        ended.Output.ShouldContain("corrupted");
        ended.Output.ShouldContain("signal 11 (SIGSEGV)");
        ended.Output.ShouldContain("  command: exit code 1\n");
        Proc.Mentioning(server.Configuration).ShouldBeEmpty();
    }

    [Fact]
    public async Task What_is_no_server_or_never_ready_cannot_be_told_and_the_reason_is_said()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string name = ServerName.New();
        File.Copy("/usr/bin/sleep", scratch[name]);

        Ended never = await RunningProgram.Run(Requirements.Binary, [.. Quick, "--ready-within", "500ms", "--watch", name, "--", scratch[name], "1000"]);
        never.Code.ShouldBe(2, never.ToString());
        never.Output.ShouldContain("the server was not ready within 0.5 s: it has no worker");
        Ended other = await RunningProgram.Run(Requirements.Binary, [.. Quick, "--ready-within", "500ms", "--", scratch[name], "1000"]);
        other.Code.ShouldBe(2, other.ToString());
        other.Output.ShouldContain($"no server called kamailio or opensips was started: what runs is called {name}; --watch NAME checks one of another name");
        Proc.Mentioning(scratch.Folder).ShouldBeEmpty();
    }

    [Fact]
    public async Task The_command_finds_all_as_it_was_and_what_it_writes_comes_out_byte_for_byte()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        await File.WriteAllTextAsync(
            scratch["script"],
            """
            cat; printf 'a\0b\377\n'; printf '\376err\0' >&2
            pwd; umask; ulimit -a; env | grep -v '^_=' | sort | sha256sum; grep '^SigBlk' /proc/self/status; printf '%x\n' $((0x$(awk '/^SigIgn/ { print $2 }' /proc/self/status) & ~0x180000000)); nice; ls /proc/self/fd | wc -l; echo "$@"
            exit 3
            """,
            TestContext.Current.CancellationToken);
        // Signals 32 and 33 are the C library's own, and no program's to ignore.
        // This runtime ignores SIGPIPE and leaves it so to those that it starts; kamotel's does, and does not.
        async Task Run(string prefix, string to) => (await RunningProgram.Run(
            "env",
            ["--default-signal=PIPE", "bash", "-c", $"cd / && umask 027 && ulimit -Sn 512 && trap '' HUP USR2 && printf 'in\\0put' | nice -n 3 {prefix} bash {scratch["script"]} 'a b' '' '{{}}' @x --json >{scratch[to]} 2>{scratch[to]}.err"])).Errors.ShouldBeEmpty();
        await Run("", "direct");
        await Run($"{Requirements.Binary} {string.Join(' ', Quick)} --watch {ServerName.New()} --", "checked");

        // A character a byte.
        Task<string> Bytes(string name) => File.ReadAllTextAsync(scratch[name], Encoding.Latin1, TestContext.Current.CancellationToken);
        string direct = await Bytes("direct"), output = await Bytes("checked");
        direct.ShouldStartWith("in\0puta\0b\u00ff\n");
        output[..Math.Min(direct.Length, output.Length)].ShouldBe(direct);
        output[direct.Length..].ShouldMatch("(?s)^VERDICT.*command: exit code 3\n$");
        (await Bytes("checked.err")).ShouldBe(await Bytes("direct.err"));

        Requirements.Program("script");
        Ended terminal = await RunningProgram.Run(
            "script", ["-qec", $"{Requirements.Binary} {string.Join(' ', Quick)} --watch {ServerName.New()} -- sh -c 'test -t 0 && test -t 1 && test -t 2 && echo terminals'", "/dev/null"]);
        terminal.Output.ShouldContain("terminals");
    }

    [Fact]
    public async Task A_signal_stops_both_in_order_whenever_it_comes()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        await using KamailioServer server = await KamailioServer.Prepare("none");
        string[] command = await server.CommandAs(ServerName.New());

        // While it attaches: the command is not even begun.
        await using (RunningProgram attaching = RunningProgram.Start(Requirements.Binary, [.. Quick, "--", "sh", "-c", $"echo > {scratch["begun"]}; sleep 1000"]))
        {
            await Until.True("kamotel to handle signals", () => File.ReadAllText($"/proc/{attaching.Pid}/status").Split('\n').Any(static line => line.StartsWith("SigCgt:", StringComparison.Ordinal) && Convert.ToUInt64(line[7..].Trim(), 16) is var caught && (caught & (1 << 1)) != 0 && (caught & (1 << 14)) != 0));
            attaching.Send(Signal.Interrupt);
            Ended early = await attaching.End();
            early.Code.ShouldBe(2, early.ToString());
            early.Output.ShouldContain("SIGINT came before the command was run");
            File.Exists(scratch["begun"]).ShouldBeFalse();
        }

        // Before it is ready.
        await using (RunningProgram starting = RunningProgram.Start(Requirements.Binary, ["check", "--settle", "60", "--", .. command]))
        {
            _ = await Workers(server, starting);
            starting.Send(Signal.Terminate);
            Ended ended = await starting.End();
            ended.Code.ShouldBe(2, ended.ToString());
            ended.Output.ShouldContain("SIGTERM came before the check was over");
            ended.Output.ShouldContain("command: exit code 0 after SIGTERM");
            Proc.Mentioning(server.Configuration).ShouldBeEmpty();
        }

        // A second one does not wait for what takes no notice.
        await using RunningProgram stubborn = RunningProgram.Start(
            Requirements.Binary, [.. Quick, "--stop-within", "10m", "--", "sh", "-c", $"trap '' TERM; echo > {scratch["begun"]}; while :; do sleep 0.1; done"]);
        await Until.True("the command to run", () => File.Exists(scratch["begun"]), state: stubborn.ToString);
        int[] family = Proc.Descendants(stubborn.Pid);
        stubborn.Send(Signal.Interrupt);
        await Task.Delay(300, TestContext.Current.CancellationToken);
        stubborn.Alive.ShouldBeTrue("it has time");
        stubborn.Send(Signal.Interrupt);
        Ended killed = await stubborn.End();
        killed.Code.ShouldBe(2, killed.ToString());
        killed.Output.ShouldContain("killed, as a second signal asked for");
        family.ShouldNotContain(static pid => Proc.Alive(pid));
    }

    [Fact]
    public async Task Who_kills_kamotel_leaves_no_orphan()
    {
        Requirements.Bpf();
        await using KamailioServer foreground = await KamailioServer.Prepare("none");
        await using KamailioServer daemon = await KamailioServer.Prepare("none");
        async Task<RunningProgram> Start(KamailioServer server) => RunningProgram.Start(
            Requirements.Binary, ["check", "--for", "1h", "--", .. (await server.CommandAs(ServerName.New())).Where(word => server == foreground || word is not ("-DD" or "-E"))]);
        await using RunningProgram first = await Start(foreground), second = await Start(daemon);
        int[] family = [.. await Workers(foreground, first), .. await Workers(daemon, second), .. Proc.Descendants(first.Pid), .. Proc.Descendants(second.Pid)];
        first.Send(Signal.Kill);
        second.Send(Signal.Kill);
        await Until.True("all of it to end", () => !family.Any(Proc.Alive) && Proc.Mentioning(foreground.Configuration).Length == 0 && Proc.Mentioning(daemon.Configuration).Length == 0);
    }

    [Fact]
    public async Task Where_nothing_can_be_watched_nothing_is_run()
    {
        Requirements.Bpf();
        Requirements.Program("setpriv");
        Requirements.Program("unshare");
        using var scratch = new Scratch();
        string[] check = [Requirements.Binary, .. Quick, "--junit", scratch["junit.xml"], "--", "touch", scratch["begun"]];
        Ended denied = await RunningProgram.Run("setpriv", ["--bounding-set=-all", "--inh-caps=-all", "--", .. check]);
        denied.Code.ShouldBe(77, denied.ToString());
        denied.Errors.ShouldContain("CAP_BPF and CAP_PERFMON missing");
        XDocument.Load(scratch["junit.xml"]).Descendants("error").ShouldHaveSingleItem().Attribute("message")!.Value.ShouldContain("CAP_BPF");
        Ended apart = await RunningProgram.Run("unshare", ["--pid", "--fork", "--mount-proc", .. check]);
        apart.Code.ShouldBe(69, apart.ToString());
        apart.Errors.ShouldContain("PID namespace");
        File.Exists(scratch["begun"]).ShouldBeFalse();

        Ended full = await RunningProgram.Run(Requirements.Binary, [.. Quick, "--junit", "/dev/full", "--", "true"]);
        full.Code.ShouldBe(2, full.ToString());
        full.Errors.ShouldContain("/dev/full: the report could not be written to its end");
    }

    /// <summary>The processes that the server has, once its root has forked them.</summary>
    private static async Task<int[]> Workers(KamailioServer server, RunningProgram check) =>
        await Until.Found(
            "the server's workers",
            () => Proc.Mentioning(server.Configuration).Where(pid => pid != check.Pid).ToArray() is { Length: > 5 } found ? found : null,
            state: check.ToString);
}
