using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;
using Instrument = KamOtel.Agent.Instrument;

namespace KamOtel.Tests.Agent;

[Collection("meters")]
public sealed class InstrumentsTests : IDisposable
{
    private readonly AgentState _state = new();
    private readonly TelemetryCounters _telemetry = new();
    private readonly Instruments _instruments;

    private readonly Exemplars _exemplars = new();

    public InstrumentsTests() => _instruments = new Instruments(_state, _telemetry, _exemplars);

    [Fact]
    public async Task Prometheus_and_OpenTelemetry_show_equal_values_of_every_instrument()
    {
        Publish(Busy());
        _telemetry.CountExported(Signal.Logs, 5);
        _telemetry.CountDropped(Signal.Traces, DropReason.ExportFailed, 2);

        Dictionary<string, double> prometheus = Comparable(await Prometheus());

        prometheus.ShouldBe(Comparable(Meter()), ignoreOrder: true);
        foreach (Instrument instrument in Instruments.Table.Where(static i => i.Kind != InstrumentKind.Histogram && !i.Name.StartsWith("kamotel.agent.", StringComparison.Ordinal)))
        {
            prometheus.Keys.ShouldContain(key => key.StartsWith(instrument.PrometheusName + "{", StringComparison.Ordinal), instrument.Name);
        }
    }

    [Fact]
    public async Task A_histogram_is_recorded_on_both_sides()
    {
        var recorded = new List<double>();
        using var listener = new MeterListener { InstrumentPublished = static (i, l) => Enable(i, l) };
        listener.SetMeasurementEventCallback<double>((i, value, _, _) => recorded.Add(value));
        listener.Start();
        _instruments.AttachDelay.Record(0.003);

        recorded.ShouldBe([0.003]);
        string text = await Text();
        text.ShouldContain("kamotel_attach_delay_seconds_count 1");
        text.ShouldContain("kamotel_attach_delay_seconds_bucket{le=\"0.005\"} 1");
        text.ShouldContain("kamotel_attach_delay_seconds_bucket{le=\"0.0025\"} 0");
    }

    [Fact]
    public async Task What_is_gone_is_not_shown_and_counters_stay()
    {
        History history = Busy();
        Publish(history);
        (await Prometheus()).Keys.ShouldContain("kamotel_instances{target=kamailio}");

        history.Exit(11).Exit(12, status: 11).Exit(10);
        Publish(history);
        Dictionary<string, double> after = await Prometheus();
        after.Keys.ShouldNotContain(static key => key.StartsWith("kamotel_instance", StringComparison.Ordinal));
        after["kamotel_execs_total{target=kamailio}"].ShouldBe(1);
        after["kamotel_exits_total{status=signal,target=kamailio}"].ShouldBe(2);
        after["kamotel_exits_total{status=clean,target=kamailio}"].ShouldBe(2);
        Comparable(after).ShouldBe(Comparable(Meter()), ignoreOrder: true);
    }

    [Fact]
    public async Task The_verdict_of_a_target_is_the_worst_of_its_instances_and_blindness_is_worse_than_safety()
    {
        var history = new History();
        history.Exec(10).Library(10).Fork(10, 11).Settle();
        Publish(history);
        (await Prometheus())["kamotel_instance_verdict{target=kamailio,verdict=safe}"].ShouldBe(1);

        history.Exec(20);
        Publish(history);
        Dictionary<string, double> blind = await Prometheus();
        blind["kamotel_instance_verdict{target=kamailio,verdict=unknown}"].ShouldBe(1);
        blind["kamotel_instance_verdict{target=kamailio,verdict=safe}"].ShouldBe(0);

        history.Set(20);
        Publish(history);
        (await Prometheus())["kamotel_instance_verdict{target=kamailio,verdict=exposed}"].ShouldBe(1);
    }

    [Fact]
    public async Task Of_a_targets_instances_the_one_nearest_to_its_end_tells_the_shared_memory_and_what_is_not_known_is_absent()
    {
        const string Size = "kamotel_shared_memory_size_bytes{target=kamailio}", Used = "kamotel_shared_memory_used_bytes{target=kamailio}", Free = "kamotel_shared_memory_free_bytes{target=kamailio}", Most = "kamotel_shared_memory_max_used_bytes{target=kamailio}";
        var history = new History();
        Inspect(10, null);
        (await Prometheus()).Keys.ShouldNotContain(static key => key.StartsWith("kamotel_shared_memory_allocation", StringComparison.Ordinal));

        Inspect(20, new SharedMemoryPool(0, 4000, null, null, null, null));
        Dictionary<string, double> unread = await Prometheus();
        unread[Size].ShouldBe(4000);
        unread.Keys.ShouldNotContain(Used);
        unread.Keys.ShouldNotContain(Free);
        unread.Keys.ShouldNotContain(Most);

        Inspect(30, new SharedMemoryPool(0, 3000, "qm", 2000, 1000, 2500));
        Inspect(40, new SharedMemoryPool(0, 5000, "fm", 3500, 1500, 4500));
        Dictionary<string, double> read = await Prometheus();
        (read[Size], read[Used], read[Free], read[Most]).ShouldBe((3000, 2000, 1000, 2500));

        void Inspect(int pid, SharedMemoryPool? pool)
        {
            history.Exec(pid).Fork(pid, pid + 1).Settle();
            history.Fleet.Inspected(history.InstanceOf(pid), [history.Found(pid), history.Found(pid + 1)], new ServerFacts { SharedMemory = pool });
            Publish(history);
        }
    }

    [Fact]
    public async Task A_label_may_hold_anything()
    {
        var history = new History();
        history.Exec(10);
        history.Fleet.Name(history.InstanceOf(10), "a\"b\\c\nd");
        Publish(history);
        (await Text()).ShouldContain("kamotel_execs_total{target=\"a\\\"b\\\\c\\nd\"} 1");
    }

    [Fact]
    public async Task A_counted_call_and_a_bad_verdict_lead_to_their_trace_where_the_format_has_a_place_for_that()
    {
        var call = System.Diagnostics.ActivityTraceId.CreateRandom();
        var verdict = System.Diagnostics.ActivityTraceId.CreateRandom();
        _exemplars.Called("kamailio", ObservationKind.SetLocal, call);
        _exemplars.Judged("kamailio", Verdict.Hazard, verdict);
        var crash = System.Diagnostics.ActivityTraceId.CreateRandom();
        _exemplars.Crashed("kamailio", new Crash(History.Id(13), ProcessRole.Worker, 11, 1, 1, CallChain.Unknown(ChainEnd.NotCopied, "")), crash);
        // What happens to be traced while the page is asked for is no example of anything.
        using System.Diagnostics.Activity around = new System.Diagnostics.Activity("scrape").Start();
        Publish(Busy());

        string[] told = [.. (await Text(openMetrics: true)).Split('\n').Where(static l => l.Contains(" # {", StringComparison.Ordinal))];
        told.Length.ShouldBe(3);
        told[0].ShouldStartWith("kamotel_thread_local_calls_total{target=\"kamailio\",call=\"set_local\",thread=\"main\",phase=\"before_fork\",value=\"pointer\"} 1.0 # {trace_id=\"" + call.ToHexString() + "\"} 1.0");
        told[2].ShouldStartWith("kamotel_verdicts_total{target=\"kamailio\",verdict=\"hazard\"} 1.0 # {trace_id=\"" + verdict.ToHexString() + "\"} 1.0");
        told[1].ShouldStartWith("kamotel_crashes_total{target=\"kamailio\",signal=\"SIGSEGV\",role=\"worker\",module=\"\"} 1.0 # {trace_id=\"" + crash.ToHexString() + "\"} 1.0");
        (await Text()).ShouldNotContain("trace_id");
    }

    [Fact]
    public async Task A_shortage_is_counted_apart_from_damage_and_what_is_not_known_is_empty()
    {
        Publish(Busy());
        Dictionary<string, double> told = await Prometheus();
        told.Where(static t => t.Key.StartsWith("kamotel_memory", StringComparison.Ordinal) || t.Key.StartsWith("kamotel_shared_memory_allocation", StringComparison.Ordinal) || t.Key.StartsWith("kamotel_crashes", StringComparison.Ordinal))
            .Select(static t => $"{t.Key} {t.Value}").Order(StringComparer.Ordinal).ShouldBe(
        [
            "kamotel_crashes_total{module=,role=worker,signal=SIGSEGV,target=kamailio} 1",
            "kamotel_memory_complaints_total{complaint=already_freed,module=tls,target=kamailio} 1",
            "kamotel_memory_complaints_total{complaint=overwritten,module=,target=kamailio} 1",
            "kamotel_memory_unread_complaints_total{} 3",
            "kamotel_shared_memory_allocation_failures_total{module=core,target=kamailio} 1",
        ]);
    }

    [Fact]
    public void Names_and_labels_keep_to_the_conventions()
    {
        Instruments.Table.Select(static i => i.Name).ShouldBeUnique();
        foreach (Instrument instrument in Instruments.Table)
        {
            instrument.Name.ShouldMatch("^kamotel(\\.[a-z_]+)+$");
            instrument.PrometheusName.EndsWith("_total", StringComparison.Ordinal).ShouldBe(instrument.Kind == InstrumentKind.Counter, instrument.Name);
            instrument.Help.ShouldMatch("\\.$");
            instrument.Attributes.ShouldBeSubsetOf(["target", "call", "thread", "phase", "value", "status", "verdict", "slot", "author", "asked_by", "role", "module", "complaint", "gap", "kind", "function", "site", "holding", "kamailio", "openssl", "tls_back_end", "tls_threads_mode", "container_id", "k8s_pod_uid", "k8s_pod_name", "signal", "reason", "outcome", "version", "revision"]);
        }
    }

    [Fact]
    public void Every_word_of_a_label_is_lower_case()
    {
        string[] words =
        [
            .. Enum.GetValues<Verdict>().Select(Words.Of), .. Enum.GetValues<ProcessRole>().Select(Words.Of), .. Enum.GetValues<CallPhase>().Select(Words.Of),
            .. Enum.GetValues<SlotValueKind>().Select(Words.Of), .. Enum.GetValues<ExitKind>().Select(Words.Of), .. Enum.GetValues<CoverageGaps>().Select(Words.Of),
            .. Enum.GetValues<ObservationKind>().Select(Words.Of), .. Enum.GetValues<ComplaintKind>().Select(Words.Of), .. Enum.GetValues<AddressRelation>().Select(Words.Of),
        ];
        words.ShouldAllBe(static word => word.Length > 0 && word.All(static c => char.IsAsciiLetterLower(c) || c == '_'));
    }

    public void Dispose() => _instruments.Dispose();

    private static History Busy()
    {
        var history = new History();
        history.Exec(10).Library(10, lateNs: 2_000_000).Init(10).Set(10).Set(10, key: 1, value: SlotValue.Sentinel).Set(10, tid: 99)
            .Fork(10, 11).Fork(10, 12).Set(11, value: 0).SetEx(12).Clean(12).Cleanup(10, key: 1).Settle();
        history.Inspect(pid => history.Found(pid, History.Shared()), new ServerFacts { Kamailio = "5.6.3", OpenSsl = "3.0.19", TlsBackEnd = "tls", TlsThreadsMode = 0, SharedMemory = new SharedMemoryPool(0x1000, 0x5000, "qm", 0x1000, 0x3000, 0x2000) });
        history.Fleet.Confirmed(history.InstanceOf(10), [new SharedUse(History.Id(11), 0, 12)], History.Second, history.Now);
        history.Complain(11).Complain(12, ComplaintKind.Overwritten, module: null).Complain(12, ComplaintKind.OutOfSharedMemory, module: "core").Fork(10, 13).Exit(13, status: 11);
        return history;
    }

    private static void Enable(System.Diagnostics.Metrics.Instrument instrument, MeterListener listener)
    {
        if (instrument.Meter.Name == Instruments.Scope)
        {
            listener.EnableMeasurementEvents(instrument);
        }
    }

    /// <summary>Without what moves between two looks, and without the histograms, which no listener can ask for.</summary>
    private static Dictionary<string, double> Comparable(Dictionary<string, double> all)
    {
        all.Remove("kamotel_agent_memory_bytes{}").ShouldBeTrue();
        all.Remove("kamotel_agent_cpu_time_seconds_total{}").ShouldBeTrue();
        return all.Where(static p => !p.Key.StartsWith("kamotel_attach_delay", StringComparison.Ordinal) && !p.Key.StartsWith("kamotel_inspection_duration", StringComparison.Ordinal) && !p.Key.StartsWith("kamotel_unwind_duration", StringComparison.Ordinal)).ToDictionary(StringComparer.Ordinal);
    }

    private void Publish(History history) => _state.Publish(new AgentSnapshot(
        DateTimeOffset.UnixEpoch,
        history.Fleet.Snapshot(history.Now),
        [new EventCount("exec", 3, 0), new EventCount("set_local", 7, 2)],
        [new ProbedLibrary("/lib/libcrypto.so.3", [new ProbedFunction("CRYPTO_THREAD_set_local", "call", ""), new ProbedFunction("CRYPTO_THREAD_init_local", "entry", "argument_moved")])],
        AttachFailures: 1,
        Inspections: 5,
        ConfirmWindows: 1,
        UnwinderRestarts: 2,
        RingBytes: 4096,
        RingUsedBytes: 128)
    {
        UnreadComplaints = 3,
    });

    private async Task<string> Text(bool openMetrics = false)
    {
        using var stream = new MemoryStream();
        await _instruments.WritePrometheusAsync(stream, openMetrics, TestContext.Current.CancellationToken);
        return Encoding.UTF8.GetString(stream.ToArray());
    }

    private async Task<Dictionary<string, double>> Prometheus()
    {
        var values = new Dictionary<string, double>(StringComparer.Ordinal);
        foreach (string line in (await Text()).Split('\n').Where(static l => l.Length > 0 && l[0] != '#'))
        {
            string series = line[..line.LastIndexOf(' ')];
            int brace = series.IndexOf('{', StringComparison.Ordinal);
            string name = brace < 0 ? series : series[..brace];
            IEnumerable<string> labels = brace < 0 ? [] : series[(brace + 1)..^1].Split(',').Select(static l => l.Replace("\"", "", StringComparison.Ordinal)).Order(StringComparer.Ordinal);
            values.Add($"{name}{{{string.Join(',', labels)}}}", double.Parse(line[line.LastIndexOf(' ')..], CultureInfo.InvariantCulture));
        }
        return values;
    }

    private static Dictionary<string, double> Meter()
    {
        var values = new Dictionary<string, double>(StringComparer.Ordinal);
        using var listener = new MeterListener { InstrumentPublished = static (i, l) => Enable(i, l) };
        listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) =>
        {
            string[] labels = [.. tags.ToArray().Select(static t => $"{t.Key}={t.Value}").Order(StringComparer.Ordinal)];
            values.Add($"{Instruments.Table.Single(i => i.Name == instrument.Name).PrometheusName}{{{string.Join(',', labels)}}}", value);
        });
        listener.Start();
        listener.RecordObservableInstruments();
        return values;
    }
}
