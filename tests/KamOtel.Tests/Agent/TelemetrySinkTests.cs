using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What goes to the exporter, and when.</summary>
public sealed class TelemetrySinkTests
{
    private static readonly InstanceContext Server = new(new InstanceId(10, 1), "kamailio", "kamailio", SinceExec: true, StartedNs: 1);
    private static readonly CallContext Context = new(ProcessRole.Root, CallPhase.BeforeFork, SlotValueKind.Pointer, ReplacesInherited: false);

    private readonly Exemplars _exemplars = new();
    private readonly TelemetrySink _sink;

    public TelemetrySinkTests()
    {
        OtlpSettings settings = OtlpSettings.FromEnvironment(static name => name == "OTEL_EXPORTER_OTLP_ENDPOINT" ? "http://127.0.0.1:4317" : null);
        _sink = new TelemetrySink(settings, new TelemetryCounters(), _exemplars);
    }

    [Fact]
    public void A_call_with_a_stack_is_logged_when_its_author_is_known()
    {
        Observation without = Call(2, hasStack: false);
        Observation with = Call(3, hasStack: true);
        Taken().ShouldBe([(ItemKind.Call, without.TimeNs, null)]);

        var chain = CallChain.Unknown(ChainEnd.BadFile, "no");
        _sink.Attributed(Server, in with, chain);
        Taken().ShouldBe([(ItemKind.Call, with.TimeNs, chain)]);
        _sink.Attributed(Server, in with, chain);
        Taken().ShouldBeEmpty();
    }

    [Fact]
    public void When_the_agent_ends_what_waits_is_logged_as_it_is()
    {
        Observation call = Call(3, hasStack: true);
        _sink.Complete(0);
        Taken().ShouldBe([(ItemKind.Call, call.TimeNs, null)]);
    }

    [Fact]
    public void A_start_leads_from_its_calls_to_its_trace()
    {
        var exec = new Observation { Kind = ObservationKind.Exec, TimeNs = 1, Process = new ProcessId(10, 1), Tid = 10, Instance = Server.Id };
        _sink.InstanceFound(Server, in exec);
        _ = Call(2, hasStack: false);
        Instrument calls = Instruments.Table.Single(static i => i.Name == "kamotel.thread_local.calls");
        _exemplars.For(calls, new Sample(1, "kamailio", "set_local", "main", "before_fork", "pointer")).ShouldNotBeNull();
        _exemplars.For(calls, new Sample(1, "kamailio", "set_local", "main", "before_fork", "sentinel")).ShouldBeNull();
    }

    private Observation Call(ulong timeNs, bool hasStack)
    {
        var call = new Observation { Kind = ObservationKind.SetLocal, TimeNs = timeNs, Process = new ProcessId(10, 1), Tid = 10, Instance = Server.Id, Key = 1, Value = 0x1000, HasStack = hasStack };
        _sink.Call(Server, in call, Context);
        return call;
    }

    private List<(ItemKind, ulong, CallChain?)> Taken()
    {
        var taken = new List<(ItemKind, ulong, CallChain?)>();
        while (_sink.Items.TryRead(out TelemetryItem item))
        {
            taken.Add((item.Kind, item.TimeNs, item.Chain));
        }
        return taken;
    }
}
