using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

public sealed class TraceDrawingTests
{
    private const ulong Ms = 1_000_000;

    [Fact]
    public void A_trace_is_a_tree_that_tells_when_how_long_and_by_whom() => Draw(Hazard(), colored: false).ShouldBe(
        """
             0.000  100.000 ms  ████████████████████████  kamailio start                  hazard: 6 processes share 2 slots
            20.000   60.000 ms      ████████████████      ├ initialise modules
            20.000   30.000 ms      ████████              │ ├ initialise tls
            21.000                   ·                    │ │ └ CRYPTO_THREAD_init_local  a new key, tls → libssl
            50.000   30.000 ms              ████████      │ └ initialise htable
            55.000                           ·            │   └ CRYPTO_THREAD_set_local   key 3 (err_state) = pointer, htable → db_postgres → libpq → libssl
            90.000                                   ·    ├ fork                          worker 11
            95.000                                    ·   └ kamotel.verdict               exposed: root has slots

        """);

    [Fact]
    public void Colours_say_what_is_bad()
    {
        string[] lines = Draw(Hazard(), colored: true).Split('\n');
        lines[0].ShouldStartWith("\u001b[31m");
        lines[1].ShouldStartWith("    20.000");
        lines[5].ShouldStartWith("\u001b[33m");
        lines[6].ShouldStartWith("\u001b[2m");
        lines[..8].Where(static l => l.Contains('\u001b', StringComparison.Ordinal)).ShouldAllBe(static l => l.EndsWith("\u001b[0m", StringComparison.Ordinal));
    }

    [Fact]
    public void What_was_cut_off_says_by_what_and_an_author_that_is_unknown_why()
    {
        var root = new TraceSpan("kamailio start", 5 * Ms, 15 * Ms) { Error = "ended before it was ready: signal 11 (SIGSEGV)" };
        var module = new TraceSpan("initialise tls", 10 * Ms, 15 * Ms) { Error = "signal 11 (SIGSEGV)" };
        TraceSpan call = Call("set_local", 12 * Ms, key: 1, value: "sentinel", path: null);
        call.Attributes.Set("kamotel.chain.end", "truncated");
        call.Attributes.Set("kamotel.chain.detail", "the copy ends");
        module.Children.Add(call);
        root.Children.Add(module);
        Draw(root, colored: false).ShouldBe(
            """
                 0.000   10.000 ms  ████████████████████████  kamailio start               ended before it was ready: signal 11 (SIGSEGV)
                 5.000    5.000 ms              ████████████  └ initialise tls             signal 11 (SIGSEGV)
                 7.000                              ·           └ CRYPTO_THREAD_set_local  key 1 = sentinel, author unknown (the copy ends)

            """);
    }

    private static string Draw(TraceSpan root, bool colored)
    {
        using var output = new StringWriter { NewLine = "\n" };
        TraceDrawing.Write(output, root, colored);
        return output.ToString();
    }

    private static TraceSpan Hazard()
    {
        ulong start = 1000 * Ms;
        var root = new TraceSpan("kamailio start", start, start + (100 * Ms)) { Error = "6 processes share 2 slots" };
        root.Attributes.Set("process.pid", 10L);
        root.Attributes.Set("kamotel.verdict", "hazard");
        var all = new TraceSpan("initialise modules", start + (20 * Ms), start + (80 * Ms));
        var tls = new TraceSpan("initialise tls", all.StartNs, start + (50 * Ms));
        tls.Children.Add(Call("init_local", start + (21 * Ms), key: null, value: "none", path: "tls → libssl"));
        var htable = new TraceSpan("initialise htable", start + (50 * Ms), all.EndNs);
        TraceSpan set = Call("set_local", start + (55 * Ms), key: 3, value: "pointer", path: "htable → db_postgres → libpq → libssl");
        set.Attributes.Set("kamotel.slot", "err_state");
        htable.Children.Add(set);
        all.Children.AddRange([tls, htable]);
        root.Children.Add(all);
        var fork = new TraceAttributes();
        fork.Set("process.pid", 11L);
        fork.Set("kamotel.role", "worker");
        root.Events.Add(new TraceEvent("fork", start + (90 * Ms), fork));
        var verdict = new TraceAttributes();
        verdict.Set("kamotel.verdict", "exposed");
        verdict.Set("kamotel.reason", "root has slots");
        root.Events.Add(new TraceEvent("kamotel.verdict", start + (95 * Ms), verdict));
        return root;
    }

    private static TraceSpan Call(string name, ulong at, long? key, string value, string? path)
    {
        var span = new TraceSpan($"CRYPTO_THREAD_{name}", at, at + 1000);
        span.Attributes.Set("kamotel.thread.main", true);
        span.Attributes.Set("kamotel.key", key);
        span.Attributes.Set("kamotel.value.kind", value);
        span.Attributes.Set("kamotel.path", path);
        return span;
    }
}
