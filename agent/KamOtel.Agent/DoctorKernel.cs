using System.Collections.Immutable;
using System.Diagnostics;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.Agent;

/// <summary>What a uprobe on an instruction costs here, in nanoseconds a call.</summary>
/// <param name="Entry">The first instruction.</param>
/// <param name="Others">In a process that is not watched: whoever else uses the library.</param>
/// <param name="Server">In a server: with a record, without a stack.</param>
internal sealed record ProbeCost(EntryInstruction Entry, double Others, double Server);

/// <summary>The doctor at the kernel's programs: each is loaded, attached and detached alone, and nobody but the agent is slowed.</summary>
/// <param name="options">What <c>run</c> would do.</param>
/// <param name="own">The capabilities that the agent has.</param>
internal sealed class DoctorKernel(RunOptions options, Capabilities own)
{
    /// <summary>A process that calls the probed function so often has measured enough.</summary>
    private const int MaxHits = 1000;

    private static readonly TimeSpan MaxMeasuring = TimeSpan.FromMilliseconds(40);

    private const string WithRing = "kamotel_exec";

    private static readonly string[] Run = [DoctorFeature.Watching];
    private readonly List<Task> _detaching = [];

    /// <summary>Threads of watched processes can be found: servers can be inspected.</summary>
    public bool CanInspect { get; private set; }

    /// <summary>What a probe costs, by its first instruction; empty when it could not be measured.</summary>
    public ImmutableArray<ProbeCost> Costs { get; private set; } = [];

    /// <summary>A call without a probe, in nanoseconds.</summary>
    public double BareCall { get; private set; }

    /// <summary>Programs, ring and mappings.</summary>
    /// <param name="entries">The instructions that the libraries here begin their functions with: those are measured.</param>
    public IEnumerable<Finding> Examine(IEnumerable<EntryInstruction> entries)
    {
        using SampleFunction? sample = TrySample(out string? noSample);
        string? lacks = noSample;
        // The kernel takes 0.2 s to verify some of them. One has the ring as `run` makes it, the others have the least.
        (string Program, ProgramKind Kind, Task<KernelTrial> Load)[] trials =
        [
            .. KernelTrial.Programs.Where(static p => KernelTrial.IsExpected(p.Key))
                .Select(p => (p.Key, p.Value, Task.Run(() => KernelTrial.Load(p.Key, p.Key == WithRing ? options.RingBytes : Environment.SystemPageSize, NullLogger.Instance)))),
        ];
        foreach ((string program, ProgramKind kind, Task<KernelTrial> load) in trials)
        {
            yield return Try(program, kind, load, sample, lacks, entries);
        }
        foreach (string program in KernelTrial.Programs.Keys.Where(static p => !KernelTrial.IsExpected(p)))
        {
            yield return Finding.Note(IdOf(program), $"this kernel (Linux {Environment.OSVersion.Version}) is too old for it", $"{ServesWhat(program)}: kamotel does without");
        }
        yield return TryMappings();
    }

    /// <summary>Waits until the kernel has taken away what was attached.</summary>
    public void WaitUntilDetached() => Task.WaitAll([.. _detaching]);

    /// <summary>The kernel's reason in a few words: the first line without what only a developer reads.</summary>
    public static string Reason(BpfException e)
    {
        string text = e.Message.Split("; ", 2)[0].Split(" [", 2)[0];
        return text.ReplaceLineEndings(" ");
    }

    private Finding Try(string program, ProgramKind kind, Task<KernelTrial> load, SampleFunction? sample, string? noSample, IEnumerable<EntryInstruction> entries)
    {
        string id = IdOf(program);
        string serves = ServesWhat(program);
        KernelTrial trial;
        try
        {
            trial = load.GetAwaiter().GetResult();
        }
        catch (BpfException e)
        {
            return Finding.Failed(id, Reason(e), $"{serves}; the program cannot be loaded", Remedy(e, "programs"), BrokenByLoad(program));
        }
        try
        {
            if (program == WithRing)
            {
                _ = trial.TakeRecords();
            }
            if (kind == ProgramKind.Uprobe)
            {
                if (sample is null)
                {
                    return Finding.Warning(id, $"loaded; {noSample}", $"{serves}; whether it can be attached was not tried");
                }
                // The others are attached as these three are.
                if (program is "kamotel_init" or "kamotel_set_key" or "kamotel_cleanup" or "kamotel_cleanup_key" or "kamotel_set_ex" or "kamotel_clean" or "kamotel_get_key")
                {
                    return Finding.Ok(id, "loaded", serves);
                }
                double bare = program == "kamotel_set" ? Measure(sample, EntryInstruction.Push) : 0;
                trial.Attach(sample.Path, SampleFunction.OffsetOf(EntryInstruction.Push));
                if (program == "kamotel_set")
                {
                    MeasureCosts(trial, sample, bare, entries);
                }
            }
            else
            {
                trial.Attach();
            }
            CanInspect |= program == "kamotel_task";
            return Finding.Ok(id, "loaded and attached", serves);
        }
        catch (BpfException e)
        {
            string thing = kind != ProgramKind.Uprobe ? "programs" : KernelSide.HasUprobeMulti ? "uprobes" : "older_uprobes";
            return Finding.Failed(id, Reason(e), $"{serves}; the program cannot be attached", Remedy(e, thing), BrokenByAttach(program));
        }
        finally
        {
            // The kernel takes its time for it; many at once take no longer than one.
            _detaching.Add(Task.Run(trial.Dispose));
        }
    }

    private Finding TryMappings()
    {
        const string Means = "new libraries of a server are seen when it maps them";
        try
        {
            using var watch = new MappingWatch();
            return Finding.Ok("mappings", "perf_event_open works on every CPU", Means);
        }
        catch (BpfException e)
        {
            return Finding.Failed("mappings", Reason(e), $"{Means}; without that `kamotel run` does not start", Remedy(e, "mappings"), Run);
        }
    }

    private string Remedy(BpfException e, string thing) => e.Errno switch
    {
        _ when e.Denied => DoctorPrivileges.Remedy(thing, own),
        0 when e.Message.Contains("libbpf", StringComparison.Ordinal) => "install libbpf 1.0 or later: apt-get install libbpf1",
        12 when !OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 5, 11) => $"raise LimitMEMLOCK= (systemd), or {DoctorPrivileges.Remedy("memlock", own)}",
        12 => "free memory, or lower --ring-bytes",
        24 => "raise the limit on open files: LimitNOFILE=1024 (systemd) is enough",
        _ => "take a kernel from 5.8 on with CONFIG_DEBUG_INFO_BTF, CONFIG_BPF_SYSCALL, CONFIG_UPROBES and CONFIG_PERF_EVENTS, as distributions build it; if this is one, report it",
    };

    private static string IdOf(string program) => $"program.{program["kamotel_".Length..]}";

    /// <summary>The object is loaded all or nothing, but for what the agent can do without.</summary>
    private static string[] BrokenByLoad(string program) => program switch
    {
        "kamotel_fatal_signal" => [DoctorFeature.LastSlots],
        "kamotel_task" or "kamotel_host" => [DoctorFeature.Verdicts, DoctorFeature.Watching],
        _ => Run,
    };

    private static string[] BrokenByAttach(string program) => program switch
    {
        "kamotel_exec" or "kamotel_fork" or "kamotel_exit" or "kamotel_file" => Run,
        "kamotel_fatal_signal" => [DoctorFeature.LastSlots],
        "kamotel_task" => [DoctorFeature.Verdicts],
        "kamotel_host" => [],
        "kamotel_enter" => [DoctorFeature.Starts],
        "kamotel_complaint" => [DoctorFeature.Complaints],
        "kamotel_get" or "kamotel_get_key" => [DoctorFeature.Confirmation],
        _ => [DoctorFeature.Calls],
    };

    private static string ServesWhat(string program) => program switch
    {
        "kamotel_exec" => "sees programs start (and makes the ring)",
        "kamotel_fork" => "sees processes fork",
        "kamotel_exit" => "sees processes end",
        "kamotel_fatal_signal" => "copies what a dying process held",
        "kamotel_task" => "finds the thread-local storage of each thread",
        "kamotel_host" => "reads the host names of containers",
        "kamotel_file" => "tells files below an overlay apart",
        "kamotel_enter" => "sees the steps of a start",
        "kamotel_complaint" => "sees what memory managers complain of",
        "kamotel_get" or "kamotel_get_key" => "counts the uses of a shared slot",
        _ => "sees libcrypto's thread-local calls",
    };

    private static SampleFunction? TrySample(out string? why)
    {
        try
        {
            why = null;
            return new SampleFunction();
        }
        catch (BpfException e)
        {
            why = Reason(e);
            return null;
        }
    }

    private void MeasureCosts(KernelTrial trial, SampleFunction sample, double bare, IEnumerable<EntryInstruction> entries)
    {
        EntryInstruction[] wanted = [.. entries.Where(static e => e != EntryInstruction.Unknown).Append(EntryInstruction.Push).Append(EntryInstruction.Subtract).Distinct().Order()];
        foreach (EntryInstruction entry in wanted.Where(static e => e != EntryInstruction.Push))
        {
            trial.Attach(sample.Path, SampleFunction.OffsetOf(entry));
        }
        BareCall = bare;
        double[] others = [.. wanted.Select(entry => Measure(sample, entry))];
        if (!new ProcFs().ReadStat(Environment.ProcessId).TryGet(out ProcessStat? self))
        {
            return;
        }
        trial.WatchSelf(self.Id);
        // The first few would carry a stack.
        foreach (EntryInstruction entry in wanted)
        {
            sample.Call(entry, 16);
        }
        Costs = [.. wanted.Select((entry, i) => new ProbeCost(entry, others[i], Measure(sample, entry)))];
    }

    /// <summary>Nanoseconds a call, the least of several rounds: what else the machine does only makes it slower.</summary>
    private static double Measure(SampleFunction sample, EntryInstruction entry)
    {
        const int Round = 50;
        sample.Call(entry, 4);
        double best = double.MaxValue;
        long start = Stopwatch.GetTimestamp();
        for (int hits = 0; hits < MaxHits && Stopwatch.GetElapsedTime(start) < MaxMeasuring; hits += Round)
        {
            long began = Stopwatch.GetTimestamp();
            sample.Call(entry, Round);
            best = Math.Min(best, Stopwatch.GetElapsedTime(began).TotalNanoseconds / Round);
        }
        return best;
    }
}
