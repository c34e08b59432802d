using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging;

namespace KamOtel.KernelTests;

/// <summary>What a server complains of is what it logs: as often, of the same memory, by the same caller.</summary>
public sealed partial class ComplaintTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly Recorder _recorder = new();
    private readonly ComplaintLog _log = new();
    private readonly string _name = $"kc{Environment.ProcessId}";

    /// <summary>How many messages a round of the program logs that are watched for: not the shortage of memory, before Linux 6.6.</summary>
    private static int Kinds => Machine.HasUprobeLinks ? 6 : 5;

    public ComplaintTests() => Machine.MustRunBpf();

    public void Dispose() => _scratch.Dispose();

    [Theory]
    [InlineData("slog", "-O2", "-fPIE", "-pie")]
    [InlineData("stream", "-O2", "-fPIE", "-pie")]
    [InlineData("slog", "-O0", "-fPIE", "-pie")]
    [InlineData("stream", "-O0", "-fPIE", "-pie")]
    [InlineData("slog", "-O2", "-fno-pie", "-no-pie")]
    [InlineData("stream", "-O0", "-fno-pie", "-no-pie")]
    [InlineData("stream", "-O2", "-D_FORTIFY_SOURCE=2", "-Wl,-z,noseparate-code")]
    public void What_is_logged_is_told(string scenario, params string[] options)
    {
        Compile(options);
        using Watcher watcher = Start();
        string[] lines = Run(watcher, scenario, 20);
        Expected(lines).Count.ShouldBe(Kinds * 20, "else this shows nothing");
        TurnUntil(watcher, () => _log.Complaints.Count >= Kinds * 20, "all complaints");
        Told().ShouldBe(Expected(lines));
        _log.Warnings.ShouldBeEmpty();
    }

    [Fact]
    public void A_process_that_dies_of_it_is_understood_all_the_same()
    {
        const int Workers = 10;
        Compile("-O2");
        using Watcher watcher = Start();
        string[] lines = Run(watcher, "fork", Workers);
        TurnUntil(watcher, () => _log.Complaints.Count >= Kinds * Workers, "all complaints");
        Told().ShouldBe(Expected(lines));
        _log.Complaints.Select(static c => c.Pid).Distinct().Count().ShouldBe(Workers);
        _log.Warnings.ShouldBeEmpty();
    }

    [Fact]
    public void A_module_that_has_no_memory_is_named()
    {
        Compile("-O2");
        string module = Path.Combine(Directory.CreateDirectory(Path.Combine(_scratch.Path, "kamailio", "modules")).FullName, "nomem.so");
        CompileTo(module, "-O2", "-DMODULE", "-shared", "-fPIC");
        using Watcher watcher = Start();
        string[] lines = Run(watcher, "module", 6, module);
        lines.Count(static l => l.Contains("could not allocate", StringComparison.Ordinal)).ShouldBe(6);
        if (!Machine.HasUprobeLinks)
        {
            Told().ShouldBeEmpty();
            _log.ShortageNotWatched.ShouldBe("this kernel has no links to uprobes (Linux 6.6)");
            return;
        }
        TurnUntil(watcher, () => _log.Complaints.Count >= 6, "all complaints");
        _log.Complaints.Select(static c => (c.Kind, c.Address, c.Module, c.Caller)).Distinct()
            .ShouldBe([(ComplaintKind.OutOfSharedMemory, 0ul, "nomem", null)]);
        _log.Complaints.Count.ShouldBe(6);
    }

    [Fact]
    public void Two_paths_to_one_file_tell_a_complaint_once()
    {
        Compile("-O2");
        using Watcher watcher = Start();
        Mount(watcher);
        string[] lines = Run(watcher, "slog", 3);
        TurnUntil(watcher, () => _log.Complaints.Count >= Kinds * 3, "all complaints");
        Told().ShouldBe(Expected(lines));
    }

    [Fact]
    public void Shared_memory_that_is_damaged_without_a_shared_slot_is_told_as_damage_and_blamed_on_nothing()
    {
        Compile("-O2");
        var state = new AgentState();
        using Watcher watcher = Start(state);
        using Process process = Launch("corrupt");
        TurnUntil(watcher, () => _log.Probed.Any(p => p.EndsWith(_name, StringComparison.Ordinal)), "the program's probes");
        process.StandardInput.Write('.');
        process.StandardInput.Flush();
        InstanceSnapshot? Server() => state.Current.Fleet.Instances.SingleOrDefault();
        TurnUntil(watcher, () => Server() is { IsConcluded: true, Faults.Length: 2 } server && server.Processes.All(static p => p.Settled), "its damage and its inspection");

        InstanceSnapshot server = Server()!;
        (server.Verdict, server.Damage).ShouldBe((Verdict.Safe, null), server.Reason);
        server.SharedSlots.ShouldBeEmpty();
        _recorder.Verdicts.ShouldAllBe(static v => v.Now.Verdict < Verdict.Exposed);
        Crash crash = _recorder.Crashes.ShouldHaveSingleItem();
        (crash.Signal, crash.Role).ShouldBe((11, ProcessRole.Worker));
        Complaint complaint = _recorder.Complaints.ShouldHaveSingleItem().Complaint;
        (complaint.Kind, complaint.Module, complaint.Caller).ShouldBe((ComplaintKind.Overwritten, "htable", "ht_api.c:9"));
        complaint.Address.ShouldNotBeNull();
        process.StandardInput.Close();
        process.WaitForExit(60_000).ShouldBeTrue();
        process.ExitCode.ShouldBe(0);
    }

    [GeneratedRegex(@"(?<text>freeing already|beginning overwritten \(|tail overwritten\(|bad pointer|could not allocate)", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex Text();

    [GeneratedRegex(@"(called from (?<file>[^ ]+: [^ :]+): (?<function>\w+)\()|(called from (?<file2>[^ ]+: [^ :]+):(?<line>\d+))", RegexOptions.ExplicitCapture, 1000)]
    private static partial Regex Caller();

    [GeneratedRegex("0x[0-9a-f]+", RegexOptions.None, 1000)]
    private static partial Regex Pointer();

    /// <summary>Runs the same program once through another mount of its folder, so that it is known by another path first.</summary>
    private void Mount(Watcher watcher)
    {
        string other = Directory.CreateDirectory(Path.Combine(_scratch.Path, "other")).FullName;
        using Process process = Process.Start(new ProcessStartInfo("unshare", ["--mount", "sh", "-c", $"mount --bind {_scratch.Path} {other} && exec {other}/{_name} none slog 0"])
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
        })!;
        TurnUntil(watcher, () => _log.Probed.Count > 0, "its probes");
        process.StandardInput.Close();
        process.WaitForExit(60_000).ShouldBeTrue();
        process.ExitCode.ShouldBe(0);
    }

    /// <summary>What the log says, in our words. Of the pointers the last is the fragment's memory; the one of a free comes first.</summary>
    private List<string> Expected(string[] lines)
    {
        var expected = new List<string>();
        foreach (string line in lines)
        {
            if (Text().Match(line) is not { Success: true, Value: var text } || (text[..3] == "cou" && !Machine.HasUprobeLinks))
            {
                continue;
            }
            ComplaintKind kind = text[..3] switch
            {
                "fre" => ComplaintKind.AlreadyFreed,
                "bad" => ComplaintKind.BadPointer,
                "cou" => ComplaintKind.OutOfSharedMemory,
                _ => ComplaintKind.Overwritten,
            };
            string[] pointers = [.. Pointer().Matches(line).Select(static m => m.Value)];
            string address = kind == ComplaintKind.OutOfSharedMemory ? "0x0" : kind == ComplaintKind.Overwritten ? pointers[1] : pointers[0];
            Match caller = Caller().Match(line);
            string file = caller.Groups["file"].Value + caller.Groups["file2"].Value;
            string? module = null, source = null;
            if (caller.Success && !file.Contains("stack.c", StringComparison.Ordinal)) // That one is no constant.
            {
                string[] parts = file.Split(": ");
                module = parts[0];
                source = caller.Groups["function"].Success ? $"{parts[1]}: {caller.Groups["function"].Value}" : $"{parts[1]}:{caller.Groups["line"].Value}";
            }
            expected.Add($"{kind} {address} {(kind == ComplaintKind.OutOfSharedMemory ? "core" : module)} {source}");
        }
        return expected;
    }

    private List<string> Told() => [.. _log.Complaints.Select(static c => string.Create(CultureInfo.InvariantCulture, $"{c.Kind} 0x{c.Address:x} {c.Module} {c.Caller}"))];

    private string[] Run(Watcher watcher, string scenario, int count, string library = "none")
    {
        using Process process = Launch(scenario, count, library);
        TurnUntil(watcher, () => _log.Probed.Any(p => p.EndsWith(_name, StringComparison.Ordinal)), "the program's probes");
        process.StandardInput.Write('.');
        process.StandardInput.Flush();
        if (library != "none")
        {
            process.StandardOutput.ReadLine().ShouldBe("loaded");
        }
        if (library != "none" && Machine.HasUprobeLinks)
        {
            TurnUntil(watcher, () => _log.Probed.Contains(library), "the module's probes");
        }
        process.StandardInput.Close();
        string[] lines = process.StandardOutput.ReadToEnd().Split('\n');
        process.WaitForExit(60_000).ShouldBeTrue();
        process.ExitCode.ShouldBe(0);
        return lines;
    }

    private Process Launch(string scenario, int count = 1, string library = "none") =>
        Process.Start(new ProcessStartInfo(Path.Combine(_scratch.Path, _name), [library, scenario, count.ToString(CultureInfo.InvariantCulture)])
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;

    private Watcher Start(AgentState? state = null)
    {
        var watcher = new Watcher(new RunOptions { Watch = [_name], SettleSeconds = 0.2 }, state ?? new AgentState(), _recorder, static _ => { }, static _ => { }, static _ => { }, _log);
        watcher.Start();
        return watcher;
    }

    private void TurnUntil(Watcher watcher, Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            clock.Elapsed.TotalSeconds.ShouldBeLessThan(30, $"waited for {what}; told: {string.Join('\n', Told())}");
            watcher.Turn();
        }
    }

    private void Compile(params string[] options) => CompileTo(Path.Combine(_scratch.Path, _name), options);

    private static void CompileTo(string output, params string[] options) =>
        _ = Machine.Run("gcc", [.. options, "-o", output, Path.Combine(Machine.Repository, "tests", "targets", "complaints.c")]);

    private sealed record Line(int Pid, ComplaintKind Kind, ulong Address, string? Module, string? Caller);

    /// <summary>Keeps what the agent says of complaints.</summary>
    private sealed class ComplaintLog : ILogger
    {
        public List<Line> Complaints { get; } = [];

        public List<string> Probed { get; } = [];

        public List<string> Warnings { get; } = [];

        public string? ShortageNotWatched { get; private set; }

        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            Dictionary<string, object?> values = state is IReadOnlyList<KeyValuePair<string, object?>> pairs ? pairs.ToDictionary(static p => p.Key, static p => p.Value) : [];
            lock (Complaints)
            {
                if (eventId.Name == "Complains")
                {
                    Complaints.Add(new Line((int)values["Pid"]!, (ComplaintKind)values["Kind"]!, (ulong)values["Address"]!, (string?)values["Module"], (string?)values["Caller"]));
                }
                else if (eventId.Name == "Probed")
                {
                    Probed.Add((string)values["Path"]!);
                }
                else if (eventId.Name == nameof(ShortageNotWatched))
                {
                    ShortageNotWatched = (string)values["Reason"]!;
                }
                else if (logLevel >= LogLevel.Warning)
                {
                    Warnings.Add(formatter(state, exception));
                }
            }
        }
    }
}
