using System.Collections.Immutable;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using KamOtel.Tests.Diagnosis;
using KamOtel.Tests.Linux;

namespace KamOtel.Tests.Agent;

/// <summary>Which servers a check counts, and as what.</summary>
public sealed class CheckedServersTests : IDisposable
{
    private const int Guard = 5;

    private readonly Scratch _scratch = new();
    private readonly CheckedServers _servers;
    private readonly Fleet _fleet;
    private ulong _now = 1_000_000_000;

    public CheckedServersTests()
    {
        _servers = new CheckedServers(new ProcFs(_scratch.Folder));
        _fleet = new Fleet(new FleetOptions(), _servers);
        Process(Guard, 1);
        _servers.Begin(Guard);
    }

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void Those_count_that_descend_from_the_guard_and_others_are_told_apart()
    {
        Process(6, Guard);
        Process(10, 6); // started by a script
        Process(20, 1); // by somebody else
        Exec(10);
        Exec(20);
        Exec(30); // gone already
        Look().Select(static s => s.Id.Tgid).ShouldBe([10]);
        _servers.All().Select(static s => s.Id.Tgid).ShouldBe([10]);
        _servers.Others.ShouldBe(["kamailio (process 20)"]);
        _servers.Vanished.ShouldBe(["kamailio (process 30)"]);
    }

    [Fact]
    public void The_command_itself_counts_also_when_it_is_gone_before_anybody_looks()
    {
        _servers.Started(30);
        Exec(30);
        _ = Look();
        Exit(30, 255 << 8);
        _servers.Living.ShouldBe(0);
        InstanceSnapshot server = _servers.All().ShouldHaveSingleItem();
        server.Reason.ShouldBe("it ended before it was ready: exit code 255");
        _servers.IsCommand(server).ShouldBeTrue();
        _servers.EndOf(server).ShouldBe(new ServerEnd(255 << 8, Asked: false));
    }

    [Fact]
    public void While_it_is_told_to_end_nothing_is_concluded_but_the_worse()
    {
        Process(10, Guard);
        Exec(10);
        InstanceSnapshot server = Look().ShouldHaveSingleItem() with { Verdict = Verdict.Safe, Reason = "as it ran" };
        var context = new InstanceContext(server.Id, server.Target, server.Program, SinceExec: true, server.StartedNs);
        _servers.VerdictChanged(context, server, Verdict.Unknown, _now);
        _servers.Stopping();
        _servers.VerdictChanged(context, server with { Verdict = Verdict.Unknown, Reason = "root was gone" }, Verdict.Safe, _now);
        _servers.All().ShouldHaveSingleItem().Reason.ShouldBe("as it ran");
        _servers.VerdictChanged(context, server with { Verdict = Verdict.Corrupted, Reason = "it crashed" }, Verdict.Safe, _now);
        _servers.All().ShouldHaveSingleItem().Reason.ShouldBe("it crashed");
        Exit(10, 11);
        _servers.EndOf(server).ShouldBe(new ServerEnd(11, Asked: true));
        // What a supervisor starts anew then is not asked for.
        Process(40, Guard);
        Exec(40);
        _servers.All().Select(static s => s.Id.Tgid).ShouldBe([10]);
    }

    [Fact]
    public void The_next_command_begins_with_nothing()
    {
        Process(10, Guard);
        Exec(10);
        _ = Look();
        _servers.Begin(6);
        _servers.All().ShouldBeEmpty();
        _servers.Living.ShouldBe(0);
    }

    private ImmutableArray<InstanceSnapshot> Look() => _servers.Look(_fleet.Snapshot(++_now));

    private void Process(int pid, int parent) => _scratch.Write(
        $"{pid}/stat", $"{pid} (kamailio) S {parent} {pid} {pid} 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 {100_000 + pid} 0 0\n");

    private void Exec(int pid) => Tell(ObservationKind.Exec, pid);

    private void Exit(int pid, int status) => Tell(ObservationKind.Exit, pid, status);

    private void Tell(ObservationKind kind, int pid, int status = 0) => _fleet.Observe(new Observation
    {
        Kind = kind,
        TimeNs = ++_now,
        Process = History.Id(pid),
        Tid = pid,
        Instance = new InstanceId(pid, 1),
        Name = TaskName.From("kamailio"),
        Watched = true,
        Status = status,
        LastThread = kind == ObservationKind.Exit,
    });
}
