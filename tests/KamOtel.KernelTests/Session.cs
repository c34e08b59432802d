using System.Diagnostics;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>A fatal signal, with a copy of what came with it.</summary>
internal sealed record Death(Observation Observation, byte[] Blocks, uint BlocksRead);

/// <summary>A stack, with a copy of its bytes.</summary>
internal sealed record Stack(Observation Call, ulong[] Registers, ulong Start, byte[] Bytes, ulong Outer, byte[] OuterBytes, ulong Holes);

/// <summary>The kernel side, attached to one library and watching one name; keeps all that it sees.</summary>
internal sealed class Session : IObservationHandler, IDisposable
{
    private readonly List<SafeHandle> _links = [];
    private readonly Scratch _scratch = new();
    private readonly string _program;

    public Session(string? library = null, int ringBytes = 4 << 20, string program = "target", bool? uprobeMulti = null)
    {
        _program = program;
        Machine.MustRunBpf();
        Library = library ?? Machine.Libcrypto;
        Kernel = KernelSide.Load(KernelSide.Embedded(), ringBytes, NullLogger.Instance, uprobeMulti: uprobeMulti);
        Kernel.WatchName(Name);
        Kernel.AttachTracepoints();
        Attach(Library);
    }

    /// <summary>The name of the watched program: of this test alone.</summary>
    public string Name { get; } = $"kt{Environment.ProcessId}";

    public string Library { get; }

    public KernelSide Kernel { get; }

    public List<Observation> Seen { get; } = [];

    public List<Death> Deaths { get; } = [];

    public List<Stack> Stacks { get; } = [];

    public List<Observation> Complaints { get; } = [];

    public bool Keep { get; set; } = true;

    public IEnumerable<Observation> Calls => Seen.Where(static o => o.IsCall);

    public void Attach(string path)
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path);
        foreach (ElfFunction function in ElfFile.Open(file).Value.FindFunctions([.. KernelSide.Functions]).Value.Found)
        {
            _links.Add(Kernel.Attach(function.Name, path, function.FileOffset));
        }
        _links.ShouldNotBeEmpty();
    }

    public Target Start(string scenario, int count = 0) => Target.Start(_scratch, Name, Library, scenario, count, _program);

    /// <summary>Runs a scenario and collects until its first process's end was seen.</summary>
    public IReadOnlyList<Deed> Run(string scenario, int count = 0) => RunWith(Library, _program, scenario, count);

    /// <summary>The same with another library, and the program that can load it.</summary>
    public IReadOnlyList<Deed> RunWith(string library, string program, string scenario, int count = 0)
    {
        using Scratch? other = program == _program ? null : new Scratch();
        using Target target = Target.Start(other ?? _scratch, Name, library, scenario, count, program);
        CollectUntil(() => target.HasExited, "the target to end");
        IReadOnlyList<Deed> deeds = target.Finish();
        CollectUntil(() => Seen.Any(o => o is { Kind: ObservationKind.Exit, LastThread: true } && o.Process.Tgid == target.Pid), "the exit of the target");
        return deeds;
    }

    public void CollectUntil(Func<bool> condition, string what)
    {
        var clock = Stopwatch.StartNew();
        while (!condition())
        {
            clock.Elapsed.TotalSeconds.ShouldBeLessThan(60, $"waited for {what}");
            Kernel.Poll(20, this);
        }
        Kernel.Consume(this);
    }

    public void OnObservation(in Observation observation)
    {
        if (Keep)
        {
            Seen.Add(observation);
        }
    }

    public void OnStack(in Observation call, in CopiedStack stack)
    {
        if (Keep)
        {
            Stacks.Add(new Stack(call, stack.Registers.ToArray(), stack.Start, stack.Bytes.ToArray(), stack.Outer, stack.OuterBytes.ToArray(), stack.Holes));
        }
    }

    public void OnFatalSignal(in Observation observation, ReadOnlySpan<byte> blocks, uint blocksRead) =>
        Deaths.Add(new Death(observation, blocks.ToArray(), blocksRead));

    public void OnComplaint(in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack) =>
        Complaints.Add(observation);

    public void OnMapping(in ExecutableMapping mapping)
    {
    }

    public void OnMappingsLost(ulong count)
    {
    }

    public void Dispose()
    {
        foreach (SafeHandle link in _links)
        {
            link.Dispose();
        }
        Kernel.Dispose();
        _scratch.Dispose();
    }
}
