using System.Diagnostics;
using System.Globalization;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>The threads of watched processes, as the kernel knows them.</summary>
public sealed class ThreadTests : IDisposable
{
    private const int Workers = 3;
    private readonly Scratch _scratch = new();
    private readonly List<ThreadPointer> _threads = [];

    public ThreadTests() => Machine.MustRunBpf();

    [Fact]
    public void All_threads_of_all_watched_processes_come_with_their_thread_pointers()
    {
        using var session = new Session();
        using Target target = session.Start("threads", Workers);
        target.WaitFor("thread", 3 + (2 * Workers));
        session.Kernel.ReadThreads(tgid: null, _threads);
        ThreadsShouldBe(target.Deeds);
        target.Go();
        _ = target.Finish();
    }

    [Fact]
    public void One_process_can_be_asked_for()
    {
        using var session = new Session();
        using Target target = session.Start("threads", Workers);
        target.WaitFor("thread", 3 + (2 * Workers));
        foreach (int process in target.Deeds.Where(static d => d.What == "thread").Select(static d => d.Process).Distinct())
        {
            session.Kernel.ReadThreads(process, _threads);
            ThreadsShouldBe([.. target.Deeds.Where(d => d.Process == process)]);
        }
        session.Kernel.ReadThreads(Environment.ProcessId, _threads);
        _threads.ShouldBeEmpty("nobody watches this process");
        target.Go();
        _ = target.Finish();
        session.Kernel.ReadThreads(target.Pid, _threads);
        _threads.ShouldBeEmpty("it is gone");
    }

    [Fact]
    public void What_takes_more_than_one_read_is_whole()
    {
        const int Many = 800; // 1603 threads of 32 bytes: more than the 32 KiB that the kernel gives at once.
        using var session = new Session();
        using Target target = session.Start("threads", Many);
        target.WaitFor("thread", 3 + (2 * Many));
        session.Kernel.ReadThreads(tgid: null, _threads);
        ThreadsShouldBe(target.Deeds);
        target.Go();
        _ = target.Finish();
    }

    [Fact]
    public void A_look_without_a_watch_reads_the_threads_of_the_processes_that_it_is_told()
    {
        using Target target = Target.Start(_scratch, "unwatched", Machine.Libcrypto, "threads", Workers);
        target.WaitFor("thread", 3 + (2 * Workers));
        using (KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance))
        {
            kernel.ReadThreads(tgid: null, _threads);
            _threads.ShouldBeEmpty();
            var proc = new ProcFs();
            foreach (int process in target.Deeds.Where(static d => d.What == "thread").Select(static d => d.Process).Distinct())
            {
                kernel.WatchProcess(proc.ReadStat(process).Value.Id, new InstanceId(target.Pid, 1)).ShouldBeTrue();
            }
            kernel.ReadThreads(tgid: null, _threads);
            ThreadsShouldBe(target.Deeds);

            ProcessId root = proc.ReadStat(target.Pid).Value.Id;
            kernel.UnwatchProcess(root);
            kernel.WatchProcess(root with { StartTicks = root.StartTicks - 1 }, new InstanceId(target.Pid, 1)).ShouldBeTrue();
            kernel.ReadThreads(target.Pid, _threads);
            _threads.ShouldBeEmpty("a process of that number was watched, but not this one");
        }
        target.Go();
        _ = target.Finish();
    }

    [Fact]
    public async Task What_a_process_maps_after_an_inspection_is_seen_by_the_next()
    {
        string program = Path.Combine(_scratch.Path, "map_library");
        _ = Machine.Run("gcc", "-o", program, Path.Combine(Machine.Repository, "tests", "targets", "map_library.c"), "-ldl");
        using Process process = Process.Start(new ProcessStartInfo(program, ["libm.so.6"]) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true })!;
        (await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken)).ShouldBe("ready");
        using KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance);
        var proc = new ProcFs();
        ProcessId id = proc.ReadStat(process.Id).Value.Id;
        kernel.WatchProcess(id, new InstanceId(process.Id, 1)).ShouldBeTrue();
        var inspector = new ProcessInspector(proc);

        ulong before = Version();
        Inspect().MapsLibcrypto.ShouldBeFalse();
        Version().ShouldBe(before, "nothing was mapped");
        Inspect().MapsLibcrypto.ShouldBeFalse();
        await process.StandardInput.WriteLineAsync(Machine.Libcrypto.AsMemory(), TestContext.Current.CancellationToken);
        (await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken)).ShouldBe("ready");
        Inspect().MapsLibcrypto.ShouldBeTrue();
        if (before != 0)
        {
            Version().ShouldNotBe(before);
        }
        else
        {
            Environment.OSVersion.Version.ShouldBeLessThan(new Version(6, 4), "from then on the kernel tells");
        }

        // What was read of it is worth nothing when it has ended by then.
        ProcessInspection found = Inspect();
        ProcessInspector.Confirm(found, _threads.ToLookup(static t => t.Process)).ShouldBe(found);
        process.StandardInput.Close();
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        kernel.ReadThreads(tgid: null, _threads);
        ProcessInspector.Confirm(found, _threads.ToLookup(static t => t.Process)).Status.ShouldBe(InspectionStatus.Gone);

        ulong Version()
        {
            kernel.ReadThreads(process.Id, _threads);
            return _threads.Single().MapsVersion;
        }

        ProcessInspection Inspect()
        {
            kernel.ReadThreads(tgid: null, _threads);
            return inspector.Inspect([id], _threads.ToLookup(static t => t.Process)).Single();
        }
    }

    [Fact]
    public void A_look_without_a_watch_attaches_nothing()
    {
        HashSet<Descriptor> before = [.. Machine.Descriptors()];
        using KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance);
        kernel.ReadThreads(tgid: null, _threads);
        Descriptor[] descriptors = [.. Machine.Descriptors().Except(before)];

        string[] programs = [.. Machine.ObjectIds(descriptors, "prog").Select(static id => Machine.Run("bpftool", "prog", "show", "id", id))];
        programs.Length.ShouldBe(2);
        programs.ShouldContain(static program => program.Contains("kamotel_task", StringComparison.Ordinal));
        programs.ShouldContain(static program => program.Contains("kamotel_host", StringComparison.Ordinal));
        string[] maps = [.. Machine.ObjectIds(descriptors, "map").Select(static id => Machine.Run("bpftool", "map", "show", "id", id))];
        maps.Length.ShouldBe(2);
        maps.ShouldContain(static map => map.Contains("name watched ", StringComparison.Ordinal));
        maps.ShouldContain(static map => map.Contains(".bss", StringComparison.Ordinal));
        descriptors.Where(static d => d.Kind.Contains("link", StringComparison.Ordinal)).ShouldHaveSingleItem().Info.ShouldContain("iter");
        descriptors.ShouldNotContain(static d => d.Kind.Contains("perf_event", StringComparison.Ordinal));
        kernel.RingBytes.ShouldBe(0);
    }

    [Fact]
    public void Nothing_of_a_look_without_a_watch_is_left()
    {
        using (KernelSide warm = KernelSide.LoadForInspection(NullLogger.Instance))
        {
            warm.ReadThreads(tgid: null, _threads);
        }
        int before = Machine.Descriptors().Count(static d => d.Kind.Contains("bpf", StringComparison.Ordinal));
        for (int i = 0; i < 3; i++)
        {
            KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance);
            kernel.ReadThreads(tgid: null, _threads);
            kernel.ReadThreads(Environment.ProcessId, _threads);
            kernel.Dispose();
            kernel.Dispose();
        }
        Machine.Descriptors().Count(static d => d.Kind.Contains("bpf", StringComparison.Ordinal)).ShouldBe(before);
    }

    public void Dispose() => _scratch.Dispose();

    private void ThreadsShouldBe(IEnumerable<Deed> deeds)
    {
        static string Describe(int process, int tid, ulong pointer) => string.Create(CultureInfo.InvariantCulture, $"{process} {tid} {pointer:x}");
        _threads.Select(static t => Describe(t.Process.Tgid, t.Tid, t.TlsBase)).Order(StringComparer.Ordinal)
            .ShouldBe(deeds.Where(static d => d.What == "thread").Select(static d => Describe(d.Process, d.Tid, d.Value)).Order(StringComparer.Ordinal));
        var proc = new ProcFs();
        foreach (ProcessId process in _threads.Select(static t => t.Process).Distinct())
        {
            proc.ReadStat(process.Tgid).Value.Id.ShouldBe(process);
        }
    }
}
