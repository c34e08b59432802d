using System.Diagnostics;
using System.Globalization;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>Processes that mean harm: docs/security.md names these tests.</summary>
public sealed class ThreatTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly List<Process> _hostile = [];

    public ThreatTests() => Machine.MustRunBpf();

    [Fact]
    public async Task Memory_that_never_comes_is_given_up_and_other_processes_are_read_meanwhile()
    {
        (Process hostile, ulong address) = await Start("kstall", "memory");
        string failure = await WithinAMinute(() => Read(hostile.Id, address));
        failure.ShouldContain("a read did not come back within");
        BoundedCall.StuckCount.ShouldBe(1);

        // Not again, for it would wait again; but the others.
        (await WithinAMinute(() => Read(hostile.Id, address))).ShouldContain("an earlier read of it has not come back");
        Read(Environment.ProcessId, OwnAddress()).ShouldBe("");

        hostile.Kill();
        await WithinAMinute(() => Until(() => BoundedCall.StuckCount == 0));
    }

    [Fact]
    public async Task A_command_line_that_never_comes_holds_nobody_up()
    {
        // Of programs of this name it is read. The kernel does not wait for such memory there.
        (Process hostile, _) = await Start("kamailiostall", "arguments");
        ProcessId id = new ProcFs().ReadStat(hostile.Id).Value.Id;
        (await WithinAMinute(() => TargetName.ConfigurationOf(new ProcFs(), id) ?? "")).ShouldBe("");
    }

    [Fact]
    public async Task A_server_that_makes_its_reader_wait_costs_no_other_server_its_verdict()
    {
        string name = $"kwt{Environment.ProcessId}", stall = $"kws{Environment.ProcessId}";
        (Process hostile, _) = await Start(stall, "thread");
        using ForkingServer server = ForkingServer.Start(ForkingServer.Compile(_scratch, name), Machine.Libcrypto, "shared", 2);
        var state = new AgentState();
        await WithinAMinute(() =>
        {
            using var watcher = new Watcher(
                new RunOptions { Watch = [name, stall], SystemLibraries = false, LibraryPath = [_scratch.Path], SettleSeconds = 0.2 },
                state, new Recorder(), static _ => { }, static _ => { }, static _ => { }, NullLogger.Instance);
            watcher.Start();
            while (Of(server.Root) is not { Verdict: Verdict.Hazard } || Of(hostile.Id) is not { IsConcluded: true })
            {
                watcher.Turn();
            }
            return "";
        });

        InstanceSnapshot judged = Of(hostile.Id).ShouldNotBeNull();
        judged.Verdict.ShouldBe(Verdict.Unknown, judged.Reason);
        judged.Processes.Single(p => p.Id.Tgid == hostile.Id).Inspection.ShouldBe(InspectionStatus.Unreadable);
        judged.Processes.Single(p => p.Id.Tgid != hostile.Id).Inspection.ShouldBe(InspectionStatus.Inspected, "it is read after the one that makes its reader wait");

        InstanceSnapshot? Of(int root) => state.Current.Fleet.Instances.FirstOrDefault(i => i.Root.Tgid == root);
    }

    public void Dispose()
    {
        foreach (Process process in _hostile)
        {
            process.Kill();
            process.WaitForExit();
            process.Dispose();
        }
        _ = Until(static () => BoundedCall.StuckCount == 0);
        _scratch.Dispose();
    }

    private static string Read(int pid, ulong address) => ProcessMemory.TryRead(pid, address, new byte[64], out ProcFailure failure) ? "" : failure.Detail;

    private static string Until(Func<bool> condition)
    {
        while (!condition())
        {
            Thread.Sleep(5);
        }
        return "";
    }

    private static ulong OwnAddress() => new ProcFs().ReadMaps(Environment.ProcessId, onlyCode: true).Value[0].Start;

    /// <summary>Elsewhere: what hangs here would hang the test.</summary>
    private static Task<string> WithinAMinute(Func<string> work) => Task.Factory.StartNew(work, TestContext.Current.CancellationToken, TaskCreationOptions.LongRunning, TaskScheduler.Default).WaitAsync(TimeSpan.FromMinutes(1), TestContext.Current.CancellationToken);

    private async Task<(Process Process, ulong Address)> Start(string name, string how)
    {
        Assert.SkipUnless(System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.X64, "this test needs x86-64");
        string program = Path.Combine(_scratch.Path, name);
        _ = Machine.Run("gcc", "-O2", "-fno-stack-protector", "-o", program, Path.Combine(Machine.Repository, "tests", "targets", "stall.c"));
        string[] arguments = how == "arguments" ? [how, new string('x', 20_000)] : [how];
        Process process = Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true })!;
        _hostile.Add(process);
        string[] words = (await process.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken)).ShouldNotBeNull().Split(' ');
        words[0].ShouldBe("ready");
        return (process, ulong.Parse(words[2], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
    }
}
