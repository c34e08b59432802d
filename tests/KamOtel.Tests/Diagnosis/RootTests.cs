using KamOtel.Diagnosis;
using static KamOtel.Tests.Diagnosis.History;

namespace KamOtel.Tests.Diagnosis;

public sealed class RootTests
{
    private readonly History _history = new();

    [Fact]
    public void The_process_that_called_exec_is_root_of_the_workers_that_it_forks()
    {
        _history.Exec(10).Fork(10, 11).Fork(10, 12);

        _history.Roles().ShouldBe("10:Root 11:Worker 12:Worker");
        _history.Process(10).Parent.ShouldBeNull();
        _history.Process(12).Parent.ShouldBe(Id(10));
    }

    [Fact]
    public void After_daemonising_with_a_waiting_launcher_the_inner_process_is_root_as_soon_as_the_middle_one_ended()
    {
        _history.Exec(10).Fork(10, 11).Fork(11, 12);
        _history.Roles().ShouldBe("10:Root 11:Worker 12:Worker");

        _history.Exit(11);
        _history.Roles().ShouldBe("10:Launcher 12:Root");

        _history.Fork(12, 13).Exit(10);
        _history.Roles().ShouldBe("12:Root 13:Worker");
        _history.Sink.Exits.ShouldBe([(Id(11), ProcessRole.Launcher), (Id(10), ProcessRole.Launcher)]);
    }

    [Fact]
    public void Nobody_is_called_a_worker_who_may_yet_become_root()
    {
        _history.Exec(10).Fork(10, 11).Fork(11, 12).Exit(11).Exit(10).Fork(12, 13).Fork(12, 14).Fork(14, 15);

        _history.Sink.Forks.ShouldBe([(Id(11), null), (Id(12), null), (Id(13), null), (Id(14), ProcessRole.Worker), (Id(15), ProcessRole.Worker)]);
        _history.Sink.Exits.ShouldAllBe(static exit => exit.Role == ProcessRole.Launcher);
    }

    [Fact]
    public void Who_ends_is_called_what_it_was()
    {
        _history.Exec(10).Fork(10, 11).Exit(11).Exit(10); // Its only worker first.
        _history.Exec(20).Fork(20, 21).Exit(20, status: 11); // A root that crashes is no launcher.
        _history.Exec(30).Fork(30, 31).Fork(30, 32).Fork(31, 33).Exit(31); // Nor is a worker that forked once.

        _history.Sink.Exits.ShouldBe(
        [
            (Id(11), ProcessRole.Worker), (Id(10), ProcessRole.Root), (Id(20), ProcessRole.Root), (Id(31), ProcessRole.Worker),
        ]);
    }

    [Fact]
    public void After_daemonising_with_launchers_that_end_at_once_the_inner_process_is_root() =>
        _history.Exec(10).Fork(10, 11).Exit(10).Fork(11, 12).Exit(11).Fork(12, 13).Fork(12, 14)
            .Roles().ShouldBe("12:Root 13:Worker 14:Worker");

    [Fact]
    public void One_fork_by_a_process_that_ends_moves_the_root_to_its_child() =>
        _history.Exec(10).Fork(10, 11).Exit(10).Roles().ShouldBe("11:Root");

    [Fact]
    public void A_worker_that_ends_does_not_move_the_root() =>
        _history.Exec(10).Fork(10, 11).Exit(11).Roles().ShouldBe("10:Root");

    [Fact]
    public void A_worker_that_ends_leaves_the_workers_of_the_root_alone() =>
        _history.Exec(10).Fork(10, 11).Fork(10, 12).Fork(11, 13).Exit(11).Roles().ShouldBe("10:Root 12:Worker 13:Worker");

    [Fact]
    public void A_root_that_dies_before_its_workers_stays_the_root()
    {
        _history.Exec(10).Fork(10, 11).Fork(10, 12).Exit(10, status: 9);

        _history.Server.Root.ShouldBe(Id(10));
        _history.Roles().ShouldBe("11:Worker 12:Worker");
    }

    [Fact]
    public void A_child_that_goes_off_to_another_program_never_was_a_worker()
    {
        _history.Exec(10).Fork(10, 11).Exec(11, "sh", watched: false);
        _history.Set(10);
        _history.Sink.Calls[0].Call.Phase.ShouldBe(CallPhase.BeforeFork);

        _history.Fork(10, 12).Fork(12, 13).Exit(12);
        _history.Roles().ShouldBe("10:Launcher 13:Root");
    }

    [Fact]
    public void A_server_that_daemonises_for_ever_has_a_root_still()
    {
        _history.Exec(10);
        for (int pid = 10; pid < 5000; pid++)
        {
            _history.Fork(pid, pid + 1).Exit(pid);
        }

        _history.Roles().ShouldBe("5000:Root");
    }

    [Fact]
    public void Of_a_server_found_running_the_oldest_process_with_a_living_child_is_root()
    {
        _history.Seed(10).Seed(20, instance: 10).Seed(21, parent: 20).Seed(22, parent: 20);
        _history.Roles().ShouldBe("10:Worker 20:Root 21:Worker 22:Worker");

        _history.Exit(21).Exit(22);
        _history.Roles().ShouldBe("10:Root 20:Worker");
    }

    [Fact]
    public void Processes_found_running_may_come_in_any_order()
    {
        InstanceId instance = new(20, 5);
        foreach (int pid in new[] { 22, 21, 20 })
        {
            _history.Count(20, instance).Seed(pid, parent: pid == 20 ? null : 20, instance: 20);
        }

        _history.Roles().ShouldBe("20:Root 21:Worker 22:Worker");
    }

    [Fact]
    public void Calls_of_root_are_before_the_fork_until_it_forks_and_workers_calls_never_are()
    {
        _history.Exec(10).Set(10).Fork(10, 11).Set(10, key: 1).Set(11, key: 2);

        _history.Sink.Calls.Select(call => (call.Call.Role, call.Call.Phase)).ShouldBe(
        [
            (ProcessRole.Root, CallPhase.BeforeFork),
            (ProcessRole.Root, CallPhase.AfterFork),
            (ProcessRole.Worker, CallPhase.AfterFork),
        ]);
        _history.Server.MainThreadCallsBeforeFork.ShouldBe(1);
    }

    [Fact]
    public void Calls_of_a_daemon_count_even_when_its_launchers_end_is_told_after_them()
    {
        _history.Exec(10).Fork(10, 11).Fork(11, 12).Set(12).Exit(11).Set(12, key: 1, value: SlotValue.Sentinel);

        _history.Server.MainThreadCallsBeforeFork.ShouldBe(2);
    }

    [Fact]
    public void Only_calls_that_store_a_value_in_Thread1_count_as_what_a_debugger_shows()
    {
        _history.Exec(10).Init(10).Set(10).Set(10, value: 0).Set(10, value: SlotValue.Sentinel).SetEx(10).Set(10, tid: 99)
            .Cleanup(10).Clean(10);

        _history.Server.MainThreadCallsBeforeFork.ShouldBe(3);
    }

    [Fact]
    public void The_phase_is_unknown_in_a_lone_root_that_was_not_seen_from_its_exec()
    {
        _history.Seed(10).Set(10).Fork(10, 11).Set(10);

        _history.Sink.Calls.Select(call => call.Call.Phase).ShouldBe([CallPhase.Unknown, CallPhase.AfterFork]);
        _history.Server.MainThreadCallsBeforeFork.ShouldBe(0);
    }
}
