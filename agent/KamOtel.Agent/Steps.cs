using System.Collections.Immutable;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>
/// The steps of a server's start: probes on its executable and on the init function of each of its modules. What is installed
/// on the host has them from the agent's start on; else they are attached when a server maps the file: that takes less than a
/// millisecond, and modules are mapped while the configuration is read, before the first of them is initialised. Taking one
/// away takes a kernel before 6.6 some 80 ms, in which it attaches no other, so that is done aside and one at a time, when no
/// server starts. Watch loop only.
/// </summary>
internal sealed partial class Steps(KernelSide kernel, ProcFs proc, ILogger logger) : IDisposable
{
    /// <summary>Kamailio has some 250 modules.</summary>
    private const int MaxFiles = 512;

    /// <summary>Of them, those that are attached before anybody maps them.</summary>
    private const int MaxInstalled = 384;

    private const int MaxMappings = 1024;

    /// <summary>How long probes stay after the last start was over: a server that fails is often started again at once.</summary>
    private const long LingerMs = 5000;

    private const string ModulesBegin = "init_modules";

    /// <summary>What Kamailio calls when all modules are initialised.</summary>
    private const string ModulesEnd = "init_pt";

    private static readonly EnumerationOptions Accessible = new() { IgnoreInaccessible = true };

    private static readonly StepFile None = new("", []);

    private readonly Dictionary<FileKey, StepFile> _byKey = [];
    private readonly Dictionary<FileIdentity, StepFile> _byIdentity = [];
    private readonly Dictionary<ProcessId, List<StepMapping>> _mapped = [];
    private readonly Queue<(StepFile File, SafeFileHandle Handle)> _waiting = [];
    private readonly Queue<StepFile> _attached = [];
    private readonly Queue<StepFile> _kept = [];
    private Task _detaching = Task.CompletedTask;
    private long _startingAt;

    /// <summary>Follows who inherits whose mappings.</summary>
    public void Follow(in Observation observation)
    {
        switch (observation.Kind)
        {
            case ObservationKind.Fork when _mapped.TryGetValue(observation.Process, out List<StepMapping>? parents):
                _mapped[observation.Other] = parents;
                break;
            case ObservationKind.Exec:
            case ObservationKind.Exit when observation.LastThread:
                _ = _mapped.Remove(observation.Process);
                break;
            default:
                break;
        }
    }

    /// <summary>
    /// Attaches to an executable before anybody runs it, and to the modules that are installed with it where the kernel can
    /// take so many away at once; those probes stay.
    /// </summary>
    public void OfferExecutable(string path)
    {
        if (!MayHaveSteps(path) || !OfferInstalled(path) || !KernelSide.HasUprobeMulti || Path.GetDirectoryName(Path.GetDirectoryName(path)) is not { } prefix)
        {
            return;
        }
        string[] libraries = [Path.Combine(prefix, "lib"), Path.Combine(prefix, "lib64"), .. Folders(Path.Combine(prefix, "lib"), "*-linux-gnu*")];
        foreach (string module in libraries.SelectMany(static l => Files(Path.Combine(l, "kamailio", "modules"))).Take(MaxInstalled))
        {
            _ = OfferInstalled(module);
        }
    }

    /// <summary>Attaches to a file of the host; false when there is no step in it.</summary>
    private bool OfferInstalled(string path)
    {
        if (RegularFile.Open(path).TryGet(out SafeFileHandle? file, out _))
        {
            using (file)
            {
                if (Examine(file, path) is { Functions.IsEmpty: false } found)
                {
                    if (found.Links.Count == 0)
                    {
                        Attach(found, file, _kept);
                    }
                    return true;
                }
            }
        }
        return false;
    }

    private static string[] Folders(string folder, string pattern) => Directory.Exists(folder) ? Directory.GetDirectories(folder, pattern, Accessible) : [];

    private static string[] Files(string folder) => Directory.Exists(folder) ? Directory.GetFiles(folder, "*.so", Accessible) : [];

    /// <summary>A watched process mapped code of a file. If there is a step in it, it waits for <see cref="AttachNext"/>.</summary>
    public void Offer(ProcessId process, SafeFileHandle file, string path, ulong start, ulong end, ulong fileOffset)
    {
        if (!MayHaveSteps(path) || Examine(file, path) is not { Functions.IsEmpty: false } found)
        {
            return;
        }
        if (!_mapped.TryGetValue(process, out List<StepMapping>? mappings))
        {
            _mapped[process] = mappings = [];
        }
        if (mappings.Count < MaxMappings)
        {
            _ = mappings.RemoveAll(m => m.Start < end && start < m.End);
            mappings.Add(new StepMapping(start, end, fileOffset, found));
        }
        // By the descriptor, so that it is the file that was read.
        if (found is { IsWanted: false, Links.Count: 0 } && RegularFile.Open(RegularFile.PathOf(file)).TryGet(out SafeFileHandle? own, out _))
        {
            found.IsWanted = true;
            _waiting.Enqueue((found, own));
        }
    }

    /// <summary>Attaches to one file that waits; false when none does. Between two of them the loop looks for a libcrypto: that matters more.</summary>
    public bool AttachNext()
    {
        if (!_waiting.TryDequeue(out (StepFile File, SafeFileHandle Handle) next))
        {
            return false;
        }
        using (next.Handle)
        {
            next.File.IsWanted = false;
            Attach(next.File, next.Handle, _attached);
        }
        return true;
    }

    /// <summary>Which step it is that was entered; null when the probe's file is not known to be mapped there.</summary>
    public (StartStep Step, string? Module)? Find(in Observation entered)
    {
        (StartStep, string?)? found = FindMapped(in entered) ?? FindNow(in entered);
        if (found is null)
        {
            StepUnknown(logger, entered.Address, entered.Process.Tgid);
        }
        return found;
    }

    /// <summary>Takes probes away when no server starts, one at a time.</summary>
    public void Turn(bool isStarting)
    {
        long now = Environment.TickCount64;
        _startingAt = isStarting || _waiting.Count > 0 ? now : _startingAt;
        if (now - _startingAt < LingerMs || !_detaching.IsCompleted || !_attached.TryDequeue(out StepFile? file))
        {
            return;
        }
        SafeHandle[] links = [.. file.Links];
        file.Links.Clear();
        _detaching = Task.Run(() => ProbeLinks.Detach(links));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_waiting.TryDequeue(out (StepFile, SafeFileHandle Handle) next))
        {
            next.Handle.Dispose();
        }
        _detaching.Wait();
        ProbeLinks.Detach([.. _attached.Concat(_kept).SelectMany(static f => f.Links)]);
        _attached.Clear();
        _kept.Clear();
    }

    /// <summary>A module of Kamailio, or what is no library.</summary>
    private static bool MayHaveSteps(string path) => ModuleOf(path) is not null || !Path.GetFileName(path).Contains(".so", StringComparison.Ordinal);

    /// <summary>What a module there would be called; whether it is one, the file itself tells.</summary>
    private static string? ModuleOf(string path) => path.Contains("/opensips/", StringComparison.Ordinal) ? null : ServerModule.ExportedNameOf(path);

    private StepFile Examine(SafeFileHandle file, string path)
    {
        if (!FileKey.Of(file).TryGet(out FileKey key, out _))
        {
            return None;
        }
        if (_byKey.TryGetValue(key, out StepFile? known))
        {
            return known;
        }
        if (_byKey.Count >= MaxFiles)
        {
            return None;
        }
        StepFile found = Read(file, path, out string? reason);
        if (reason is not null)
        {
            NotProbed(logger, path, reason);
        }
        try
        {
            // Two containers of one image have one file below: two probes would tell each step twice.
            if (!found.Functions.IsEmpty && kernel.Identify(file) is { } identity && !_byIdentity.TryAdd(identity, found))
            {
                found = _byIdentity[identity];
            }
        }
        catch (BpfException e)
        {
            NotProbed(logger, path, e.Message);
            found = None;
        }
        return _byKey[key] = found;
    }

    private static StepFile Read(SafeFileHandle file, string path, out string? reason)
    {
        reason = null;
        if (ModuleOf(path) is { } module)
        {
            if (!ModuleExports.ReadInit(file, module).TryGet(out ModuleInit init, out ElfError? wrong))
            {
                reason = wrong.ToString();
                return None;
            }
            return init.FileOffset is { } offset ? new StepFile(path, [new StepFunction(offset, StartStep.Module, module)]) : None;
        }
        if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out ElfError? error) || !elf.FindFunctions([ModulesBegin, ModulesEnd]).TryGet(out ElfFunctions? functions, out error))
        {
            reason = error.ToString();
            return None;
        }
        // OpenSIPS has the one and not the other.
        return functions.Found.Length == 2 && functions.Found[0].Name != functions.Found[1].Name
            ? new StepFile(path, [.. functions.Found.Select(static f => new StepFunction(f.FileOffset, f.Name == ModulesBegin ? StartStep.Modules : StartStep.ModulesDone, Module: null))])
            : None;
    }

    private void Attach(StepFile file, SafeFileHandle handle, Queue<StepFile> attached)
    {
        foreach (StepFunction function in file.Functions)
        {
            try
            {
                file.Links.Add(kernel.AttachEnter(RegularFile.PathOf(handle), function.FileOffset));
            }
            catch (BpfException e)
            {
                NotProbed(logger, file.Path, e.Message);
            }
        }
        if (file.Links.Count > 0)
        {
            attached.Enqueue(file);
        }
    }

    private (StartStep, string?)? FindMapped(in Observation entered)
    {
        if (_mapped.TryGetValue(entered.Process, out List<StepMapping>? mappings))
        {
            foreach (StepMapping mapping in mappings)
            {
                if (mapping.Find(entered.Address) is { } function)
                {
                    return (function.Step, function.Module);
                }
            }
        }
        return null;
    }

    /// <summary>The ring may be ahead of the mappings.</summary>
    private (StartStep, string?)? FindNow(in Observation entered)
    {
        if (!proc.ReadMaps(entered.Process.Tgid, onlyCode: true).TryGet(out ImmutableArray<Mapping> maps))
        {
            return null;
        }
        ulong address = entered.Address;
        if (maps.FirstOrDefault(m => address >= m.Start && address < m.End) is not { } mapping
            || !proc.OpenMapping(entered.Process.Tgid, mapping.Start, mapping.End).TryGet(out SafeFileHandle? file, out _))
        {
            return null;
        }
        using (file)
        {
            return FileKey.Of(file).TryGet(out FileKey key, out _) && _byKey.TryGetValue(key, out StepFile? known)
                && new StepMapping(mapping.Start, mapping.End, mapping.Offset, known).Find(address) is { } function ? (function.Step, function.Module) : null;
        }
    }

    [LoggerMessage(Level = LogLevel.Debug, Message = "{Path} has no probe on a step of the start: {Reason}")]
    private static partial void NotProbed(ILogger logger, string path, string reason);

    [LoggerMessage(Level = LogLevel.Debug, Message = "a step at 0x{Address:x} in process {Pid} is of a file that is not known")]
    private static partial void StepUnknown(ILogger logger, ulong address, int pid);

    /// <summary>A function whose entry is a step.</summary>
    private readonly record struct StepFunction(ulong FileOffset, StartStep Step, string? Module);

    /// <summary>A file with such functions.</summary>
    private sealed class StepFile(string path, ImmutableArray<StepFunction> functions)
    {
        public string Path { get; } = path;

        public ImmutableArray<StepFunction> Functions { get; } = functions;

        public List<SafeHandle> Links { get; } = [];

        /// <summary>It waits for its probes.</summary>
        public bool IsWanted { get; set; }
    }

    /// <summary>Where a process has it.</summary>
    private readonly record struct StepMapping(ulong Start, ulong End, ulong FileOffset, StepFile File)
    {
        public StepFunction? Find(ulong address)
        {
            if (address < Start || address >= End)
            {
                return null;
            }
            ulong offset = address - Start + FileOffset;
            foreach (StepFunction function in File.Functions)
            {
                if (function.FileOffset == offset)
                {
                    return function;
                }
            }
            return null;
        }
    }
}
