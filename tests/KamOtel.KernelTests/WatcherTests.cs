using System.Diagnostics;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>The whole way from the kernel to the fleet: finding libraries and processes.</summary>
public sealed class WatcherTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly Recorder _recorder = new();
    private readonly AgentState _state = new();
    private readonly List<double> _delays = [];
    private readonly string _name = $"kw{Environment.ProcessId}";

    public WatcherTests() => Machine.MustRunBpf();

    [Fact]
    public void A_library_that_nobody_scanned_is_probed_when_it_is_mapped_and_the_gap_is_told()
    {
        const int Calls = 100;
        string library = _scratch.Copy(Machine.Libcrypto, "libhidden.so");
        using Watcher watcher = Start();
        using Target target = Target.Start(_scratch, _name, library, "late", Calls);
        InstanceSnapshot last = TurnUntil(watcher, () => target.HasExited, "the target to end");
        IReadOnlyList<Deed> deeds = target.Finish();
        TurnUntil(watcher, () => _recorder.Ended == 1, "its end");

        ulong[] seen = [.. _recorder.Calls.Where(static c => c.Observation.Kind == ObservationKind.SetLocal).Select(static c => c.Observation.Value)];
        seen.ShouldNotBeEmpty();
        // Every call after the attach, and none is missing in between.
        seen.ShouldBe(Enumerable.Range((int)seen[0], Calls - (int)seen[0] + 1).Select(static i => (ulong)i));

        (_, string detail) = _recorder.Gaps.Single(static g => g.Gap == CoverageGaps.LibraryLate);
        detail.ShouldContain("libhidden.so");
        _delays.Single().ShouldBeGreaterThan(0);
        last.Gaps.HasFlag(CoverageGaps.LibraryLate).ShouldBeTrue();
        (last.LibraryGapNs / 1e9).ShouldBe(_delays[0], 1e-6);
        last.Verdict.ShouldNotBe(Verdict.Safe);

        // What came before is what the gap covers: the last unseen call was made before the attach.
        ulong[] at = [.. deeds.Where(static d => d.What == "at").Select(static d => d.Value)];
        if (seen[0] > 1)
        {
            ulong attached = _recorder.Calls[0].Observation.TimeNs;
            at[(int)seen[0] - 2].ShouldBeLessThan(attached);
        }
    }

    [Fact]
    public void A_library_in_the_library_path_is_probed_before_the_server_starts()
    {
        _ = _scratch.Copy(Machine.Libcrypto, "libcrypto.so.3");
        using Watcher watcher = Start();
        watcher.Start();
        using Target target = Target.Start(_scratch, _name, Path.Combine(_scratch.Path, "libcrypto.so.3"), "before_fork");
        TurnUntil(watcher, () => _recorder.Ended == 1, "its end");
        _ = target.Finish();
        _recorder.Gaps.ShouldBeEmpty();
        (Observation observation, CallContext context) = _recorder.Calls.Single(static c => c.Observation.Kind == ObservationKind.SetLocal);
        observation.Value.ShouldBe(0x1111UL);
        context.Phase.ShouldBe(CallPhase.BeforeFork);
        _recorder.Found.Single().SinceExec.ShouldBeTrue();
    }

    [Fact]
    public void A_server_that_runs_already_is_found_and_judged_by_what_it_holds()
    {
        string library = _scratch.Copy(Machine.Libcrypto, "libcrypto.so.3");
        using Target target = Target.Start(_scratch, _name, library, "wait");
        WaitUntil(() => Directory.Exists($"/proc/{target.Pid}") && File.ReadAllText($"/proc/{target.Pid}/task/{target.Pid}/children").Trim().Length > 0, "the worker");
        using Watcher watcher = Start();
        watcher.Start();
        InstanceSnapshot instance = _state.Current.Fleet.Instances.Single();
        instance.Gaps.HasFlag(CoverageGaps.StartedBefore).ShouldBeTrue();
        instance.SinceExec.ShouldBeFalse();
        instance.Root.Tgid.ShouldBe(target.Pid);
        instance.Processes.Length.ShouldBe(2);
        TurnUntil(watcher, () => _state.Current.Fleet.Instances.Single() is { IsConcluded: true, Verdict: Verdict.Exposed }, "its pointer into memory of its own to be found");
        target.Go();
        TurnUntil(watcher, () => _recorder.Ended == 1, "its end");
        _ = target.Finish();
    }

    [Fact]
    public void One_library_reached_by_two_overlays_is_probed_once()
    {
        string lower = Directory.CreateDirectory(Path.Combine(_scratch.Path, "lower")).FullName;
        File.Copy(Machine.Libcrypto, Path.Combine(lower, "libcrypto.so.3"));
        string disk = Directory.CreateDirectory(Path.Combine(_scratch.Path, "disk")).FullName;
        // overlayfs wants upper layers on a file system that can carry them: a tmpfs of the test's own.
        _ = Machine.Run("mount", "-t", "tmpfs", "tmpfs", disk);
        var mounts = new List<string> { disk };
        try
        {
            foreach (string name in new[] { "a", "b" })
            {
                string merged = Directory.CreateDirectory(Path.Combine(_scratch.Path, name)).FullName;
                string upper = Directory.CreateDirectory(Path.Combine(disk, name + "-upper")).FullName;
                string work = Directory.CreateDirectory(Path.Combine(disk, name + "-work")).FullName;
                _ = Machine.Run("mount", "-t", "overlay", "overlay", "-o", $"lowerdir={lower},upperdir={upper},workdir={work}", merged);
                mounts.Add(merged);
            }
            using Watcher watcher = Start(mounts[1], mounts[2]);
            watcher.Start();
            _state.Current.Libraries.Length.ShouldBe(1);
            foreach (string merged in mounts.Skip(1))
            {
                _recorder.Calls.Clear();
                int ended = _recorder.Ended;
                using Target target = Target.Start(_scratch, _name, Path.Combine(merged, "libcrypto.so.3"), "before_fork");
                TurnUntil(watcher, () => _recorder.Ended == ended + 1, "its end");
                _ = target.Finish();
                _recorder.Calls.Count(static c => c.Observation.Kind == ObservationKind.SetLocal).ShouldBe(1, merged);
            }
            _recorder.Gaps.ShouldBeEmpty();
        }
        finally
        {
            mounts.Reverse();
            foreach (string mount in mounts)
            {
                _ = Machine.Run("umount", mount);
            }
        }
    }

    [Fact]
    public void One_missing_symbol_does_not_fail_the_rest_and_a_cut_file_is_counted()
    {
        string source = Path.Combine(_scratch.Path, "only.c");
        File.WriteAllText(source, "int CRYPTO_THREAD_set_local(unsigned *k, void *v) { return k && v; }\n");
        _ = Machine.Run("gcc", "-O2", "-fPIC", "-shared", "-o", Path.Combine(_scratch.Path, "libcrypto-only.so"), source);
        byte[] whole = File.ReadAllBytes(Machine.Libcrypto);
        File.WriteAllBytes(Path.Combine(_scratch.Path, "libcrypto-cut.so"), whole[..5000]);
        File.WriteAllBytes(Path.Combine(_scratch.Path, "libcrypto-text.so"), "not a library at all"u8.ToArray());
        using Watcher watcher = Start();
        watcher.Start();
        _state.Current.Libraries.Single().Functions.Select(static f => f.Name).ShouldBe(["CRYPTO_THREAD_set_local"]);
        _state.Current.AttachFailures.ShouldBe(2);
        _state.NotReady.ShouldBeNull();
    }

    [Fact]
    public void Nothing_is_left_when_the_watcher_is_gone()
    {
        // Others may run an agent, too: only the programs of this one count.
        string[] before = Machine.ObjectIds(Machine.Descriptors(), "prog");
        string[] own;
        using (Watcher watcher = Start())
        {
            watcher.Start();
            own = [.. Machine.ObjectIds(Machine.Descriptors(), "prog").Except(before, StringComparer.Ordinal)];
            own.Select(static id => Machine.Run("bpftool", "prog", "show", "id", id)).ShouldContain(static program => program.Contains("kamotel_fork", StringComparison.Ordinal));
        }
        WaitUntil(
            () => !Machine.Run("bpftool", "prog", "show").Split('\n').Select(static line => line.Split(':')[0]).Intersect(own, StringComparer.Ordinal).Any(),
            "the programs to go");
    }

    public void Dispose() => _scratch.Dispose();

    private Watcher Start(params string[] paths) =>
        new(
            new RunOptions
            {
                Watch = [_name],
                SystemLibraries = false,
                LibraryPath = paths.Length > 0 ? paths : [_scratch.Path],
                SettleSeconds = 0.2,
            },
            _state,
            _recorder,
            _delays.Add,
            static _ => { },
            static _ => { },
            NullLogger.Instance);

    private InstanceSnapshot TurnUntil(Watcher watcher, Func<bool> condition, string what)
    {
        if (_state.NotReady is not null)
        {
            watcher.Start();
        }
        InstanceSnapshot? last = null;
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            clock.Elapsed.TotalSeconds.ShouldBeLessThan(60, $"waited for {what}");
            watcher.Turn();
            last = _state.Current.Fleet.Instances.FirstOrDefault() ?? last;
        }
        return last!;
    }

    private static void WaitUntil(Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            clock.Elapsed.TotalSeconds.ShouldBeLessThan(60, $"waited for {what}");
            Thread.Sleep(10);
        }
    }
}
