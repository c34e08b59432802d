using System.Collections.Concurrent;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>The process that begins a command and ends it. What it does when the agent is killed, the end-to-end tests tell.</summary>
public sealed class GuardTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly Scratch _scratch = new();
    private readonly BlockingCollection<GuardReport> _reports = [];

    public void Dispose()
    {
        _reports.Dispose();
        _scratch.Dispose();
    }

    [Fact]
    public void A_command_begins_when_it_is_told_to_as_a_child_of_the_guard_and_its_end_is_told()
    {
        using GuardProcess guard = Start($"echo $PPID > {_scratch["parent"]}; exit 3");
        _reports.TryTake(out _, TimeSpan.FromMilliseconds(50)).ShouldBeFalse("nobody has begun it");
        File.Exists(_scratch["parent"]).ShouldBeFalse();
        guard.Begin();
        GuardReport started = Next();
        started.Kind.ShouldBe(GuardReportKind.Started);
        Next().ShouldBe(new(GuardReportKind.Ended, started.Pid, 3 << 8));
        Next().Kind.ShouldBe(GuardReportKind.Gone);
        File.ReadAllText(_scratch["parent"]).Trim().ShouldBe($"{guard.Pid}");
    }

    [Fact]
    public void What_becomes_a_daemon_is_still_known_and_ends_with_the_rest()
    {
        using GuardProcess guard = Begin($"setsid sh -c 'echo $$ > {_scratch["daemon"]}; exec sleep 1000' & exit 0");
        Next().Value.ShouldBe(0);
        int daemon = ReadPid("daemon");
        _reports.TryTake(out _, TimeSpan.FromMilliseconds(50)).ShouldBeFalse("the daemon lives");
        guard.Stop();
        Next().Kind.ShouldBe(GuardReportKind.Gone);
        Directory.Exists($"/proc/{daemon}").ShouldBeFalse();
    }

    [Fact]
    public void A_shell_that_waits_for_a_server_and_does_not_tell_it_gets_to_tidy_up()
    {
        using GuardProcess guard = Begin($"trap 'echo bye > {_scratch["bye"]}; exit 7' TERM; echo $$ > {_scratch["shell"]}; sleep 1000", TimeSpan.FromSeconds(2));
        _ = ReadPid("shell");
        guard.Stop();
        Next().ShouldBe(new(GuardReportKind.Ended, _pid, 7 << 8));
        Next().Kind.ShouldBe(GuardReportKind.Gone);
        File.ReadAllText(_scratch["bye"]).ShouldBe("bye\n");
    }

    [Fact]
    public void What_takes_no_notice_of_SIGTERM_is_killed_and_that_is_told()
    {
        using GuardProcess guard = Begin($"trap '' TERM; echo $$ > {_scratch["shell"]}; while :; do sleep 0.05; done", TimeSpan.FromMilliseconds(300));
        _ = ReadPid("shell");
        guard.Stop();
        GuardReport killed = Next();
        killed.Kind.ShouldBe(GuardReportKind.Killed);
        killed.Value.ShouldBeGreaterThanOrEqualTo(1);
        Next(skip: GuardReportKind.Killed).ShouldBe(new(GuardReportKind.Ended, _pid, 9));
        Next(skip: GuardReportKind.Killed).Kind.ShouldBe(GuardReportKind.Gone);
    }

    [Fact]
    public void One_that_is_stopped_hears_of_it_as_well()
    {
        using GuardProcess guard = Begin("kill -STOP $$; sleep 1000", TimeSpan.FromSeconds(60));
        SpinWait.SpinUntil(() => new ProcFs().ReadStat(_pid).TryGet(out ProcessStat? stat) && stat.State == 'T', Patience).ShouldBeTrue();
        guard.Stop();
        Next().ShouldBe(new(GuardReportKind.Ended, _pid, 15));
    }

    [Fact]
    public void A_program_that_is_not_there_is_told_with_its_reason()
    {
        using GuardProcess guard = GuardProcess.Start(new GuardedCommand([_scratch["nothing"]], Patience, OutputToError: false, default), _reports.Add);
        guard.Begin();
        Next(skip: GuardReportKind.Started).ShouldBe(new(GuardReportKind.Failed, 0, 2));
        Next().Kind.ShouldBe(GuardReportKind.Gone);
    }

    [Fact]
    public void The_command_finds_signals_ignored_and_blocked_as_it_was_said_and_nothing_else()
    {
        const ulong HangUp = 1, User1 = 1 << 9;
        using (GuardProcess guard = GuardProcess.Start(
            new GuardedCommand(["sh", "-c", $"exec cat /proc/self/status > {_scratch["status"]}"], Patience, OutputToError: false, new SignalState(HangUp, User1)), _reports.Add))
        {
            guard.Begin();
            while (Next().Kind != GuardReportKind.Gone)
            {
            }
        }
        SignalState.Parse(File.ReadAllLines(_scratch["status"])).ShouldBe(new(HangUp, User1));
    }

    [Fact]
    public void Who_forgets_to_stop_it_leaves_nothing_behind()
    {
        int pid;
        using (Begin($"echo $$ > {_scratch["shell"]}; exec sleep 1000"))
        {
            pid = ReadPid("shell");
        }
        Directory.Exists($"/proc/{pid}").ShouldBeFalse();
    }

    [Theory]
    [InlineData("sh", "/usr/bin:/bin", true)]
    [InlineData("sh", null, true)]
    [InlineData("sh", "/nonexistent", false)]
    [InlineData("/bin/sh", "", true)]
    [InlineData("./sh", "/bin", false)]
    [InlineData("", "/bin", false)]
    public void A_program_is_searched_for_as_a_shell_does(string program, string? path, bool found) =>
        (GuardProcess.Find(program, path) is not null).ShouldBe(found);

    [Fact]
    public void A_report_that_is_none_is_not_taken_for_one()
    {
        GuardReport.Parse([3, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0]).ShouldBe(new GuardReport(GuardReportKind.Ended, 7, 9));
        GuardReport.Parse([3, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0]).ShouldBeNull();
        GuardReport.Parse([0, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0]).ShouldBeNull();
        GuardReport.Parse([6, 0, 0, 0, 7, 0, 0, 0, 9, 0, 0, 0]).ShouldBeNull();
    }

    private int _pid;

    private GuardProcess Start(string script, TimeSpan? within = null) =>
        GuardProcess.Start(new GuardedCommand(["sh", "-c", script], within ?? Patience, OutputToError: false, default), _reports.Add);

    private GuardProcess Begin(string script, TimeSpan? within = null)
    {
        GuardProcess guard = Start(script, within);
        guard.Begin();
        GuardReport started = Next();
        started.Kind.ShouldBe(GuardReportKind.Started);
        _pid = started.Pid;
        return guard;
    }

    private GuardReport Next(GuardReportKind? skip = null)
    {
        GuardReport report;
        do
        {
            _reports.TryTake(out report, Patience).ShouldBeTrue("the guard tells nothing");
        }
        while (report.Kind == skip);
        return report;
    }

    private int ReadPid(string name)
    {
        int pid = 0;
        SpinWait.SpinUntil(() => File.Exists(_scratch[name]) && int.TryParse(File.ReadAllText(_scratch[name]), out pid), Patience).ShouldBeTrue($"{name} does not tell its process");
        return pid;
    }
}
