using System.Text.Json.Nodes;

namespace KamOtel.EndToEndTests;

/// <summary><c>kamotel drill</c>: a hazard of nobody's server, and whether the agent tells it.</summary>
public sealed class DrillTests
{
    [Fact]
    public async Task The_agent_tells_the_hazard_the_call_and_the_end_and_nothing_is_left()
    {
        string name = ServerName.New();
        using var scratch = new Scratch();
        await using AgentProcess agent = await AgentProcess.Start(null, "--watch", name);

        Ended ended = await Drill(agent, scratch, "--name", name);

        ended.Code.ShouldBe(0, ended.ToString());
        ended.Output.ShouldContain($"a drill: {scratch.Folder}/kamotel-drill-");
        ended.Output.ShouldContain(": hazard, 4 processes hold the same pointers in 1 OpenSSL slot");
        ended.Output.ShouldContain("the call that set the slot: seen");
        ended.Output.ShouldContain("the server's end: seen");
        Directory.EnumerateFileSystemEntries(scratch.Folder).ShouldBeEmpty();
        Samples samples = await agent.Metrics();
        samples.All.ShouldContain(static s => s.Name == "kamotel_verdicts_total" && s.Labels["verdict"] == "hazard" && s.Labels["target"].Contains("kamotel-drill-", StringComparison.Ordinal));
        samples.All.ShouldNotContain(static s => s.Name == "kamotel_crashes_total");
    }

    /// <summary>As a test of a chart runs it: no privilege, and process numbers that the agent has others for.</summary>
    [Fact]
    public async Task It_takes_no_privilege_and_is_known_in_a_PID_namespace_of_its_own()
    {
        Requirements.Program("unshare");
        Requirements.Program("setpriv");
        string name = ServerName.New();
        using var scratch = new Scratch();
        string program = scratch["kamotel"];
        File.Copy(Requirements.Binary, program);
        File.SetUnixFileMode(program, (UnixFileMode)Convert.ToInt32("755", 8));
        File.SetUnixFileMode(scratch.Folder, (UnixFileMode)Convert.ToInt32("777", 8));
        await using AgentProcess agent = await AgentProcess.Start(null, "--watch", name);

        Ended ended = await RunningProgram.Run(
            "unshare",
            ["--pid", "--fork", "--mount-proc", "--kill-child", "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--bounding-set=-all", "--no-new-privs", "env", $"TMPDIR={scratch.Folder}",
                program, "drill", "--json", "--agent", agent.Address.ToString(), "--name", name]);

        ended.Code.ShouldBe(0, ended.ToString());
        JsonNode report = JsonNode.Parse(ended.Output)!;
        report["seen"]!.GetValue<bool>().ShouldBeTrue();
        report["callSeen"]!.GetValue<bool>().ShouldBeTrue();
        report["holders"]!.GetValue<int>().ShouldBe(4);
    }

    [Fact]
    public async Task What_cannot_be_seen_or_started_is_told_with_what_helps()
    {
        using var scratch = new Scratch();
        await using AgentProcess agent = await AgentProcess.Start(null, "--watch", ServerName.New());

        Ended unwatched = await Drill(agent, scratch, "--name", "nobodys");
        unwatched.Code.ShouldBe(1, unwatched.ToString());
        unwatched.Output.ShouldContain("and not nobodys: give it --watch nobodys, or the drill --name");

        Ended alone = await RunningProgram.Run(Requirements.Binary, ["drill", "--agent", $"http://127.0.0.1:{Scratch.FreePort()}"]);
        alone.Code.ShouldBe(2, alone.ToString());
        alone.Errors.ShouldContain("does not answer as a kamotel: Connection refused");

        Requirements.Program("unshare");
        Ended closed = await RunningProgram.Run(
            "unshare", ["--mount", "sh", "-c", "mount -t tmpfs -o noexec none \"$1\" && TMPDIR=$1 exec \"$0\" drill --agent \"$2\"", Requirements.Binary, scratch.Folder, agent.Address.ToString()]);
        closed.Code.ShouldBe(2, closed.ToString());
        closed.Errors.ShouldContain("lets nobody run a program (noexec?); name another folder with TMPDIR=DIRECTORY");

        (await RunningProgram.Run(Requirements.Binary, ["drill", "--name", "a/b"])).Code.ShouldBe(64);
        (await RunningProgram.Run(Requirements.Binary, ["drill", "--name", "sixteen-bytes-is"])).Code.ShouldBe(64);
        (await RunningProgram.Run(Requirements.Binary, ["drill", "--agent", "localhost"])).Code.ShouldBe(64);
    }

    [Theory]
    [InlineData("INT", true)]
    [InlineData("TERM", true)]
    [InlineData("KILL", false)]
    public async Task No_process_is_left_when_it_is_ended(string signal, bool cleansUp)
    {
        string name = ServerName.New();
        using var scratch = new Scratch();
        await using AgentProcess agent = await AgentProcess.Start(null, "--watch", name);
        await using RunningProgram drill = RunningProgram.Start(
            Requirements.Binary, ["drill", "--for", "60s", "--agent", agent.Address.ToString(), "--name", name], new Dictionary<string, string?> { ["TMPDIR"] = scratch.Folder });
        await Until.True("the drill to run", () => Count(name) == 4, state: drill.ToString);

        await RunningProgram.Run("kill", [$"-{signal}", $"{drill.Pid}"]);

        await Until.True("all of it to end", () => !drill.Alive && Count(name) == 0, state: drill.ToString);
        Directory.EnumerateFileSystemEntries(scratch.Folder).Any().ShouldBe(!cleansUp);
    }

    private static Task<Ended> Drill(AgentProcess agent, Scratch scratch, params string[] options) =>
        RunningProgram.Run(Requirements.Binary, ["drill", "--agent", agent.Address.ToString(), .. options], new Dictionary<string, string?> { ["TMPDIR"] = scratch.Folder });

    private static int Count(string name) => Directory.EnumerateDirectories("/proc").Count(folder =>
    {
        try
        {
            return File.ReadAllText(Path.Combine(folder, "comm")).TrimEnd() == name;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    });
}
