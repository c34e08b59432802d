using KamOtel.Diagnosis;

namespace KamOtel.KernelTests;

/// <summary>What a program of known truth does is what is seen: no more, no less, in order.</summary>
public sealed class ScenarioTests
{
    private const int SigAbrt = 6;
    private const int SigSegv = 11;

    [Theory]
    [InlineData("before_fork")]
    [InlineData("other_thread")]
    [InlineData("worker")]
    [InlineData("cleared")]
    [InlineData("exec")]
    [InlineData("signals")]
    [InlineData("short")]
    public void Every_deed_is_seen_exactly(string scenario)
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = session.Run(scenario);
        SeenShouldBeTheTruth(session, deeds);
    }

    [Fact]
    public void The_functions_of_OpenSSL_3_6_are_seen()
    {
        using var session = new Session(Path.Combine(Machine.Targets, "libcrypto36.so"));
        IReadOnlyList<Deed> deeds = session.Run("extended");
        SeenShouldBeTheTruth(session, deeds);
        Observation call = session.Calls.Single(static o => o.Kind == ObservationKind.SetLocalEx);
        call.KeyAddress.ShouldBe(0x10UL, "the library context");
    }

    [Fact]
    public void A_thousand_forks_as_fast_as_they_go_are_all_seen()
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = session.Run("forks", 1000);
        deeds.Count(static d => d.What == "fork").ShouldBe(1000);
        SeenShouldBeTheTruth(session, deeds);
    }

    [Fact]
    public void The_main_thread_is_told_from_others()
    {
        using var session = new Session();
        _ = session.Run("other_thread");
        Observation set = session.Calls.Single(static o => o.Kind == ObservationKind.SetLocal);
        set.MainThread.ShouldBeFalse();
        session.Calls.Single(static o => o.Kind == ObservationKind.InitLocal).MainThread.ShouldBeTrue();
    }

    [Fact]
    public void A_worker_that_executes_another_program_leaves()
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = session.Run("exec");
        int worker = deeds.Single(static d => d.What == "exec").Process;
        Observation exec = session.Seen.Single(o => o.Kind == ObservationKind.Exec && o.Process.Tgid == worker);
        exec.Watched.ShouldBeFalse();
        exec.Name.ToString().ShouldBe("true");
        session.Seen.ShouldNotContain(o => o.Kind == ObservationKind.Exit && o.Process.Tgid == worker);
    }

    [Fact]
    public void Deaths_by_signal_carry_the_signal()
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = session.Run("signals");
        foreach (Deed death in deeds.Where(static d => d.What == "signal"))
        {
            Observation exit = session.Seen.Single(o => o.Kind == ObservationKind.Exit && o.LastThread && o.Process.Tgid == death.Process);
            (exit.Status & 0x7f).ShouldBe(death.Tid);
        }
        deeds.Where(static d => d.What == "signal").Select(static d => d.Tid).ShouldBe([SigAbrt, SigSegv]);
    }

    [Fact]
    public void A_process_that_nobody_watches_is_not_seen()
    {
        using var session = new Session();
        using var scratch = new Scratch();
        using Target other = Target.Start(scratch, "somebody-else", session.Library, "before_fork");
        _ = other.Finish();
        _ = session.Run("short");
        session.Seen.ShouldAllBe(o => o.Instance.Tgid != other.Pid);
    }

    private static void SeenShouldBeTheTruth(Session session, IReadOnlyList<Deed> deeds)
    {
        for (int kind = 1; kind < Bpf.KernelSide.KindNames.Count; kind++)
        {
            session.Kernel.Lost(kind).ShouldBe(0, Bpf.KernelSide.KindNames[kind]);
        }

        // Within one process the order is the order of the deeds.
        foreach (int pid in deeds.Where(static d => d.Process != 0).Select(static d => d.Process).Distinct())
        {
            string[] done = [.. deeds.Where(d => d.Process == pid && d.What is "init" or "set" or "cleanup" or "set_ex" or "clean").Where(d => d.Process == pid)
                .Select(static d => $"{d.What} {d.Tid} {(d.What is "init" or "clean" ? 0 : d.Key)} {d.Value:x}")];
            string[] seen = [.. session.Calls.Where(o => o.Process.Tgid == pid).Select(Describe)];
            seen.ShouldBe(done, $"the calls of process {pid}");
        }

        deeds.Where(static d => d.What == "fork").Select(static d => (d.Process, d.Tid)).Order()
            .ShouldBe(session.Seen.Where(static o => o.Kind == ObservationKind.Fork).Select(static o => (o.Process.Tgid, o.Other.Tgid)).Order()
                .Where(pair => deeds.Any(d => d.What == "fork" && d.Tid == pair.Item2)));

        foreach (Deed exit in deeds.Where(static d => d.What == "exit"))
        {
            session.Seen.Count(o => o is { Kind: ObservationKind.Exit, LastThread: true, Status: 0 } && o.Process.Tgid == exit.Process)
                .ShouldBe(1, $"the exit of process {exit.Process}");
        }

        int forks = session.Seen.Count(static o => o.Kind == ObservationKind.Fork);
        int ends = session.Seen.Count(static o => o is { Kind: ObservationKind.Exit, LastThread: true });
        int left = session.Seen.Count(static o => o is { Kind: ObservationKind.Exec, Watched: false });
        (ends + left).ShouldBe(forks + 1, "every process ends, or leaves by exec");
        session.Seen.Count(static o => o is { Kind: ObservationKind.Exec, Watched: true }).ShouldBe(1);
        session.Seen.Select(static o => o.Instance).Distinct().Count().ShouldBe(1);
    }

    private static string Describe(Observation o)
    {
        string what = o.Kind switch
        {
            ObservationKind.InitLocal => "init",
            ObservationKind.SetLocal => "set",
            ObservationKind.CleanupLocal => "cleanup",
            ObservationKind.SetLocalEx => "set_ex",
            ObservationKind.CleanLocal => "clean",
            _ => "?",
        };
        string value = o.Kind == ObservationKind.InitLocal ? "0" : $"{o.Value:x}";
        return $"{what} {o.Tid} {(o.Kind is ObservationKind.InitLocal or ObservationKind.CleanLocal ? 0 : o.Key)} {value}";
    }
}
