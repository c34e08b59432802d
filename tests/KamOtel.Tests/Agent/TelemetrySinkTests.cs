using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging;

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

    [Fact]
    public void A_crash_is_a_log_event_and_a_span_with_the_same_attributes_and_an_example_of_its_counter()
    {
        var exec = new Observation { Kind = ObservationKind.Exec, TimeNs = 1, Process = new ProcessId(10, 1), Tid = 10, Instance = Server.Id };
        _sink.InstanceFound(Server, in exec);
        var crash = new Crash(new ProcessId(12, 5), ProcessRole.Worker, 6, 1000, 5000, CallChain.Unknown(ChainEnd.Truncated, "the copy ends")) { LastCall = new LastCall(ObservationKind.CleanupLocal, 7, null, 1_500_000) };
        _sink.Crashed(Server, crash, []);
        _sink.Complete(9000);

        TelemetryItem[] items = [.. Items()];
        (EventId id, LogLevel level, string text, Dictionary<string, object?> attributes) = Logged(items.Single(static i => i.Kind == ItemKind.Crashed));
        (id.Name, level, text).ShouldBe(("kamotel.crash", LogLevel.Error, "worker died of signal 6 (SIGABRT); last OpenSSL call: cleanup_local of key 7, 1.5 ms before"));
        attributes["process.pid"].ShouldBe(12L);
        attributes.ContainsKey("thread.id").ShouldBeFalse("nobody told which thread it was");
        attributes["kamotel.signal"].ShouldBe("SIGABRT");
        attributes["kamotel.chain.detail"].ShouldBe("the copy ends");
        attributes.ContainsKey("kamotel.module").ShouldBeFalse();

        TraceSpan span = items.Single(static i => i.Span is not null).Span!.Root.All().Single(static s => s.Name == "kamailio crash");
        foreach ((string name, object? value) in CrashTelemetry.AttributesOf(crash))
        {
            attributes[name].ShouldBe(value);
            span.Attributes.Get(name).ShouldBe(value);
        }
        Instrument crashes = Instruments.Table.Single(static i => i.Name == "kamotel.crashes");
        _exemplars.For(crashes, new Sample(1, "kamailio", "SIGABRT", "worker", "")).ShouldNotBeNull();
    }

    [Theory]
    [InlineData(ComplaintKind.Overwritten, LogLevel.Error, "worker complained of memory overwritten (called from tls: tls_init.c: ser_free), beside what a shared slot points to; 41 more since the one told before")]
    [InlineData(ComplaintKind.OutOfSharedMemory, LogLevel.Warning, "worker complained of no room in shared memory (called from tls: tls_init.c: ser_free), beside what a shared slot points to; 41 more since the one told before")]
    public void A_complaint_is_a_log_event_that_says_what_was_left_out(ComplaintKind kind, LogLevel expected, string message)
    {
        var observation = new Observation { Kind = ObservationKind.Complained, TimeNs = 5, Process = new ProcessId(12, 5), Tid = 13, Instance = Server.Id };
        _sink.Complained(Server, in observation, new Complaint(kind, 0x7f001234, "tls", "tls_init.c: ser_free"), new ComplaintContext(ProcessRole.Worker, AddressRelation.BesideSharedSlot, null, 41), []);
        (EventId id, LogLevel level, string text, Dictionary<string, object?> attributes) = Logged(Items().Single());
        (id.Name, level, text).ShouldBe(("kamotel.memory.complaint", expected, message));
        (attributes["process.pid"], attributes["thread.id"], attributes["kamotel.complaint"], attributes["kamotel.module"], attributes["kamotel.caller"]).ShouldBe((12L, 13L, Words.Of(kind), "tls", "tls_init.c: ser_free"));
        (attributes["kamotel.address"], attributes["kamotel.complaints.left_out"]).ShouldBe(("0x7f001234", 41L));
    }

    private static (EventId Id, LogLevel Level, string Text, Dictionary<string, object?> Attributes) Logged(in TelemetryItem item)
    {
        var log = new CapturingLogger();
        EventLog.Write(log, in item);
        return log.Written.ShouldNotBeNull();
    }

    private IEnumerable<TelemetryItem> Items()
    {
        while (_sink.Items.TryRead(out TelemetryItem item))
        {
            yield return item;
        }
    }

    private sealed class CapturingLogger : ILogger
    {
        public (EventId, LogLevel, string, Dictionary<string, object?>)? Written { get; private set; }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter) =>
            Written = (eventId, logLevel, formatter(state, exception), ((IEnumerable<KeyValuePair<string, object?>>)(object)state!).ToDictionary(StringComparer.Ordinal));
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
