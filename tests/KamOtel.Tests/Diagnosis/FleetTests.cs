using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

public sealed class FleetTests
{
    private readonly History _history = new();

    private TargetCounters Target(string name) => _history.Fleet.Snapshot(0).Targets.Single(target => target.Target == name);

    [Fact]
    public void An_exec_under_a_watched_name_begins_an_instance()
    {
        _history.Exec(10);

        InstanceContext found = _history.Sink.Found.ShouldHaveSingleItem();
        found.ShouldBe(new InstanceContext(new InstanceId(10, _history.Now), "kamailio", "kamailio", true, _history.Now));
        _history.Server.StartedNs.ShouldBe(found.StartedNs);
        Target("kamailio").Execs.ShouldBe(1);
    }

    [Fact]
    public void An_instance_ends_with_its_last_process_and_its_counters_stay()
    {
        _history.Exec(10).Set(10).Fork(10, 11).Exit(11, status: 256).Exit(10, status: 11);

        _history.Fleet.Snapshot(1).Instances.ShouldBeEmpty();
        _history.Sink.Ended.ShouldHaveSingleItem();
        TargetCounters target = Target("kamailio");
        target.Forks.ShouldBe(1);
        target.Exits.ShouldBe([0, 1, 1]);
        target.Calls.ShouldBe([new CallCount(ObservationKind.SetLocal, true, CallPhase.BeforeFork, SlotValueKind.Pointer, 1)]);
    }

    [Fact]
    public void An_exec_after_a_fork_begins_another_instance_without_the_slots()
    {
        _history.Exec(10).Set(10).Fork(10, 11).Exec(11);

        FleetSnapshot fleet = _history.Fleet.Snapshot(1);
        fleet.Instances.Select(instance => instance.Root).ShouldBe([Id(10), Id(11)]);
        fleet.Instances[0].Processes.Length.ShouldBe(1);
        _history.Process(11).MainThreadSlots.ShouldBeEmpty();
        Target("kamailio").Execs.ShouldBe(2);
    }

    [Fact]
    public void A_lone_process_that_executes_itself_anew_ends_one_instance_and_begins_another()
    {
        _history.Exec(10).Set(10).Exec(10);

        _history.Sink.Ended.Count.ShouldBe(1);
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Process(10).MainThreadSlots.ShouldBeEmpty();
    }

    [Fact]
    public void A_process_that_leaves_for_another_program_takes_its_slots_along()
    {
        _history.Exec(10).Set(10).Fork(10, 11).Set(10, value: 0).Exec(11, "sh", watched: false);
        _history.Server.Processes.Length.ShouldBe(1);
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);

        _history.Exec(10, "sh", watched: false);
        _history.Sink.Ended.Count.ShouldBe(1);
        _history.Sink.Exits.ShouldBeEmpty();
    }

    [Fact]
    public void Repeated_events_change_nothing()
    {
        _history.Exec(10).Set(10).Fork(10, 11);
        _history.Fork(10, 11).Set(11).Fork(10, 11);
        _history.Exit(11).Exit(11);
        InstanceId instance = _history.InstanceOf(10);
        _history.Tell(10, ObservationKind.Exec, o => o with { Watched = true, Instance = instance });

        _history.Sink.Forks.Count.ShouldBe(1);
        _history.Sink.Exits.Count.ShouldBe(1);
        _history.Sink.Found.Count.ShouldBe(1);
        Target("kamailio").Execs.ShouldBe(1);
        _history.Server.Gaps.ShouldBe(CoverageGaps.None);
        _history.Roles().ShouldBe("10:Root");
    }

    [Fact]
    public void A_process_whose_fork_was_lost_joins_the_instance_that_the_kernel_says()
    {
        _history.Exec(10).Library(10).Fork(10, 11).Count(12, _history.InstanceOf(10)).Set(12).Settle();

        _history.Roles().ShouldBe("10:Root 11:Worker 12:Worker");
        _history.Process(12).Parent.ShouldBeNull();
        _history.Server.Gaps.ShouldBe(CoverageGaps.ForkMissed);
        _history.Server.Verdict.ShouldBe(Verdict.Unknown);
        _history.Server.Reason.ShouldBe("a process appeared whose fork was not seen");
    }

    [Fact]
    public void A_process_of_an_unknown_instance_founds_it_with_a_gap()
    {
        _history.Count(12, new InstanceId(10, 5)).Fork(12, 13);

        _history.Roles().ShouldBe("12:Root 13:Worker");
        _history.Server.Id.ShouldBe(new InstanceId(10, 5));
        _history.Server.Program.ShouldBe("unknown");
        _history.Server.Gaps.ShouldBe(CoverageGaps.ForkMissed);
        _history.Sink.Found.ShouldHaveSingleItem().SinceExec.ShouldBeFalse();
        _history.Settle().Server.Verdict.ShouldBe(Verdict.Unknown);
    }

    [Theory]
    [InlineData(ObservationKind.Fork)]
    [InlineData(ObservationKind.Exit)]
    [InlineData(ObservationKind.InitLocal)]
    [InlineData(ObservationKind.SetLocal)]
    [InlineData(ObservationKind.Seeded)]
    [InlineData(ObservationKind.Exec)]
    [InlineData((ObservationKind)77)]
    public void A_process_that_nobody_counts_to_an_instance_is_ignored(ObservationKind kind)
    {
        _history.Tell(10, kind, o => o with { Other = Id(11), Watched = true, LastThread = true });

        _history.Fleet.Snapshot(0).Instances.ShouldBeEmpty();
        _history.Fleet.Snapshot(0).Targets.ShouldBeEmpty();
        _history.Sink.Told.ShouldBeEmpty();
    }

    [Fact]
    public void A_known_process_needs_no_instance_in_its_events()
    {
        _history.Exec(10).Tell(10, ObservationKind.SetLocal, o => o with { Instance = default, Key = 1, Value = Pointer });

        _history.Process(10).MainThreadSlots.Length.ShouldBe(1);
    }

    [Fact]
    public void Counters_move_with_the_name()
    {
        _history.Exec(10).Set(10).Fork(10, 11);
        _history.Fleet.Name(_history.InstanceOf(10), "pod/a");

        _history.Fleet.Snapshot(0).Targets.Select(target => target.Target).ShouldBe(["pod/a"]);
        _history.Server.Target.ShouldBe("pod/a");
        _history.Server.Program.ShouldBe("kamailio");
        _history.Set(10).Exit(11);
        TargetCounters target = Target("pod/a");
        (target.Execs, target.Forks, target.Calls.Sum(call => call.Count), target.Exits[0]).ShouldBe((1, 1, 2, 1));
        _history.Sink.Calls[1].Instance.Target.ShouldBe("pod/a");
    }

    [Fact]
    public void Only_the_named_instances_counters_move()
    {
        _history.Exec(10).Exec(20).Set(20);
        _history.Fleet.Name(_history.InstanceOf(10), "a");
        _history.Fleet.Name(new InstanceId(5, 5), "nobody");

        _history.Fleet.Snapshot(0).Targets.Select(target => (target.Target, target.Execs, target.Calls.Length))
            .ShouldBe([("a", 1, 0), ("kamailio", 1, 1)]);
    }

    [Fact]
    public void A_name_may_be_given_while_the_instance_is_being_told()
    {
        _history.Sink.OnFound = instance => _history.Fleet.Name(instance.Id, "pod/a");
        _history.Exec(10).Set(10);

        _history.Fleet.Snapshot(0).Targets.ShouldHaveSingleItem().Target.ShouldBe("pod/a");
        _history.Sink.Calls[0].Instance.Target.ShouldBe("pod/a");
    }

    [Fact]
    public void Restarts_add_to_the_counters_of_their_target()
    {
        for (int i = 0; i < 3; i++)
        {
            _history.Exec(10 + i);
            _history.Fleet.Name(_history.InstanceOf(10 + i), "pod/a");
            _history.Exit(10 + i);
        }

        Target("pod/a").Execs.ShouldBe(3);
    }

    [Fact]
    public void More_targets_than_the_limit_are_counted_together()
    {
        History history = new(new FleetOptions { MaxTargets = 2 });
        for (int pid = 10; pid < 15; pid++)
        {
            history.Exec(pid);
            history.Fleet.Name(history.InstanceOf(pid), $"pod/{pid}");
        }

        FleetSnapshot fleet = history.Fleet.Snapshot(0);
        fleet.Targets.Select(target => (target.Target, target.Execs)).ShouldBe([("other", 3), ("pod/10", 1), ("pod/11", 1)]);
        fleet.Instances[4].Target.ShouldBe("other", "the number of series is bounded");
    }

    [Fact]
    public void Instances_and_processes_are_listed_oldest_first()
    {
        _history.Exec(30).Fork(30, 33).Fork(30, 31).Exec(20);

        _history.Fleet.Snapshot(0).Instances.Select(instance => instance.Id.Tgid).ShouldBe([30, 20]);
        _history.Fleet.Snapshot(0).Instances[0].Processes.Select(process => process.Id.Tgid).ShouldBe([30, 31, 33]);
    }

    [Fact]
    public void A_library_that_is_not_probed_is_news_once_for_a_server()
    {
        _history.Exec(10).Fork(10, 11).Exec(20);
        bool Mapped(int pid, string library) => _history.Fleet.LibraryMapped(Id(pid), library, mappedNs: 0, probedNs: null);

        Mapped(10, "libcrypto").ShouldBeTrue();
        Mapped(11, "libcrypto").ShouldBeFalse("it is the same server's worker");
        Mapped(11, "another").ShouldBeTrue();
        Mapped(20, "libcrypto").ShouldBeTrue();
        Mapped(99, "libcrypto").ShouldBeFalse();
        _history.Sink.Gaps.Count.ShouldBe(3);
    }

    [Fact]
    public void Libraries_of_unknown_processes_are_ignored()
    {
        _history.Fleet.LibraryMapped(Id(5), "libcrypto", 1, 2);
        _history.Sink.Told.ShouldBeEmpty();
    }

    [Fact]
    public void The_story_of_a_start_is_told_in_order()
    {
        _history.Exec(10).Library(10).Set(10).Fork(10, 11).Settle().Exit(11).Exit(10);

        _history.Sink.Told.ShouldBe(
        [
            "found", "call", "forked", "verdict Exposed", "ready", "exited", "exited", "ended",
        ]);
    }
}
