using System.Diagnostics;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What becomes of a start as a trace.</summary>
public sealed class StartTraceTests
{
    private const ulong Ms = 1_000_000;

    private static readonly InstanceContext Server = new(new InstanceId(10, 1), "/etc/kamailio/kamailio.cfg", "kamailio", SinceExec: true, StartedNs: 1);

    private static readonly CallChain ByPostgres = new(
        [
            new CallFrame("libcrypto.so.3", null, false, "CRYPTO_THREAD_set_local", 6),
            new CallFrame("libssl.so.3", null, false, "SSL_CTX_new_ex", 0x51),
            new CallFrame("libpq.so.5.15", null, false, "PQconnectPoll", 0x7e4),
            new CallFrame("db_postgres.so", "db_postgres", false, "db_postgres_new_connection", 0x100),
            new CallFrame("htable.so", "htable", false, "mod_init", 0x20),
            new CallFrame("kamailio", null, true, "main", 0x1),
        ],
        ChainEnd.Complete,
        "");

    private readonly StartTraces _starts = new(new TelemetryCounters());
    private readonly List<SpanItem> _made = [];

    public StartTraceTests() => Take(new TelemetryItem(ItemKind.Found, Server));

    [Theory]
    [InlineData(false, 0, null)] // kamailio -c, -v, -h
    [InlineData(false, 255 << 8, "exit code 255")]
    [InlineData(false, 9, "signal 9 (SIGKILL)")]
    [InlineData(true, 0, "exit code 0")]
    public void An_end_before_it_was_ready_is_a_failure_unless_it_never_forked_and_is_content(bool forked, int status, string? reason)
    {
        if (forked)
        {
            Fork(2, null);
        }
        End(3, status);
        TraceSpan root = _made.ShouldHaveSingleItem().Root;
        root.Error.ShouldBe(reason is null ? null : $"ended before it was ready: {reason}");
        root.Attributes.Get(status is 9 ? "kamotel.exit.signal" : "process.exit.code").ShouldBe((long)(status is 9 ? 9 : status >> 8));
    }

    [Fact]
    public void A_fork_names_the_role_where_it_is_known()
    {
        Fork(2, null);
        Fork(3, ProcessRole.Worker);
        End(4);
        _made.Single().Root.Events.Select(static e => e.Attributes.Get("kamotel.role")).ShouldBe([null, "worker"]);
    }

    [Fact]
    public void Modules_follow_one_another_in_the_span_of_all_and_calls_lie_in_the_module_that_makes_them()
    {
        Call(5, "before the modules");
        Step(10, StartStep.Modules);
        Call(11, "between");
        Step(20, StartStep.Module, "tls");
        Call(21, "in tls");
        Step(30, StartStep.Module, "htable");
        Call(31, "in htable");
        Step(40, StartStep.ModulesDone);
        Call(41, "after them");
        Fork(50, ProcessRole.Worker);
        Call(60, "in a worker", CallPhase.AfterFork);
        Ready(50);

        TraceSpan root = _made.ShouldHaveSingleItem().Root;
        (root.Name, root.StartNs, root.EndNs).ShouldBe(("kamailio start", 1UL, 50 * Ms));
        root.Children.Select(static c => c.Name).ShouldBe(["CRYPTO_THREAD_set_local", "initialise modules", "CRYPTO_THREAD_set_local"]);
        TraceSpan all = root.Children[1];
        (all.StartNs, all.EndNs).ShouldBe((10 * Ms, 40 * Ms));
        all.Children.Select(static c => (c.Name, c.StartNs / Ms, c.EndNs / Ms, c.Children.Count))
            .ShouldBe([("CRYPTO_THREAD_set_local", 11UL, 11UL, 0), ("initialise tls", 20UL, 30UL, 1), ("initialise htable", 30UL, 40UL, 1)]);
        all.Children[1].Attributes.Get("kamotel.module").ShouldBe("tls");
        root.Events.Select(static e => e.Name).ShouldBe(["fork", "set_local"]);
        root.All().ShouldAllBe(static s => s.Error == null);
        root.All().SelectMany(static s => s.Attributes.GroupBy(static a => a.Key)).ShouldAllBe(static g => g.Count() == 1);
    }

    [Fact]
    public void A_module_that_is_told_twice_is_initialised_once()
    {
        Step(10, StartStep.Modules);
        Step(20, StartStep.Module, "tls");
        Step(20, StartStep.Module, "tls");
        Ready(50);
        _made.Single().Root.Children.Single().Children.ShouldHaveSingleItem().EndNs.ShouldBe(50 * Ms);
    }

    [Fact]
    public void Without_the_beginning_of_all_modules_each_hangs_below_the_start()
    {
        Step(20, StartStep.Module, "htable");
        Ready(50);
        _made.Single().Root.Children.ShouldHaveSingleItem().Name.ShouldBe("initialise htable");
    }

    [Fact]
    public void What_a_signal_cut_off_failed_with_it()
    {
        Step(10, StartStep.Modules);
        Step(20, StartStep.Module, "tls");
        Step(30, StartStep.Module, "htable");
        Take(new TelemetryItem(ItemKind.Exited, Server) { Role = ProcessRole.Root, Observation = Of(35) with { Status = 11 }, TimeNs = 35 * Ms });
        End(36, 0);
        TraceSpan root = _made.ShouldHaveSingleItem().Root;
        root.Error.ShouldBe("ended before it was ready: signal 11 (SIGSEGV)");
        root.Attributes.Get("kamotel.exit.signal").ShouldBe(11L);
        root.All().Select(static s => (s.Name, s.Error)).Skip(1).ShouldBe(
            [("initialise modules", "signal 11 (SIGSEGV)"), ("initialise tls", null), ("initialise htable", "signal 11 (SIGSEGV)")]);
    }

    [Fact]
    public void The_author_of_a_call_is_told_with_its_path_and_its_stack()
    {
        Observation call = Call(5, hasStack: true);
        Author(call, ByPostgres);
        Ready(50);
        TraceAttributes attributes = _made.Single().Root.Children.ShouldHaveSingleItem().Attributes;
        attributes.Get("kamotel.author").ShouldBe("db_postgres");
        attributes.Get("kamotel.asked_by").ShouldBe("htable");
        attributes.Get("kamotel.path").ShouldBe("htable → db_postgres → libpq → libssl");
        attributes.Get("code.function.name").ShouldBe("CRYPTO_THREAD_set_local");
        attributes.Get("code.stacktrace").ShouldBeOfType<string>().Split('\n').ShouldBe(ByPostgres.Frames.Select(static f => f.ToString()));
        attributes.Get("kamotel.chain.end").ShouldBeNull();
    }

    [Fact]
    public void An_unknown_author_has_a_reason()
    {
        Author(Call(5, hasStack: true), CallChain.Unknown(ChainEnd.NotCopied, "too many at once"));
        Ready(50);
        TraceAttributes attributes = _made.Single().Root.Children.Single().Attributes;
        attributes.Get("kamotel.author").ShouldBeNull();
        attributes.Get("kamotel.chain.end").ShouldBe("not_copied");
        attributes.Get("kamotel.chain.detail").ShouldBe("too many at once");
    }

    [Fact]
    public void A_start_that_ended_waits_for_the_authors_of_its_last_calls()
    {
        Observation call = Call(5, hasStack: true);
        End(6, 11);
        _made.ShouldBeEmpty();
        Author(call, ByPostgres);
        _made.ShouldHaveSingleItem().Root.Children.ShouldHaveSingleItem().Attributes.Get("kamotel.author").ShouldBe("db_postgres");
        _starts.Flush(0, _made.Add);
        _made.Count.ShouldBe(1);
    }

    [Fact]
    public void A_start_that_hangs_is_told_as_far_as_it_came()
    {
        Step(10, StartStep.Modules);
        Step(20, StartStep.Module, "htable");
        _starts.Flush(5000 * Ms, _made.Add);
        TraceSpan root = _made.ShouldHaveSingleItem().Root;
        root.Attributes.Get("kamotel.unfinished").ShouldBe(true);
        root.Error.ShouldBeNull();
        root.EndNs.ShouldBe(5000 * Ms);
        TraceSpan hanging = root.Children.ShouldHaveSingleItem().Children.ShouldHaveSingleItem();
        (hanging.Name, hanging.EndNs).ShouldBe(("initialise htable", 5000 * Ms));
    }

    [Fact]
    public void It_does_not_wait_for_ever()
    {
        _ = Call(5, hasStack: true);
        End(6, 11);
        InstanceContext other = Server with { Id = new InstanceId(20, 7) };
        Take(new TelemetryItem(ItemKind.Found, other) { TimeNs = 3005 * Ms });
        _made.ShouldBeEmpty();
        Take(new TelemetryItem(ItemKind.Gap, other) { TimeNs = 3007 * Ms });
        _made.ShouldHaveSingleItem().Root.Children.ShouldHaveSingleItem();
    }

    [Fact]
    public void Calls_and_events_are_bounded_and_the_rest_is_counted()
    {
        for (ulong i = 0; i < StartTrace.MaxCalls + 3; i++)
        {
            _ = Call(5 + i);
        }
        for (ulong i = 0; i < StartTrace.MaxEvents + 2; i++)
        {
            Fork(400 + i, ProcessRole.Worker);
        }
        Ready(900);
        TraceSpan root = _made.Single().Root;
        root.Children.Count.ShouldBe(StartTrace.MaxCalls);
        root.Events.Count.ShouldBe(StartTrace.MaxEvents);
        root.Attributes.Get("kamotel.calls.left_out").ShouldBe(3L);
        root.Attributes.Get("kamotel.events.left_out").ShouldBe(2L);
    }

    [Fact]
    public void A_hazard_is_an_error_that_names_its_runbook()
    {
        Ready(50, Verdict.Hazard);
        TraceSpan root = _made.Single().Root;
        root.Error.ShouldBe("because");
        root.Attributes.Get("kamotel.verdict").ShouldBe("hazard");
        root.Attributes.Get("kamotel.runbook.url").ShouldBe("docs/runbooks/hazard.md");
    }

    [Fact]
    public void A_crash_while_it_starts_is_a_span_of_the_start()
    {
        Step(10, StartStep.Modules);
        Crashed(20, 30);
        Take(new TelemetryItem(ItemKind.Complained, Server) { Observation = Of(21), Complaint = (new Complaint(ComplaintKind.AlreadyFreed, null, "tls", null), default), TimeNs = 21 * Ms });
        Ready(50);
        TraceSpan root = _made.ShouldHaveSingleItem().Root;
        TraceSpan crash = root.Children.Single(static c => c.Name == "kamailio crash");
        (crash.StartNs, crash.EndNs, crash.Error).ShouldBe((20 * Ms, 30 * Ms, "worker died of signal 11 (SIGSEGV) in htable"));
        root.Events.ShouldHaveSingleItem().Attributes.Get("kamotel.complaint").ShouldBe("already_freed");
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_crash_after_the_start_is_a_span_of_its_trace_though_the_server_has_ended(bool ended)
    {
        Ready(50);
        if (ended)
        {
            End(70, 11);
        }
        Crashed(60, 60);
        SpanItem crash = _made[^1];
        crash.Root.Name.ShouldBe("kamailio crash");
        crash.Root.EndNs.ShouldBeGreaterThan(crash.Root.StartNs);
        crash.Start.ShouldNotBeNull().TraceId.ShouldBe(_starts.TraceOf(Server.Id).ShouldNotBeNull());
        crash.Root.Attributes.Select(static a => $"{a.Key} {a.Value}").ShouldBe(
        [
            "process.pid 12", "thread.id 13", "process.executable.name kamailio", "kamotel.target /etc/kamailio/kamailio.cfg", "kamotel.instance 10@1",
            "kamotel.signal SIGSEGV", "kamotel.role worker", "kamotel.module htable", "code.stacktrace htable.so mod_init+0x20",
            "kamotel.last_call set_local", "kamotel.last_call.key 3", "kamotel.last_call.slot err_state", "kamotel.last_call.before 0.002", "kamotel.inherited_slots 0",
            "kamotel.runbook.url docs/runbooks/crash.md",
        ]);
    }

    [Fact]
    public void A_crash_that_ended_the_start_may_be_told_after_it()
    {
        Fork(5, ProcessRole.Worker);
        End(70, 11);
        Crashed(60, 69);
        _made.Select(static m => m.Root.Name).ShouldBe(["kamailio start", "kamailio crash"]);
        _made[1].Start.ShouldBe(_made[0].Start);
    }

    [Fact]
    public async Task It_is_sent_under_the_name_that_it_had_before_and_what_comes_later_hangs_below_it()
    {
        ActivityTraceId name = _starts.TraceOf(Server.Id).ShouldNotBeNull();
        Step(10, StartStep.Modules);
        Step(20, StartStep.Module, "tls");
        _ = Call(21);
        Ready(50);
        Take(new TelemetryItem(ItemKind.Verdict, Server) { Snapshot = Snapshot(Verdict.Hazard), Detail = "exposed", TimeNs = 60 * Ms });

        using var source = new ActivitySource($"test {Guid.NewGuid():N}");
        var sent = new List<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = s => s.Name == source.Name,
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = sent.Add,
        };
        ActivitySource.AddActivityListener(listener);
        foreach (SpanItem item in _made)
        {
            await item.EmitAsync(source, static () => ValueTask.FromResult(true), static _ => { });
        }

        sent.Select(static a => a.OperationName).ShouldBe(["kamailio start", "initialise modules", "initialise tls", "CRYPTO_THREAD_set_local", "kamailio verdict"]);
        sent.ShouldAllBe(a => a.TraceId == name);
        sent[0].ParentSpanId.ShouldBe(default);
        sent.Skip(1).Select(static a => a.ParentSpanId).ShouldBe([sent[0].SpanId, sent[1].SpanId, sent[2].SpanId, sent[0].SpanId]);
        sent[3].Duration.TotalMicroseconds.ShouldBe(1, 0.2);
        sent[4].Status.ShouldBe(ActivityStatusCode.Error);
    }

    [Fact]
    public async Task What_there_is_no_room_for_is_counted_with_all_that_is_below_it()
    {
        Step(10, StartStep.Modules);
        _ = Call(21);
        Ready(50);
        using var source = new ActivitySource("test");
        int room = 1;
        int below = 0;
        await _made.Single().EmitAsync(source, () => ValueTask.FromResult(room-- > 0), count => below += count);
        below.ShouldBe(1); // The call below the modules, which were refused themselves.
    }

    private static Observation Of(ulong atMs, int pid = 10) => new() { TimeNs = atMs * Ms, Process = new ProcessId(pid, 100), Tid = pid, Instance = Server.Id };

    private static InstanceSnapshot Snapshot(Verdict verdict) => new()
    {
        Id = Server.Id,
        Target = Server.Target,
        Program = Server.Program,
        Root = new ProcessId(10, 100),
        Processes = [],
        StartedNs = Server.StartedNs,
        Verdict = verdict,
        Reason = "because",
        Gaps = CoverageGaps.None,
        MainThreadCallsBeforeFork = 0,
        LibraryGapNs = 0,
    };

    private void Take(in TelemetryItem item) => _starts.Take(in item, _made.Add);

    private Observation Call(ulong atMs, string? why = null, CallPhase phase = CallPhase.BeforeFork, bool hasStack = false)
    {
        _ = why;
        Observation call = Of(atMs) with { Kind = ObservationKind.SetLocal, Key = 3, Value = 0x7f00, HasStack = hasStack };
        Take(new TelemetryItem(ItemKind.Call, Server)
        {
            Observation = call,
            Call = new CallContext(ProcessRole.Root, phase, SlotValueKind.Pointer, ReplacesInherited: false),
            TimeNs = call.TimeNs,
        });
        return call;
    }

    private void Author(in Observation call, CallChain chain) =>
        Take(new TelemetryItem(ItemKind.Attributed, Server) { Observation = call, Chain = chain, TimeNs = call.TimeNs });

    private void Crashed(ulong atMs, ulong endMs) =>
        Take(new TelemetryItem(ItemKind.Crashed, Server)
        {
            Crash = new Crash(new ProcessId(12, 102), ProcessRole.Worker, 11, atMs * Ms, endMs * Ms, new CallChain([new CallFrame("htable.so", "htable", false, "mod_init", 0x20)], ChainEnd.Truncated, "the copy ends"))
            {
                Tid = 13,
                LastCall = new LastCall(ObservationKind.SetLocal, 3, "err_state", 2 * Ms),
            },
            TimeNs = atMs * Ms,
        });

    private void Step(ulong atMs, StartStep step, string? module = null) =>
        Take(new TelemetryItem(ItemKind.Entered, Server) { Observation = Of(atMs), Step = step, Module = module, TimeNs = atMs * Ms });

    private void Fork(ulong atMs, ProcessRole? role) =>
        Take(new TelemetryItem(ItemKind.Forked, Server) { Observation = Of(atMs) with { Other = new ProcessId(11, 101) }, Forked = role, TimeNs = atMs * Ms });

    private void Ready(ulong atMs, Verdict verdict = Verdict.Safe) =>
        Take(new TelemetryItem(ItemKind.Ready, Server) { Snapshot = Snapshot(verdict), TimeNs = atMs * Ms });

    private void End(ulong atMs, int status = 0) =>
        Take(new TelemetryItem(ItemKind.Ended, Server) { Observation = Of(atMs) with { Status = status }, TimeNs = atMs * Ms });
}
