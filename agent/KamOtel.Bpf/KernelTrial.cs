using System.Runtime.InteropServices;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging;

namespace KamOtel.Bpf;

/// <summary>How a program gets to work.</summary>
public enum ProgramKind
{
    /// <summary>It is attached to a tracepoint.</summary>
    Tracepoint,

    /// <summary>It is run over tasks or mappings.</summary>
    Iterator,

    /// <summary>It is attached to an instruction.</summary>
    Uprobe,
}

/// <summary>
/// One program of the object, loaded and attached alone: whether this kernel can do a thing is tried, not concluded from its
/// version or from a table of privileges. Watches nobody. Several may be loaded at once; each is one thread's at a time.
/// </summary>
public sealed class KernelTrial : IDisposable
{
    private static readonly Dictionary<string, ProgramKind> Kinds = new(StringComparer.Ordinal)
    {
        ["kamotel_exec"] = ProgramKind.Tracepoint,
        ["kamotel_fork"] = ProgramKind.Tracepoint,
        ["kamotel_exit"] = ProgramKind.Tracepoint,
        ["kamotel_fatal_signal"] = ProgramKind.Tracepoint,
        ["kamotel_task"] = ProgramKind.Iterator,
        ["kamotel_host"] = ProgramKind.Iterator,
        ["kamotel_file"] = ProgramKind.Iterator,
        ["kamotel_init"] = ProgramKind.Uprobe,
        ["kamotel_set"] = ProgramKind.Uprobe,
        ["kamotel_set_key"] = ProgramKind.Uprobe,
        ["kamotel_cleanup"] = ProgramKind.Uprobe,
        ["kamotel_cleanup_key"] = ProgramKind.Uprobe,
        ["kamotel_set_ex"] = ProgramKind.Uprobe,
        ["kamotel_clean"] = ProgramKind.Uprobe,
        ["kamotel_enter"] = ProgramKind.Uprobe,
        ["kamotel_complaint"] = ProgramKind.Uprobe,
        ["kamotel_get"] = ProgramKind.Uprobe,
        ["kamotel_get_key"] = ProgramKind.Uprobe,
    };

    private readonly BpfObject _object;
    private readonly BpfProgram _program;
    private readonly ProgramKind _kind;
    private readonly List<SafeHandle> _links = [];

    private KernelTrial(BpfObject loaded, BpfProgram program, ProgramKind kind) => (_object, _program, _kind) = (loaded, program, kind);

    /// <summary>All programs of the object, and what they are.</summary>
    public static IReadOnlyDictionary<string, ProgramKind> Programs => Kinds;

    /// <summary>The kernel is expected to have what the program takes: the agent leaves it out otherwise.</summary>
    public static bool IsExpected(string program) => program switch
    {
        "kamotel_file" => OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 5, 12),
        _ => true,
    };

    /// <summary>Gives one program to the kernel, with the object's maps: the ring among them.</summary>
    /// <exception cref="BpfException">libbpf is missing, or the kernel refused.</exception>
    public static KernelTrial Load(string program, int ringBytes, ILogger logger)
    {
        BpfObject opened = BpfObject.Open(KernelSide.Embedded(), "kamotel", logger);
        try
        {
            opened.Map("ring").SetCapacity((uint)ringBytes);
            foreach (string other in Kinds.Keys.Where(other => other != program))
            {
                opened.Program(other).DoNotLoad();
            }
            if (KernelSide.HasUprobeMulti)
            {
                opened.MakeUprobesMulti();
            }
            opened.Load();
            return new KernelTrial(opened, opened.Program(program), Kinds[program]);
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    /// <summary>Puts it to work: tracepoints are attached, iterators run once, uprobes attached to the file.</summary>
    /// <param name="path">The file, for a uprobe.</param>
    /// <param name="offset">Where in it.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void Attach(string path = "", ulong offset = 0)
    {
        switch (_kind)
        {
            case ProgramKind.Tracepoint:
                _links.Add(_program.Attach());
                break;
            case ProgramKind.Iterator:
                BpfLink iterator = _program.AttachIterator(Environment.ProcessId);
                _links.Add(iterator);
                iterator.RunIterator();
                break;
            default:
                _links.Add(_program.AttachUprobe(path, offset));
                break;
        }
    }

    /// <summary>From now on this process is watched, as a server would be: what it does makes records, which nobody reads.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void WatchSelf(ProcessId self) => _object.Map("watched").Set((uint)self.Tgid, new Events.WatchedEntry
    {
        StartTicks = self.StartTicks,
        InstanceNs = 1,
        InstanceTgid = (uint)self.Tgid,
        Forked = 1,
    });

    /// <summary>Opens the ring, takes the records that wait in it, and says how many they were.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public int TakeRecords()
    {
        using var ring = new RingBuffer(_object.Map("ring"), Nobody.Instance);
        return ring.Consume();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The kernel takes its time for a uprobe; for many at once it takes no longer than for one.
        _ = Parallel.ForEach(_links, static link => link.Dispose());
        _object.Dispose();
    }

    private sealed class Nobody : IRecordHandler
    {
        public static Nobody Instance { get; } = new();

        public void OnRecord(ReadOnlySpan<byte> record)
        {
        }
    }
}
