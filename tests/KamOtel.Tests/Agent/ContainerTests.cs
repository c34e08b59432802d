using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>A server's container, wherever the server is told of.</summary>
public sealed class ContainerTests
{
    private const string Id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    private const string Pod = "11111111-2222-3333-4444-555555555555";

    [Theory]
    [InlineData(2, "edge-0", "edge-0")]
    [InlineData(1, "node-1", null)] // in the node's namespace
    [InlineData(2, "node-1", null)] // Docker's --network host, systemd's ProtectHostname=
    [InlineData(2, "(none)", null)] // the kernel's own before anybody set one
    [InlineData(2, "", null)]
    public void A_host_name_is_a_containers_own_when_it_is_not_the_nodes(uint space, string name, string? own) =>
        ServerNames.OwnOf(new HostName(new ProcessId(7, 1), space, name), new HostName(new ProcessId(1, 1), 1, "node-1")).ShouldBe(own);

    [Fact]
    public void Metric_report_span_and_log_have_it()
    {
        var container = new Container(Id, "edge-0", Pod);
        InstanceSnapshot server = Found(container);

        server.Container.ShouldBe(container);
        ScannedContainer.Of(container).ShouldBe(new ScannedContainer(Id, "edge-0", Pod, "edge-0"));
        Info(server).ShouldBe(["pod:edge-0", "", "", "", "", Id, Pod, "edge-0"]);
        Attributes(container).ShouldBe([("container.id", Id), ("kamotel.container.host_name", "edge-0"), ("k8s.pod.uid", Pod), ("k8s.pod.name", "edge-0")]);
    }

    [Fact]
    public void Outside_of_Kubernetes_a_host_name_is_no_pods()
    {
        var container = new Container(Id, "edge", null);

        Info(Found(container)).ShouldBe(["pod:edge-0", "", "", "", "", Id, "", ""]);
        Attributes(container).ShouldBe([("container.id", Id), ("kamotel.container.host_name", "edge")]);
    }

    [Fact]
    public void Without_a_container_there_is_nothing()
    {
        Found(null).Container.ShouldBeNull();
        ScannedContainer.Of(null).ShouldBeNull();
        Info(Found(null)).ShouldBe(["pod:edge-0", "", "", "", "", "", "", ""]);
        Attributes(null).ShouldBeEmpty();
    }

    private static InstanceSnapshot Found(Container? container)
    {
        var fleet = new Fleet(new FleetOptions(), SilentSink.Instance);
        fleet.Observe(
            new Observation { Kind = ObservationKind.Exec, TimeNs = 5, Process = new ProcessId(10, 1), Tid = 10, Instance = new InstanceId(10, 5), Name = TaskName.From("kamailio"), Watched = true },
            "pod:edge-0",
            container);
        return fleet.Snapshot(6).Instances.ShouldHaveSingleItem();
    }

    private static string[] Info(InstanceSnapshot server)
    {
        var state = new AgentState();
        state.Publish(AgentSnapshot.Empty with { Fleet = new FleetSnapshot(6, [server], []) });
        return [.. Instruments.Table.Single(static i => i.Name == "kamotel.instance.info").Read(state.Current, new TelemetryCounters()).ShouldHaveSingleItem().Attributes];
    }

    private static (string, object?)[] Attributes(Container? container) =>
        [.. ContainerAttributes.Of(new InstanceContext(new InstanceId(10, 5), "pod:edge-0", "kamailio", SinceExec: true, 5) { Container = container }).Select(static a => (a.Key, a.Value))];
}
