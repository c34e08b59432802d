namespace KamOtel.EndToEndTests;

/// <summary>The demo tells its story and cleans up after itself.</summary>
public sealed class DemoTests
{
    public static TheoryData<string> Kinds => [.. KamailioServer.Kinds];

    [Theory]
    [MemberData(nameof(Kinds))]
    public async Task The_demo_tells_the_story_once_and_leaves_nothing(string kind)
    {
        Require(kind);
        using var scratch = new Scratch();
        await using RunningProgram demo = Start(scratch, "--once", "--with", kind);
        Ended ended = await demo.End(TimeSpan.FromSeconds(180));

        ended.Code.ShouldBe(0, ended.ToString());
        foreach (string told in new[] { "exec", "set_local", "Thread#1", "before_fork", "fork", "ready", "verdict", "hazard", "kamotel_thread_local_calls_total", "TLS handshake", "KamOtelHazard is firing", "Cure: ", "/alerts", "/docs/" })
        {
            ended.Output.ShouldContain(told);
        }
        await NothingIsLeft(scratch);
    }

    [Fact]
    public async Task The_demo_finds_out_who_asked_the_database()
    {
        using var scratch = new Scratch();
        await using RunningProgram demo = Start(scratch, "--once", "--with", "db_mysql", "--tls-disabled");
        Ended ended = await demo.End(TimeSpan.FromSeconds(180));
        ended.Code.ShouldBe(0, ended.ToString());
        ended.Output.ShouldContain("db_mysql through libmariadb → libssl, asked by htable (err_state)");
    }

    [Theory]
    [InlineData("tls", "The agent attaches its probes")]
    [InlineData("db_postgres", "starts: htable")]
    [InlineData("tls", "Prometheus scrapes the agent")]
    [InlineData("tls", "A Kamailio with TLS starts")]
    [InlineData("tls", "Ctrl-C ends it.")]
    public async Task Interrupted_at_any_moment_the_demo_leaves_nothing(string kind, string moment)
    {
        Require(kind);
        using var scratch = new Scratch();
        await using RunningProgram demo = Start(scratch, "--with", kind);
        await Until.True($"the demo to say: {moment}", () => demo.Output.Contains(moment, StringComparison.Ordinal), TimeSpan.FromSeconds(120), demo.ToString);
        // Ctrl-C at a terminal reaches the whole foreground group.
        Libc.SendToGroup(demo.Pid, Signal.Interrupt).ShouldBeTrue();
        Ended ended = await demo.End();

        ended.Code.ShouldBe(130, ended.ToString());
        await NothingIsLeft(scratch);
    }

    [Fact]
    public async Task Make_demo_passes_its_arguments_on()
    {
        Require("tls");
        Requirements.Program("make");
        using var scratch = new Scratch();
        // The binary that is tested, not another build of it.
        Ended ended = await RunningProgram.Run(
            "make",
            ["--old-file=out/kamotel", "--old-file=build", "demo", "ARGS=--once --with tls"],
            Environment(scratch),
            patience: TimeSpan.FromSeconds(180));

        ended.Code.ShouldBe(0, ended.ToString());
        ended.Output.ShouldContain("The whole story was seen.");
        await NothingIsLeft(scratch);
    }

    private static void Require(string kind)
    {
        Requirements.Bpf();
        Requirements.Kamailio(kind);
        Requirements.Program("setsid");
        Requirements.Program("curl");
        Requirements.Program("prometheus");
    }

    // In a process group of its own, as a shell at a terminal would start it.
    private static RunningProgram Start(Scratch scratch, params string[] arguments) =>
        RunningProgram.Start("setsid", [Path.Combine(Requirements.Repository, "demo", "run"), .. arguments], Environment(scratch));

    private static Dictionary<string, string?> Environment(Scratch scratch) => new()
    {
        ["TMPDIR"] = scratch.Folder,
        ["KAMOTEL_BINARY"] = Requirements.Binary,
    };

    // Every process that the demo started has its TMPDIR.
    private static async Task NothingIsLeft(Scratch scratch)
    {
        await Until.True(
            "the demo's processes to be gone",
            () => Proc.Mentioning(scratch.Folder).Length == 0,
            TimeSpan.FromSeconds(10),
            () => string.Join(' ', Proc.Mentioning(scratch.Folder)));
        Directory.EnumerateFileSystemEntries(scratch.Folder).ShouldBeEmpty();
    }
}
