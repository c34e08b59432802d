using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>Which servers of a recording are told, and as what.</summary>
public sealed class ToldServersTests
{
    private readonly ToldServers _servers = new();
    private readonly Fleet _fleet;

    public ToldServersTests() => _fleet = new Fleet(new FleetOptions(), _servers);

    [Fact]
    public void A_look_at_the_configuration_is_no_server()
    {
        Tell(ObservationKind.Exec, 1);
        _ = _fleet.Snapshot(2);
        Tell(ObservationKind.Exit, 3, status: 0);
        _servers.All(_fleet.Snapshot(4)).ShouldBeEmpty();
    }

    [Theory]
    [InlineData(255 << 8, "it ended before it was ready: exit code 255")]
    [InlineData(11, "it ended before it was ready: signal 11 (SIGSEGV)")]
    public void A_start_that_failed_says_how(int status, string reason)
    {
        Tell(ObservationKind.Exec, 1);
        _ = _fleet.Snapshot(2);
        Tell(ObservationKind.Exit, 3, status);
        InstanceSnapshot server = _servers.All(_fleet.Snapshot(4)).ShouldHaveSingleItem();
        (server.Verdict, server.Reason).ShouldBe((Verdict.Unknown, reason));
    }

    [Fact]
    public void A_crash_that_is_known_after_the_end_of_its_server_is_told_with_it()
    {
        Tell(ObservationKind.Exec, 1);
        _ = _fleet.Snapshot(2);
        var fatal = new Observation { Kind = ObservationKind.FatalSignal, TimeNs = 2, Process = History.Id(10), Tid = 10, Instance = new InstanceId(10, 1), Status = 11, HasStack = true };
        _fleet.Dying(in fatal, new ProcessInspection { Process = History.Id(10), TimeNs = 2, Status = InspectionStatus.Unsupported });
        Tell(ObservationKind.Exit, 3, status: 11);
        _servers.All(_fleet.Snapshot(4)).Single().Faults.ShouldBeEmpty();
        _fleet.Attributed(in fatal, new CallChain([new CallFrame("tls.so", "tls", false, "f", 1)], ChainEnd.Truncated, ""));
        Fault fault = _servers.All(_fleet.Snapshot(5)).Single().Faults.ShouldHaveSingleItem();
        (fault.Signal, fault.Module, fault.Role).ShouldBe((11, "tls", ProcessRole.Root));
    }

    private void Tell(ObservationKind kind, ulong timeNs, int status = 0) => _fleet.Observe(new Observation
    {
        Kind = kind,
        TimeNs = timeNs,
        Process = History.Id(10),
        Tid = 10,
        Instance = new InstanceId(10, 1),
        Name = TaskName.From("kamailio"),
        Watched = true,
        Status = status,
        LastThread = kind == ObservationKind.Exit,
    });
}
