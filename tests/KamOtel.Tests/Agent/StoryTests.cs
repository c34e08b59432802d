using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Tests.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What a crash and a complaint look like in the story, and in the drawing of a trace.</summary>
public sealed class StoryTests
{
    private static readonly InstanceContext Server = new(new InstanceId(10, 1), "/etc/kamailio/kamailio.cfg", "kamailio", SinceExec: true, StartedNs: 1);
    private static readonly Crash Crashed = new(new ProcessId(12, 5), ProcessRole.Worker, 11, 2_000_001, 5_000_001, new CallChain([new CallFrame("tls.so", "tls", false, "tls_read_f", 0x10)], ChainEnd.Truncated, "the copy ends")) { Tid = 12, InheritedSlots = 2 };

    [Fact]
    public void A_crash_is_a_line_with_its_module_or_why_that_is_not_known()
    {
        Story(static s => s.Crashed(Server, Crashed, [])).ShouldEndWith("12/12      crash         worker died of signal 11 (SIGSEGV) in tls; last OpenSSL call: none was seen; 2 slots were inherited\n");
        Story(static s => s.Crashed(Server, Crashed with { Chain = CallChain.Unknown(ChainEnd.NotCopied, "its stack was not copied"), InheritedSlots = 0 }, []))
            .ShouldEndWith("worker died of signal 11 (SIGSEGV); in which module is not known: its stack was not copied; last OpenSSL call: none was seen\n");
    }

    [Fact]
    public void A_complaint_is_a_line_that_says_where_the_memory_lies()
    {
        Story(static s => s.Complained(Server, new Observation { TimeNs = 3_000_001, Process = History.Id(12), Tid = 12 }, new Complaint(ComplaintKind.AlreadyFreed, 1, "tls", "tls_init.c: ser_free"), new ComplaintContext(ProcessRole.Worker, AddressRelation.SharedSlot, null, 0), []))
            .ShouldBe("     +3.000 ms       12/12      complaint     worker complained of memory freed twice (called from tls: tls_init.c: ser_free), at what a shared slot points to\n");
    }

    [Fact]
    public void A_crash_is_drawn_with_the_process_that_crashed()
    {
        var output = new StringWriter { NewLine = "\n" };
        var story = new TraceStory(output, colored: false);
        story.Sink.Crashed(Server, Crashed, []);
        story.Finish(9_000_000);
        string[] lines = output.ToString().Split('\n');
        lines[0].ShouldStartWith("/etc/kamailio/kamailio.cfg, worker 12, ");
        lines[1].ShouldBe("     0.000    3.000 ms  ████████████████████████  kamailio crash  worker died of signal 11 (SIGSEGV) in tls");
    }

    private static string Story(Action<StoryPrinter> tell)
    {
        using var output = new StringWriter { NewLine = "\n" };
        tell(new StoryPrinter(output, colored: false));
        return output.ToString();
    }
}
