using System.Diagnostics;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>Who made a call, over servers whose chain of calls is known by construction.</summary>
public sealed class AttributionTests : IDisposable
{
    private static readonly string[] Whole = ["libcrypto", "libclient.so", "does.so", "asks.so", "program"];

    private readonly Scratch _scratch = new();
    private readonly Recorder _recorder = new();
    private readonly AgentState _state = new();
    private readonly string _name = $"ka{Environment.ProcessId}";

    public AttributionTests()
    {
        Machine.MustRunBpf();
        Compile(_name, "PROGRAM", "-pthread");
        _ = Directory.CreateDirectory(Path.Combine(_scratch.Path, "kamailio", "modules"));
        Compile("libclient.so", "CLIENT", "-shared", "-fPIC", "-s");
        Compile("kamailio/modules/does.so", "DOES", "-shared", "-fPIC", "-s");
        Compile("kamailio/modules/other.so", "DOES", "-shared", "-fPIC", "-s");
        Compile("kamailio/modules/asks.so", "ASKS", "-shared", "-fPIC", "-s");
    }

    [Fact]
    public void The_chain_is_what_was_called()
    {
        CallChain chain = Run("plain").ShouldHaveSingleItem().Chain;
        Complete(chain);
        chain.Frames.Single(static f => f.File == "libclient.so").Function.ShouldBe("client_connect");
        chain.Frames[0].Function.ShouldBe("CRYPTO_THREAD_set_local");
    }

    [Fact]
    public void A_process_that_is_gone_at_once_is_no_riddle()
    {
        using Watcher watcher = Start();
        for (int i = 0; i < 20; i++)
        {
            using Process process = Launch("quick");
            process.WaitForExit(60_000).ShouldBeTrue();
        }
        TurnUntil(watcher, () => Sets(0x1111).Count() == 20, "all stacks");
        foreach ((_, CallChain chain) in Sets(0x1111))
        {
            Complete(chain);
        }
    }

    [Fact]
    public void The_very_first_process_of_a_program_that_nobody_saw_before_may_be_gone_at_once()
    {
        // Nothing of it is open yet, and it is gone when it is looked at.
        using Watcher watcher = Start();
        using (Process process = Launch("quick"))
        {
            process.WaitForExit(60_000).ShouldBeTrue();
        }
        TurnUntil(watcher, () => Sets(0x1111).Any(), "the stack");
        Complete(Sets(0x1111).Single().Chain);
    }

    [Fact]
    public void A_worker_calls_through_what_it_inherited()
    {
        (Observation Call, CallChain Chain)[] sets = Run("fork", 0x1111, 0x2222);
        sets[1].Call.Process.ShouldNotBe(sets[0].Call.Process);
        Complete(sets[0].Chain);
        Complete(sets[1].Chain);
    }

    [Fact]
    public void Another_thread_has_a_chain_to_its_start()
    {
        (Observation call, CallChain chain) = Run("thread", 0x3333).ShouldHaveSingleItem();
        call.MainThread.ShouldBeFalse();
        chain.End.ShouldBe(ChainEnd.Complete, chain.Detail);
        (chain.Author, chain.AskedBy).ShouldBe(("does", "asks"));
    }

    [Fact]
    public void A_module_that_was_unloaded_since_is_not_taken_for_the_one_in_its_place()
    {
        using Watcher watcher = Start();
        using Process process = Launch("unload");
        process.StandardOutput.ReadLine().ShouldBe("same place", "else this shows nothing");
        TurnUntil(watcher, () => Sets(0x1111).Any() && Sets(0x2222).Any(), "both stacks");
        (Sets(0x1111).Single().Chain.Author, Sets(0x2222).Single().Chain.Author).ShouldBe(("does", "other"));
        Sets(0x1111).Single().Chain.Path.ShouldBe(["asks", "does", "libclient"]);
        Sets(0x2222).Single().Chain.Path.ShouldBe(["asks", "other", "libclient"]);
        End(process);
    }

    [Fact]
    public void The_files_of_a_container_are_its_own_whatever_lies_at_their_paths_outside()
    {
        string root = Directory.CreateDirectory(Path.Combine(_scratch.Path, "root")).FullName;
        string[] own = [_name, "libclient.so", "kamailio/modules/does.so", "kamailio/modules/asks.so"];
        foreach (string file in Machine.Run("ldd", Path.Combine(_scratch.Path, _name), Machine.Libcrypto).Split([' ', '\t', '\n'], StringSplitOptions.RemoveEmptyEntries)
            .Where(static word => word.StartsWith('/') && !word.EndsWith(':')).Append(Machine.Libcrypto).Concat(own.Select(o => Path.Combine(_scratch.Path, o))).Distinct())
        {
            _ = Directory.CreateDirectory(Path.GetDirectoryName(root + file)!);
            File.Copy(file, root + file, overwrite: true);
        }
        foreach (string file in own)
        {
            File.WriteAllText(Path.Combine(_scratch.Path, file), "not what the container has");
        }
        using Watcher watcher = Start();
        int before = _state.Current.Libraries.Length;
        // The first one makes its libcrypto known, which may be too late for its own call.
        using (Process first = Contained(root))
        {
            TurnUntil(watcher, () => _state.Current.Libraries.Length > before, "the container's libcrypto to be probed");
            End(first);
        }
        int chains = Sets(0x1111).Count();
        using Process process = Contained(root);
        TurnUntil(watcher, () => Sets(0x1111).Count() > chains, "the stack");
        End(process);
        Complete(Sets(0x1111).Last().Chain);
    }

    [Fact]
    public void A_file_that_is_deleted_tells_as_much_as_before() => Complete(Run("delete").ShouldHaveSingleItem().Chain);

    [Fact]
    public void A_frame_larger_than_the_copy_is_bridged_by_the_far_end_of_the_stack() =>
        Complete(Run("deep").ShouldHaveSingleItem().Chain);

    [Fact]
    public void A_chain_that_the_copy_cuts_names_the_author_and_not_who_asked()
    {
        CallChain chain = Run("deeper").ShouldHaveSingleItem().Chain;
        chain.End.ShouldBe(ChainEnd.Truncated);
        chain.Author.ShouldBe("does");
        chain.AskedBy.ShouldBeNull();
        chain.Detail.ShouldNotBeEmpty();
    }

    [Fact]
    public void A_chain_that_the_copy_cuts_before_a_module_names_nobody()
    {
        CallChain chain = Run("early").ShouldHaveSingleItem().Chain;
        chain.End.ShouldBe(ChainEnd.Truncated);
        chain.Author.ShouldBeNull();
        chain.Detail.ShouldNotBeEmpty();
    }

    [Fact]
    public void Code_that_does_not_tell_its_caller_names_nobody()
    {
        File.Delete(Path.Combine(_scratch.Path, "libclient.so"));
        Compile("libclient.so", "CLIENT", "-shared", "-fPIC", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-omit-frame-pointer");
        CallChain chain = Run("plain").ShouldHaveSingleItem().Chain;
        chain.End.ShouldBe(ChainEnd.NoUnwindInfo);
        chain.Author.ShouldBeNull();
        chain.Frames[^1].File.ShouldBe("libclient.so");
    }

    [Theory]
    [InlineData("segv", 11, "write_nowhere")]
    [InlineData("abort", 6, "abort_here")]
    public void A_crash_is_traced_to_the_module_that_it_happened_in(string scenario, int signal, string function)
    {
        Crash crash = Crashed(scenario);
        CallChain chain = crash.Chain;
        crash.Signal.ShouldBe(signal);
        crash.Module.ShouldBe("does");
        chain.End.ShouldBe(ChainEnd.Complete, $"{chain.Detail}\n{string.Join('\n', chain.Frames)}");
        (chain.Author, chain.AskedBy).ShouldBe(("does", "asks"));
        chain.Frames.First(static f => f.IsProgram).Function.ShouldNotBeNull().ShouldStartWith(function); // Its cold part may be apart.
    }

    [Fact]
    public void A_jump_to_nowhere_is_its_callers()
    {
        CallChain chain = Crashed("null").Chain;
        chain.End.ShouldBe(ChainEnd.Complete, $"{chain.Detail}\n{string.Join('\n', chain.Frames)}");
        (chain.Author, chain.AskedBy).ShouldBe(("does", "asks"));
        chain.Frames[0].Function.ShouldBe("client_connect");
    }

    [Fact]
    public void A_return_to_nowhere_is_nobodys()
    {
        CallChain chain = Crashed("nowhere").Chain;
        chain.Author.ShouldBeNull();
        chain.End.ShouldBe(ChainEnd.UnknownCode);
        chain.Detail.ShouldNotBeEmpty();
    }

    [Fact]
    public void Who_is_killed_has_no_stack_to_blame()
    {
        using Watcher watcher = Start();
        using Process process = Launch("plain");
        TurnUntil(watcher, () => Sets(0x1111).Any(), "its call");
        _ = Machine.Run("kill", "-SEGV", process.Id.ToString(System.Globalization.CultureInfo.InvariantCulture));
        process.WaitForExit(60_000).ShouldBeTrue();
        TurnUntil(watcher, () => _recorder.Ended == 1, "its end");
        Crash crash = _recorder.Crashes.ShouldHaveSingleItem();
        (crash.Signal, crash.Module, crash.Chain.End).ShouldBe((11, null, ChainEnd.NotCopied));
    }

    public void Dispose() => _scratch.Dispose();

    private Crash Crashed(string scenario)
    {
        using Watcher watcher = Start();
        using Process process = Launch(scenario);
        TurnUntil(watcher, () => _recorder.Crashes.Count > 0, "the crash");
        process.WaitForExit(60_000).ShouldBeTrue();
        return _recorder.Crashes.ShouldHaveSingleItem();
    }

    private static void Complete(CallChain chain)
    {
        chain.End.ShouldBe(ChainEnd.Complete, $"{chain.Detail}\n{string.Join('\n', chain.Frames)}");
        string[] files = [.. chain.Frames.Select(static f => f.IsProgram ? "program" : f.File.StartsWith("libcrypto", StringComparison.Ordinal) ? "libcrypto" : f.File)
            .Where(static f => !f.StartsWith("libc.", StringComparison.Ordinal)).Aggregate(new List<string>(), static (all, f) =>
            {
                if (all.Count == 0 || all[^1] != f)
                {
                    all.Add(f);
                }
                return all;
            })];
        files.ShouldBe(Whole);
        (chain.Author, chain.AskedBy).ShouldBe(("does", "asks"));
        chain.Path.ShouldBe(["asks", "does", "libclient"]);
    }

    /// <summary>The calls with these values and who made them, when all are known.</summary>
    private (Observation Call, CallChain Chain)[] Run(string scenario, params ulong[] values)
    {
        values = values.Length > 0 ? values : [0x1111];
        using Watcher watcher = Start();
        using Process process = Launch(scenario);
        TurnUntil(watcher, () => values.All(v => Sets(v).Any()), "the stacks");
        End(process);
        return [.. values.SelectMany(Sets)];
    }

    private IEnumerable<(Observation Call, CallChain Chain)> Sets(ulong value) =>
        _recorder.Chains.Where(c => c.Call.Kind == ObservationKind.SetLocal && c.Call.Value == value);

    private Watcher Start()
    {
        var watcher = new Watcher(
            new RunOptions { Watch = [_name], SystemLibraries = true, SettleSeconds = 0.2 }, _state, _recorder, static _ => { }, static _ => { }, static _ => { }, NullLogger.Instance);
        watcher.Start();
        return watcher;
    }

    private Process Launch(string scenario) => Process.Start(new ProcessStartInfo(Path.Combine(_scratch.Path, _name), [Machine.Libcrypto, _scratch.Path, scenario])
    {
        UseShellExecute = false,
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
    })!;

    private Process Contained(string root) => Process.Start(new ProcessStartInfo(
        "unshare", ["--mount", "--pid", "--fork", "--kill-child", "chroot", root, Path.Combine(_scratch.Path, _name), Machine.Libcrypto, _scratch.Path, "plain"])
    {
        UseShellExecute = false,
        RedirectStandardInput = true,
        RedirectStandardOutput = true,
    })!;

    private static void End(Process process)
    {
        process.StandardInput.Close();
        process.WaitForExit(60_000).ShouldBeTrue();
        process.ExitCode.ShouldBe(0);
    }

    private void TurnUntil(Watcher watcher, Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            clock.Elapsed.TotalSeconds.ShouldBeLessThan(60, $"waited for {what}; there are {_recorder.Chains.Count} chains");
            watcher.Turn();
        }
    }

    private void Compile(string output, string part, params string[] options) =>
        _ = Machine.Run("gcc", [.. options.Contains("-fno-omit-frame-pointer") ? new[] { "-O2" } : ["-O2", "-fomit-frame-pointer"],
            $"-DPART_{part}", "-o", Path.Combine(_scratch.Path, output), Path.Combine(Machine.Repository, "tests", "targets", "chain.c"), .. options]);
}
