using System.Diagnostics;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>The verdict over servers whose truth is known, however early or late the agent comes.</summary>
public sealed class InspectionTests : IDisposable
{
    private const int Workers = 3;

    private readonly Scratch _scratch = new();
    private readonly Recorder _recorder = new();
    private readonly AgentState _state = new();
    private readonly string _name = $"ki{Environment.ProcessId}";
    private readonly List<double> _durations = [];

    public InspectionTests() => Machine.MustRunBpf();

    public static TheoryData<string, Verdict> Truths => new()
    {
        { "none", Verdict.Safe },
        { "shared", Verdict.Hazard },
        { "private", Verdict.Exposed },
        { "atfork", Verdict.Exposed },
        { "late_clear", Verdict.Exposed },
        { "own", Verdict.Safe },
        { "workers", Verdict.Hazard },
        { "daemon", Verdict.Hazard },
    };

    [Theory]
    [MemberData(nameof(Truths))]
    public void A_server_that_ran_before_is_judged_rightly(string scenario, Verdict truth)
    {
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, scenario, Workers);
        using Watcher watcher = Start();
        Check(server, Settled(watcher, server), truth);
        NeverAbove(truth);
    }

    [Theory]
    [MemberData(nameof(Truths))]
    public void A_server_that_was_seen_from_its_exec_is_judged_rightly(string scenario, Verdict truth)
    {
        using Watcher watcher = Start();
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, scenario, Workers);
        InstanceSnapshot instance = Settled(watcher, server);
        Check(server, instance, truth);
        instance.SinceExec.ShouldBeTrue();
        NeverAbove(truth);
    }

    [Fact]
    public void Workers_that_outlived_their_root_are_one_server_still()
    {
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, "orphans", Workers);
        int[] workers = server.Workers();
        _ = Machine.Run("kill", "-KILL", $"{server.Root}");
        using Watcher watcher = Start();
        InstanceSnapshot? Now() => _state.Current.Fleet.Instances.SingleOrDefault();
        TurnUntil(watcher, () => Now() is { IsConcluded: true } i && i.Processes.Length == Workers, "the workers to be judged");
        Now()!.Verdict.ShouldBe(Verdict.Hazard, Now()!.Reason);
        Now()!.SharedSlots.Single().Holders.Select(static h => h.Tgid).Order().ShouldBe(workers.Order());
    }

    [Fact]
    public void A_server_built_on_musl_is_judged_rightly()
    {
        string library = Path.Combine(_scratch.Path, "libcrypto-musl.so");
        _ = Machine.Run("musl-gcc", "-O2", "-shared", "-fPIC", "-o", library, Path.Combine(Machine.Repository, "tests", "targets", "tiny_crypto.c"));
        string program = ForkingServer.Compile(_scratch, _name, "musl-gcc");
        foreach ((string scenario, Verdict truth) in new[] { ("shared", Verdict.Hazard), ("atfork", Verdict.Exposed), ("own", Verdict.Safe) })
        {
            using ForkingServer server = ForkingServer.Start(program, library, scenario, Workers);
            using Watcher watcher = Start();
            Check(server, Settled(watcher, server), truth);
        }
    }

    [Fact]
    public void A_server_in_a_container_with_a_C_library_of_its_own_is_judged_rightly()
    {
        // Own mount and PID namespaces, and a root with nothing but copies of what the server needs.
        string root = Directory.CreateDirectory(Path.Combine(_scratch.Path, "root")).FullName;
        string program = ForkingServer.Compile(_scratch, _name);
        File.Copy(program, Path.Combine(root, _name));
        foreach (string library in Machine.Run("ldd", program, Machine.Libcrypto).Split([' ', '\t', '\n'], StringSplitOptions.RemoveEmptyEntries)
            .Where(static word => word.StartsWith('/') && !word.EndsWith(':')).Append(Machine.Libcrypto).Distinct())
        {
            string copy = root + library;
            _ = Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(library, copy, overwrite: true);
        }
        foreach ((string scenario, Verdict truth) in new[] { ("shared", Verdict.Hazard), ("private", Verdict.Exposed) })
        {
            using ForkingServer server = ForkingServer.Start($"/{_name}", Machine.Libcrypto, scenario, Workers, "unshare", "--mount", "--pid", "--fork", "--kill-child", "chroot", root);
            using Watcher watcher = Start();
            Check(server, Settled(watcher, server), truth);
        }
    }

    [Theory]
    [InlineData("crash", Verdict.Corrupted)]
    [InlineData("crash_other", Verdict.Safe)]
    public void A_server_that_dies_half_a_second_after_its_first_fork_ends_with_the_right_verdict(string scenario, Verdict truth)
    {
        // Long before its workers have settled.
        using Watcher watcher = Start(settle: 5);
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, scenario, 2);
        TurnUntil(watcher, () => _recorder.Ended == 1, "the end of the server");
        Verdict last = _recorder.Verdicts[^1].Now.Verdict;
        if (truth == Verdict.Corrupted)
        {
            last.ShouldBe(truth);
            _recorder.Verdicts[^1].Now.Reason.ShouldContain("signal 11 (SIGSEGV)");
            _recorder.Verdicts[^1].Now.SharedSlots.Single().Value.ShouldBe(server.Value);
        }
        else
        {
            ((int)last).ShouldBeLessThan((int)Verdict.Hazard);
        }
    }

    [Fact]
    public void The_use_of_a_shared_slot_is_counted_and_the_probe_does_not_stay()
    {
        using Watcher watcher = Start(confirm: 0.5);
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, "use", Workers);
        TurnUntil(watcher, () => _recorder.Confirmations.Count > 0, "the use to be confirmed");
        InstanceSnapshot confirmed = _recorder.Confirmations.Single();
        confirmed.SharedUses.Select(static u => u.Process.Tgid).Order().ShouldBe(server.Workers().Order());
        confirmed.SharedUses.ShouldAllBe(u => u.Key == server.Key && u.Count > 20);
        confirmed.Reason.ShouldContain("3 processes used them");
        // Once, until the hazard is gone.
        var clock = Stopwatch.StartNew();
        TurnUntil(watcher, () => clock.Elapsed.TotalSeconds > 1.5, "a while");
        _state.Current.ConfirmWindows.ShouldBe(1);
    }

    [Fact]
    public void Switched_off_nothing_is_confirmed()
    {
        using Watcher watcher = Start();
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, "use", Workers);
        Settled(watcher, server).Verdict.ShouldBe(Verdict.Hazard);
        _state.Current.ConfirmWindows.ShouldBe(0);
        _recorder.Confirmations.ShouldBeEmpty();
    }

    [Fact]
    public void A_worker_that_was_forked_late_is_inspected_when_it_has_settled()
    {
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, "shared", 1);
        using Watcher watcher = Start();
        _ = Settled(watcher, server);
        int worker = server.Workers().Single();
        _ = Machine.Run("kill", "-KILL", $"{worker}");
        TurnUntil(watcher, () => _state.Current.Fleet.Instances.Single().Processes.Length == 1, "the worker's end");
        // The verdict of the server as it ran stays when its last worker goes.
        _state.Current.Fleet.Instances.Single().Verdict.ShouldBe(Verdict.Hazard);
    }

    [Fact]
    public void A_thousand_processes_are_inspected_in_one_pass()
    {
        using ForkingServer server = ForkingServer.Start(Program(), Machine.Libcrypto, "shared", 1000);
        using Watcher watcher = Start();
        _ = Settled(watcher, server);
        // The youngest workers count a little later.
        TurnUntil(watcher, () => _state.Current.Fleet.Instances.Single().SharedSlots.Single().Holders.Length == 1001, "all workers to have settled");
        InstanceSnapshot instance = _state.Current.Fleet.Instances.Single();
        instance.Verdict.ShouldBe(Verdict.Hazard);
        instance.Processes.Length.ShouldBe(1001);
        instance.Processes.ShouldAllBe(static p => p.Inspection == InspectionStatus.Inspected);
        TestContext.Current.TestOutputHelper?.WriteLine($"{_durations[^1] * 1e3:0} ms");
    }

    public void Dispose() => _scratch.Dispose();

    private static void Check(ForkingServer server, InstanceSnapshot instance, Verdict truth)
    {
        instance.Verdict.ShouldBe(truth, instance.Reason);
        instance.Root.Tgid.ShouldBe(server.Root);
        instance.Processes.ShouldAllBe(static p => p.Inspection == InspectionStatus.Inspected);
        if (truth != Verdict.Hazard)
        {
            instance.SharedSlots.ShouldBeEmpty();
            return;
        }
        SharedSlot slot = instance.SharedSlots.ShouldHaveSingleItem();
        slot.Value.ShouldBe(server.Value);
        slot.Key.ShouldBe(server.Key);
        slot.Memory.Name.ShouldBe("/dev/zero (deleted)");
        slot.Holders.Select(static h => h.Tgid).ShouldBeSubsetOf([server.Root, .. server.Workers()]);
        slot.Holders.Length.ShouldBeGreaterThanOrEqualTo(Math.Min(server.Workers().Length, 2));
    }

    /// <summary>At no time was a worse verdict told than the true one.</summary>
    private void NeverAbove(Verdict truth) =>
        _recorder.Verdicts.ShouldAllBe(v => (int)v.Now.Verdict <= Math.Max((int)truth, (int)Verdict.Exposed));

    private string Program()
    {
        string program = Path.Combine(_scratch.Path, _name);
        return File.Exists(program) ? program : ForkingServer.Compile(_scratch, _name);
    }

    private Watcher Start(double settle = 0.5, double confirm = 0)
    {
        var watcher = new Watcher(
            new RunOptions { Watch = [_name], SystemLibraries = true, SettleSeconds = settle, ConfirmSeconds = confirm },
            _state,
            _recorder,
            static _ => { },
            _durations.Add,
            static _ => { },
            NullLogger.Instance);
        watcher.Start();
        return watcher;
    }

    /// <summary>The server as it is judged when all its workers have settled.</summary>
    private InstanceSnapshot Settled(Watcher watcher, ForkingServer server)
    {
        InstanceSnapshot? Now() => _state.Current.Fleet.Instances.SingleOrDefault(i => i.Root.Tgid == server.Root);
        TurnUntil(watcher, () => Now() is { IsConcluded: true, ReadyNs: not null } i && i.Processes.All(static p => p.Inspection == InspectionStatus.Inspected), "the server to be judged");
        return Now()!;
    }

    private void TurnUntil(Watcher watcher, Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            clock.Elapsed.TotalSeconds.ShouldBeLessThan(60, $"waited for {what}");
            watcher.Turn();
        }
    }
}
