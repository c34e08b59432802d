using System.Collections.Immutable;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>
/// After a hazard was found: counts for a short while, in the kernel, how often which process uses the shared slots. The
/// function that is probed is called so often that the probe must not stay: it goes when the time is over or enough was
/// seen. Watch loop only.
/// </summary>
internal sealed partial class ConfirmWindow(KernelSide kernel, ProcFs proc, double seconds, ILogger logger) : IDisposable
{
    /// <summary>Enough to prove the use; and all that the window may cost, as each hit is a trap.</summary>
    private const long MaxHits = 10_000;

    private readonly Queue<(InstanceId Instance, ProcessId Root, ImmutableArray<uint> Keys)> _waiting = new();
    private readonly HashSet<InstanceId> _asked = [];
    private readonly List<SafeHandle> _links = [];
    private InstanceId _instance;
    private ulong _sinceNs;

    /// <summary>Windows that were opened so far.</summary>
    public long Count { get; private set; }

    /// <summary>A window is open: <see cref="Turn"/> wants to be called every few milliseconds.</summary>
    public bool IsOpen => _links.Count > 0;

    /// <summary>An instance's verdict; a hazard is confirmed once until it is gone.</summary>
    public void Consider(InstanceSnapshot instance)
    {
        if (seconds <= 0)
        {
            return;
        }
        if (instance.Verdict != Verdict.Hazard)
        {
            if (instance.SharedSlots.IsEmpty)
            {
                _ = _asked.Remove(instance.Id);
            }
            return;
        }
        if (_asked.Add(instance.Id))
        {
            _waiting.Enqueue((instance.Id, instance.Root, [.. instance.SharedSlots.Select(static s => s.Key).Distinct()]));
        }
    }

    /// <summary>An instance ended.</summary>
    public void Forget(InstanceId instance) => _ = _asked.Remove(instance);

    /// <summary>Opens the next window, or closes the one whose time is over and tells the fleet.</summary>
    public void Turn(Fleet fleet, ulong nowNs)
    {
        if (IsOpen)
        {
            if (nowNs - _sinceNs >= seconds * 1e9 || kernel.ConfirmHits >= MaxHits)
            {
                Close();
                fleet.Confirmed(_instance, [.. kernel.ReadSharedUses()], nowNs - _sinceNs, nowNs);
                kernel.ClearSharedKeys();
            }
            return;
        }
        if (_waiting.TryDequeue(out (InstanceId Instance, ProcessId Root, ImmutableArray<uint> Keys) next))
        {
            Open(next.Instance, next.Root, next.Keys);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => Close();

    private void Open(InstanceId instance, ProcessId root, ImmutableArray<uint> keys)
    {
        if (!proc.ReadMaps(root.Tgid, onlyCode: true).TryGet(out ImmutableArray<Mapping> maps))
        {
            return; // It is gone.
        }
        kernel.ClearSharedKeys();
        kernel.SetSharedKeys(instance, keys);
        var probed = new HashSet<FileIdentity>();
        foreach (Mapping mapping in maps)
        {
            if (mapping is not { IsCode: true, Path: { } path } || !path.StartsWith('/'))
            {
                continue;
            }
            if (!proc.OpenMapping(root.Tgid, mapping.Start, mapping.End).TryGet(out SafeFileHandle? file) && !proc.OpenRooted(root.Tgid, path).TryGet(out file))
            {
                continue;
            }
            using (file)
            {
                Attach(file, path, probed);
            }
        }
        if (IsOpen)
        {
            _instance = instance;
            _sinceNs = BootClock.NowNs;
            Count++;
        }
    }

    private void Attach(SafeFileHandle file, string path, HashSet<FileIdentity> probed)
    {
        if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out _) || !elf.FindFunctions([KernelSide.ConfirmedFunction]).TryGet(out ElfFunctions? functions, out _) || functions.Found.IsEmpty)
        {
            return;
        }
        try
        {
            if (kernel.Identify(file) is { } identity && !probed.Add(identity))
            {
                return;
            }
            ElfFunction get = functions.Found[0];
            string pinned = RegularFile.PathOf(file);
            _links.Add(ProbeSites.Attach(get, ProbeSites.Of(elf, get), (offset, keyLoaded) => kernel.AttachConfirm(pinned, offset, keyLoaded), out _));
        }
        catch (BpfException e)
        {
            NotAttached(logger, path, e.Message);
        }
    }

    private void Close()
    {
        ProbeLinks.Detach([.. _links]);
        _links.Clear();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "the use of shared slots cannot be watched in {Path}: {Reason}")]
    private static partial void NotAttached(ILogger logger, string path, string reason);
}
