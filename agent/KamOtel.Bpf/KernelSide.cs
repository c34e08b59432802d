using System.Runtime.InteropServices;
using System.Text;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Bpf;

/// <summary>Takes what the kernel side sees.</summary>
public interface IObservationHandler : IMappingHandler
{
    /// <summary>One observation; a <see cref="ObservationKind.FatalSignal"/> comes by <see cref="OnFatalSignal"/> instead, a complaint by <see cref="OnComplaint"/>.</summary>
    void OnObservation(in Observation observation);

    /// <summary>
    /// The stack at a call or a fatal signal with <see cref="Observation.HasStack"/>, right after that itself; in place: the
    /// bytes are the kernel's again when this returns.
    /// </summary>
    void OnStack(in Observation call, in CopiedStack stack);

    /// <summary>A watched process is about to die of a signal; what its Thread#1 held.</summary>
    /// <param name="observation">In the thread that the signal hit; <see cref="Observation.Status"/> is the signal.</param>
    /// <param name="blocks">
    /// Four blocks of 512 bytes, in place: the bytes are the kernel's again when the call returns. glibc: the first four
    /// blocks of 32 slots, each a sequence number and a value; flat: in the first two the values of keys 0 to 127.
    /// </param>
    /// <param name="blocksRead">
    /// Bit n: block n was read; the others are zero. glibc has no block where no slot was ever set; 0 without a
    /// <see cref="KernelSide.SetSlotLayout">layout</see>.
    /// </param>
    void OnFatalSignal(in Observation observation, ReadOnlySpan<byte> blocks, uint blocksRead);

    /// <summary>A probe of <see cref="KernelSide.AttachComplaints"/> was hit.</summary>
    /// <param name="observation">In the thread that complains; <see cref="Observation.Address"/> is the probe's.</param>
    /// <param name="arguments">
    /// What the registers hold that carry a call's first six arguments, in place: the bytes are the kernel's again when the
    /// call returns.
    /// </param>
    /// <param name="stack">The words from the stack pointer on, in place; empty when they could not be read.</param>
    void OnComplaint(in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack);
}

/// <summary>The inode that a uprobe binds to, below all layers of an overlay.</summary>
/// <param name="Device">The kernel's device number.</param>
/// <param name="Inode">The inode number.</param>
public readonly record struct FileIdentity(uint Device, ulong Inode);

/// <summary>What a program reads of the arguments of the call that it is attached to.</summary>
/// <param name="Count">The first so many, each from its register.</param>
/// <param name="KeyByPointer">The first points to the key, and the key itself would do.</param>
public readonly record struct WantedArguments(int Count, bool KeyByPointer = false);

/// <summary>
/// The BPF object of <c>bpf/</c>, loaded and attached: which processes are watched, uprobes, the ring, the losses.
/// Everything is detached when it is disposed or when the process ends. One thread at a time, but for <see cref="Wake"/>.
/// </summary>
public sealed unsafe class KernelSide : IRecordHandler, IDisposable
{
    /// <summary>The kind of a stack: its losses are calls that came without one, not lost calls.</summary>
    public const int StackKind = Events.Stack;

    /// <summary>How long calls may gather in the ring before they are taken, in milliseconds.</summary>
    private const int GatherMs = 1;

    private const string KernelTypes = "/sys/kernel/btf/vmlinux";

    private static readonly Dictionary<string, CallProgram> Programs = new(StringComparer.Ordinal)
    {
        ["CRYPTO_THREAD_init_local"] = new("kamotel_init", new(2)),
        ["CRYPTO_THREAD_set_local"] = new("kamotel_set", new(2, KeyByPointer: true)),
        ["CRYPTO_THREAD_cleanup_local"] = new("kamotel_cleanup", new(1, KeyByPointer: true)),
        ["CRYPTO_THREAD_set_local_ex"] = new("kamotel_set_ex", new(3)),
        ["CRYPTO_THREAD_clean_local"] = new("kamotel_clean", new(0)),
    };

    private static readonly CallProgram Confirm = new("kamotel_get", new(1, KeyByPointer: true));

    private readonly BpfObject _object;
    private readonly BpfMap _watched;
    private readonly BpfMap _names;
    private readonly BpfMap _losses;
    private readonly BpfMap _layouts;
    private readonly BpfMap _sharedKeys;
    private readonly BpfMap _sharedUses;
    private readonly RingBuffer? _ring;
    private readonly MappingWatch? _mappings;
    private readonly List<BpfLink> _tracepoints = [];
    private readonly BpfLink? _identify;
    private readonly SharedSection _globals;
    private readonly Libc.PollFd[] _poll = [];
    private readonly long[] _received = new long[Events.Kinds];
    private readonly Events.TaskRecord[] _threads = new Events.TaskRecord[2048];
    private int _wake = -1;
    private BpfLink? _allThreads;
    private IObservationHandler? _handler;
    private bool _callsCame;
    private bool _othersCame;

    private KernelSide(BpfObject loaded, bool forInspection, string? refused)
    {
        FatalSignalsRefused = refused;
        _object = loaded;
        _watched = loaded.Map("watched");
        _names = loaded.Map("watched_names");
        _losses = loaded.Map("losses");
        _layouts = loaded.Map("slot_layouts");
        _sharedKeys = loaded.Map("shared_keys");
        _sharedUses = loaded.Map("shared_uses");
        _globals = loaded.Map(".bss").MapSection();
        if (forInspection)
        {
            return;
        }
        _identify = CanIterateMappings ? loaded.Program("kamotel_file").AttachIterator(Environment.ProcessId) : null;
        _globals.As<Events.Globals>().WantedTgid = Environment.ProcessId;
        _ring = new RingBuffer(loaded.Map("ring"), this);
        _mappings = new MappingWatch();
        const int CloseOnExecNonBlocking = 0x80800;
        _wake = Libc.eventfd(0, CloseOnExecNonBlocking);
        _poll = [.. new[] { _ring.Fd, _wake }.Concat(_mappings.Fds).Select(static fd => new Libc.PollFd { Fd = fd, Events = Libc.PollIn })];
    }

    /// <summary>The names of the kinds of events, by number; null where a number is no kind.</summary>
    public static IReadOnlyList<string?> KindNames { get; } =
        [null, "exec", "fork", "exit", "init_local", "set_local", "cleanup_local", "set_local_ex", "clean_local", "watch", "fatal_signal", "stack", "enter", "complaint"];

    /// <summary>The functions of libcrypto that can be probed.</summary>
    public static IReadOnlyList<string> Functions { get; } = [.. Programs.Keys];

    /// <summary>The function of libcrypto that <see cref="AttachConfirm"/> probes.</summary>
    public static string ConfirmedFunction => "CRYPTO_THREAD_get_local";

    /// <summary>The iterator over mappings (iter/task_vma) came with 5.12.</summary>
    private static bool CanIterateMappings => OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 5, 12);

    /// <summary>
    /// The kernel attaches probes by links of their own (BPF_TRACE_UPROBE_MULTI, from 6.6 on): it can take away many in the
    /// time of one, and needs no CAP_SYS_ADMIN for it.
    /// </summary>
    public static bool HasUprobeMulti => UprobeMulti.IsSupported;

    /// <summary>Why fatal signals are not told: this kernel refused; null when they are.</summary>
    public string? FatalSignalsRefused { get; private set; }

    /// <summary>Size of the ring in bytes.</summary>
    public long RingBytes => _ring?.Capacity ?? 0;

    /// <summary>Bytes in the ring that wait to be read.</summary>
    public long RingUsedBytes => _ring?.Used ?? 0;

    /// <summary>
    /// Calls seen by <see cref="AttachConfirm"/> in watched processes since <see cref="ClearSharedKeys"/>, of whatever key
    /// and thread. To be compared with a limit: each costs its process microseconds.
    /// </summary>
    public ulong ConfirmHits => Volatile.Read(ref _globals.As<Events.Globals>().ConfirmHits);

    /// <summary>Mappings that the kernel dropped so far.</summary>
    public long MappingsLost { get; private set; }

    /// <summary>Mappings seen so far, on the whole host.</summary>
    public long MappingsReceived { get; private set; }

    /// <summary>Loads the object. Nothing is watched yet.</summary>
    /// <param name="ringBytes">Size of the ring: a power of two and a multiple of the page size.</param>
    /// <param name="logger">Where libbpf's own log goes.</param>
    /// <param name="btf">Where the kernel's own types are.</param>
    /// <exception cref="BpfException">The machine cannot do it; the message says why and what helps.</exception>
    public static KernelSide Load(int ringBytes, ILogger logger, string btf = KernelTypes) => Load(Embedded(), ringBytes, logger, btf);

    /// <summary>
    /// Loads only what <see cref="ReadThreads"/> and <see cref="ReadHostName"/> take: no ring, and nothing that fires by
    /// itself. For a look without a watch; besides those only <see cref="WatchProcess"/> and <see cref="UnwatchProcess"/> do
    /// something.
    /// </summary>
    /// <param name="logger">Where libbpf's own log goes.</param>
    /// <param name="btf">Where the kernel's own types are.</param>
    /// <exception cref="BpfException">The machine cannot do it; the message says why and what helps.</exception>
    public static KernelSide LoadForInspection(ILogger logger, string btf = KernelTypes)
    {
        RequireKernel(btf);
        BpfObject opened = BpfObject.Open(Embedded(), "kamotel", logger);
        try
        {
            opened.LoadOnly(["kamotel_task", "kamotel_host"], ["watched", ".bss"]);
            opened.Load();
            return new KernelSide(opened, forInspection: true, refused: null);
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    /// <summary>Watches every process that executes a program of this name from now on.</summary>
    public void WatchName(string name) => _names.Set(TaskName.From(name), (byte)1);

    /// <summary>
    /// Attaches to exec, fork, exit and fatal signals; a refusal of the last is no failure, but
    /// <see cref="FatalSignalsRefused"/>.
    /// </summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void AttachTracepoints()
    {
        foreach (string program in new[] { "kamotel_exec", "kamotel_fork", "kamotel_exit" })
        {
            _tracepoints.Add(_object.Program(program).Attach());
        }
        if (FatalSignalsRefused is not null)
        {
            return;
        }
        try
        {
            _tracepoints.Add(_object.Program("kamotel_fatal_signal").Attach());
        }
        catch (BpfException e)
        {
            FatalSignalsRefused = e.Message;
        }
    }

    /// <summary>
    /// Watches a process that runs already, as part of an instance. False when the kernel side watches it: it saw the
    /// exec or the fork, and the ring tells.
    /// </summary>
    /// <exception cref="BpfException">The map is full.</exception>
    public bool WatchProcess(ProcessId process, InstanceId instance) =>
        _watched.TryAdd((uint)process.Tgid, new Events.WatchedEntry
        {
            StartTicks = process.StartTicks,
            InstanceNs = instance.SinceNs,
            InstanceTgid = (uint)instance.Tgid,
            // Nobody knows how far it is: only a few stacks.
            Forked = 1,
        });

    /// <summary>Takes back <see cref="WatchProcess"/>, for a process that ended meanwhile.</summary>
    public void UnwatchProcess(ProcessId process) => _ = _watched.Remove((uint)process.Tgid);

    /// <summary>
    /// Says where the C library of an instance keeps thread-local values, so that they are copied before a process of it
    /// dies of a signal. Replaces what was said before.
    /// </summary>
    /// <param name="instance">The instance.</param>
    /// <param name="tableOffset">Offset from the thread pointer in bytes.</param>
    /// <param name="flat">False (glibc): an array of pointers to blocks lies there. True (musl): a pointer to one array.</param>
    /// <exception cref="BpfException">1024 instances have one.</exception>
    public void SetSlotLayout(InstanceId instance, long tableOffset, bool flat) =>
        _layouts.Set(KeyOf(instance), new Events.SlotLayout { TableOffset = tableOffset, Flat = flat ? 1u : 0 });

    /// <summary>Takes back <see cref="SetSlotLayout"/>, when the instance has ended.</summary>
    public void RemoveSlotLayout(InstanceId instance) => _ = _layouts.Remove(KeyOf(instance));

    /// <summary>The living threads of watched processes, and where the kernel says their thread-local storage is.</summary>
    /// <param name="tgid">Of this process only; null: of all, in one pass.</param>
    /// <param name="into">Is emptied and takes them; a process that is not watched, or gone, has none.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public void ReadThreads(int? tgid, List<ThreadPointer> into)
    {
        ArgumentNullException.ThrowIfNull(into);
        into.Clear();
        _globals.As<Events.Globals>().WantedTask = tgid ?? 0;
        using BpfLink? one = tgid is null ? null : _object.Program("kamotel_task").AttachIterator(tgid);
        BpfLink iterator = one ?? (_allThreads ??= _object.Program("kamotel_task").AttachIterator(null));
        iterator.RunIterator<Events.TaskRecord>(_threads, threads =>
        {
            foreach (ref readonly Events.TaskRecord thread in threads)
            {
                into.Add(new ThreadPointer(ProcessId.FromNanoseconds((int)thread.Tgid, thread.StartNs), (int)thread.Tid, thread.TlsBase));
            }
        });
    }

    /// <summary>What a process, watched or not, takes for the name of its host; null when it is gone.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public HostName? ReadHostName(int tgid)
    {
        _globals.As<Events.Globals>().WantedTask = tgid;
        using BpfLink iterator = _object.Program("kamotel_host").AttachIterator(tgid);
        HostName? name = null;
        iterator.RunIterator(stackalloc Events.HostRecord[1], found =>
        {
            ReadOnlySpan<byte> text = found[0].Name;
            int end = text.IndexOf((byte)0);
            name = new HostName(ProcessId.FromNanoseconds((int)found[0].Tgid, found[0].StartNs), found[0].Namespace, Encoding.UTF8.GetString(end < 0 ? text : text[..end]));
        });
        return name;
    }

    /// <summary>
    /// What a uprobe on this file would bind to. Two paths with one identity need one probe. Null where the kernel
    /// (before 5.12) cannot tell.
    /// </summary>
    /// <exception cref="BpfException">The file cannot be mapped.</exception>
    public FileIdentity? Identify(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (_identify is null)
        {
            return null;
        }
        nuint page = (nuint)Environment.SystemPageSize;
        bool held = false;
        file.DangerousAddRef(ref held);
        nint address = Libc.mmap(0, page, Libc.ProtRead, Libc.MapPrivate, (int)file.DangerousGetHandle(), 0);
        int errno = Marshal.GetLastPInvokeError();
        file.DangerousRelease();
        if (address == Libc.MapFailed)
        {
            throw new BpfException("a library cannot be mapped to learn its identity", errno);
        }
        try
        {
            ref Events.Globals globals = ref _globals.As<Events.Globals>();
            globals.WantedFile = default;
            Volatile.Write(ref globals.WantedStart, (ulong)address);
            _identify.RunIterator();
            Interlocked.MemoryBarrier();
            Events.FileRecord found = globals.WantedFile;
            return found.Inode != 0
                ? new FileIdentity(found.Device, found.Inode)
                : throw new BpfException("the kernel did not find the agent's own mapping: the agent must run in the host's PID namespace (hostPID)");
        }
        finally
        {
            _ = Libc.munmap(address, page);
        }
    }

    /// <summary>What the program for a function reads of its arguments.</summary>
    /// <param name="function">One of <see cref="Functions"/>, or <see cref="ConfirmedFunction"/>.</param>
    public static WantedArguments ArgumentsOf(string function) => (function == ConfirmedFunction ? Confirm : Programs[function]).Arguments;

    /// <summary>Attaches the program for <paramref name="function"/> to a file, for every process.</summary>
    /// <param name="function">One of <see cref="Functions"/>.</param>
    /// <param name="path">The file.</param>
    /// <param name="offset">
    /// Offset in the file of the function's first instruction, or of another one that every call passes once, with the
    /// <see cref="ArgumentsOf">wanted arguments</see> still in their registers.
    /// </param>
    /// <param name="keyLoaded">There, the first argument's register holds the key that it pointed to.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public SafeHandle Attach(string function, string path, ulong offset, bool keyLoaded = false) =>
        _object.Program(Programs[function].NameWhere(keyLoaded)).AttachUprobe(path, offset);

    /// <summary>
    /// Tells of each entry into a function of a file in the main thread of a watched process, as
    /// <see cref="ObservationKind.Entered"/> with <see cref="Observation.Address"/>.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="offset">Offset of the function's first instruction in the file.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public SafeHandle AttachEnter(string path, ulong offset) => _object.Program("kamotel_enter").AttachUprobe(path, offset);

    /// <summary>
    /// Tells of each time that an instruction of a file is reached in a watched process, by
    /// <see cref="IObservationHandler.OnComplaint"/>. Where the kernel can, one link carries them all.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="offsets">Offsets of the instructions in the file.</param>
    /// <param name="refused">Takes why an instruction carries no probe; the others do not suffer.</param>
    public IReadOnlyList<SafeHandle> AttachComplaints(string path, ReadOnlySpan<ulong> offsets, Action<BpfException> refused)
    {
        ArgumentNullException.ThrowIfNull(refused);
        if (offsets.IsEmpty)
        {
            return [];
        }
        BpfProgram program = _object.Program("kamotel_complaint");
        if (program.IsUprobeMulti)
        {
            try
            {
                return [program.AttachUprobe(path, offsets)];
            }
            catch (BpfException)
            {
                // One of them is not liked: which, the kernel does not tell.
            }
        }
        var links = new List<SafeHandle>();
        foreach (ulong offset in offsets)
        {
            try
            {
                links.Add(program.AttachUprobe(path, offset));
            }
            catch (BpfException e)
            {
                refused(e);
                if (e.Denied)
                {
                    break;
                }
            }
        }
        return links;
    }

    /// <summary>
    /// Counts the uses of <see cref="SetSharedKeys">shared keys</see> until the link is disposed of, in every process that
    /// maps the file. The function is called thousands of times a second: for a short window only.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="offset">Where in <see cref="ConfirmedFunction"/>, as for <see cref="Attach"/>.</param>
    /// <param name="keyLoaded">As for <see cref="Attach"/>.</param>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public SafeHandle AttachConfirm(string path, ulong offset, bool keyLoaded = false) => _object.Program(Confirm.NameWhere(keyLoaded)).AttachUprobe(path, offset);

    /// <summary>Says which keys of an instance are shared: their uses are counted. Replaces what was said of it before.</summary>
    /// <exception cref="BpfException">The map is full (16384 keys).</exception>
    public void SetSharedKeys(InstanceId instance, IEnumerable<uint> keys)
    {
        ArgumentNullException.ThrowIfNull(keys);
        HashSet<Events.SharedKey> wanted =
            [.. keys.Select(key => new Events.SharedKey { InstanceNs = instance.SinceNs, InstanceTgid = (uint)instance.Tgid, Key = key })];
        foreach (Events.SharedKey old in _sharedKeys.Keys<Events.SharedKey>())
        {
            if (old.InstanceNs == instance.SinceNs && old.InstanceTgid == (uint)instance.Tgid && !wanted.Contains(old))
            {
                _ = _sharedKeys.Remove(old);
            }
        }
        foreach (Events.SharedKey key in wanted)
        {
            _sharedKeys.Set(key, (byte)1);
        }
    }

    /// <summary>Forgets all shared keys of all instances, their uses, and <see cref="ConfirmHits"/>.</summary>
    public void ClearSharedKeys()
    {
        foreach (Events.SharedKey key in _sharedKeys.Keys<Events.SharedKey>())
        {
            _ = _sharedKeys.Remove(key);
        }
        foreach (Events.SharedUseKey use in _sharedUses.Keys<Events.SharedUseKey>())
        {
            _ = _sharedUses.Remove(use);
        }
        Volatile.Write(ref _globals.As<Events.Globals>().ConfirmHits, 0);
    }

    /// <summary>The uses counted so far; a process that used none is not among them.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public List<SharedUse> ReadSharedUses()
    {
        var uses = new List<SharedUse>();
        foreach (Events.SharedUseKey use in _sharedUses.Keys<Events.SharedUseKey>())
        {
            if (_sharedUses.TryGet(use, out ulong count))
            {
                uses.Add(new SharedUse(ProcessId.FromNanoseconds((int)use.Tgid, use.StartNs), use.Key, (long)count));
            }
        }
        return uses;
    }

    /// <summary>Waits until something was seen, <see cref="Wake"/> was called or the time is over; hands out what was seen.</summary>
    /// <param name="timeoutMs">Milliseconds; −1 waits without end.</param>
    /// <param name="handler">Takes what was seen, in order within one source.</param>
    public void Poll(int timeoutMs, IObservationHandler handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        fixed (Libc.PollFd* fds = _poll)
        {
            if (_callsCame && !_othersCame && timeoutMs != 0)
            {
                // A server under load: they come one by one, and each would be a turn of its own. While some wait the ring
                // wakes nobody for more. New mappings are not kept waiting: their probes must be in time.
                _ = Libc.poll(fds + 1, (nuint)_poll.Length - 1, GatherMs);
            }
            // EINTR is as good as a wake-up.
            _ = Libc.poll(fds, (nuint)_poll.Length, timeoutMs);
        }
        ulong ignored;
        _ = Libc.read(_wake, &ignored, sizeof(ulong));
        Consume(handler);
    }

    /// <summary>Hands out what waits, without waiting.</summary>
    public void Consume(IObservationHandler handler)
    {
        ArgumentNullException.ThrowIfNull(handler);
        _handler = handler;
        _callsCame = _othersCame = false;
        // The ring first: a mapping of a process says nothing until its exec is known.
        _ = _ring?.Consume();
        _mappings?.Consume(new CountedMappings(this, handler));
        _handler = null;
    }

    /// <summary>Ends a <see cref="Poll"/> early. Any thread.</summary>
    public void Wake()
    {
        ulong one = 1;
        _ = Libc.write(_wake, &one, sizeof(ulong));
    }

    /// <summary>Events of a kind taken from the ring so far.</summary>
    public long Received(int kind) => _received[kind];

    /// <summary>Events of a kind that the kernel side dropped so far.</summary>
    public long Lost(int kind) => (long)_losses.SumPerCpu((uint)kind);

    /// <inheritdoc/>
    void IRecordHandler.OnRecord(ReadOnlySpan<byte> record)
    {
        if (!Events.TryDecode(record, out Observation observation))
        {
            return;
        }
        _received[(int)observation.Kind]++;
        bool plainCall = observation.Kind is >= ObservationKind.InitLocal and <= ObservationKind.CleanLocal && !observation.HasStack;
        _callsCame |= plainCall;
        _othersCame |= !plainCall;
        if (observation.Kind == ObservationKind.FatalSignal)
        {
            ref readonly Events.FatalSignalRecord fatal = ref Events.FatalSignalOf(record);
            _handler!.OnFatalSignal(in observation, MemoryMarshal.AsBytes<ulong>(fatal.Blocks), fatal.BlocksRead);
        }
        else if (observation.Kind == ObservationKind.Complained)
        {
            ref readonly Events.ComplaintRecord complaint = ref Events.ComplaintOf(record);
            ReadOnlySpan<ulong> stack = complaint.Stack;
            _handler!.OnComplaint(in observation, complaint.Arguments, complaint.StackRead != 0 ? stack : []);
        }
        else
        {
            _handler!.OnObservation(in observation);
        }
        if (observation.HasStack)
        {
            CopiedStack stack = Events.StackOf(record, observation.Kind);
            _received[Events.Stack]++;
            _handler.OnStack(in observation, in stack);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (BpfLink link in _tracepoints)
        {
            link.Dispose();
        }
        _tracepoints.Clear();
        _identify?.Dispose();
        _allThreads?.Dispose();
        _globals.Dispose();
        _mappings?.Dispose();
        _ring?.Dispose();
        _object.Dispose();
        if (_wake >= 0)
        {
            _ = Libc.close(_wake);
            _wake = -1;
        }
    }

    internal static KernelSide Load(byte[] image, int ringBytes, ILogger logger, string btf = KernelTypes, bool? uprobeMulti = null)
    {
        RequireKernel(btf);
        bool multi = uprobeMulti ?? HasUprobeMulti;
        try
        {
            return LoadToWatch(image, ringBytes, logger, refused: null, multi);
        }
        catch (BpfException e)
        {
            // libbpf loads all or nothing. If the kernel refuses just this program, the rest goes on without it.
            return LoadToWatch(image, ringBytes, logger, refused: e.Message, multi);
        }
    }

    private static Events.InstanceKey KeyOf(InstanceId instance) => new() { SinceNs = instance.SinceNs, Tgid = (uint)instance.Tgid };

    private static KernelSide LoadToWatch(byte[] image, int ringBytes, ILogger logger, string? refused, bool uprobeMulti)
    {
        BpfObject opened = BpfObject.Open(image, "kamotel", logger);
        try
        {
            opened.Map("ring").SetCapacity((uint)ringBytes);
            if (!CanIterateMappings)
            {
                opened.Program("kamotel_file").DoNotLoad();
            }
            if (uprobeMulti)
            {
                opened.MakeUprobesMulti();
            }
            if (refused is not null)
            {
                opened.Program("kamotel_fatal_signal").DoNotLoad();
            }
            opened.Load();
            return new KernelSide(opened, forInspection: false, refused);
        }
        catch
        {
            opened.Dispose();
            throw;
        }
    }

    internal static byte[] Embedded()
    {
        using Stream resource = typeof(KernelSide).Assembly.GetManifestResourceStream("kamotel.bpf.o")
            ?? throw new BpfException("the BPF object is not embedded: the build is broken");
        byte[] image = new byte[resource.Length];
        resource.ReadExactly(image);
        return image;
    }

    private static void RequireKernel(string btf)
    {
        RequirePrivilege();
        RequireHostProcesses();
        if (!File.Exists(btf))
        {
            throw new BpfException($"this kernel does not describe its types ({btf} is missing): a kernel with CONFIG_DEBUG_INFO_BTF=y is needed, which distributions have from 5.8 on (in a container, /sys of the host must be visible)");
        }
    }

    /// <summary>The kernel side counts processes as the host does; the agent must not take another process for it.</summary>
    private static void RequireHostProcesses()
    {
        // The kernel's own number of the first PID namespace (PROC_PID_INIT_INO).
        const string Host = "pid:[4026531836]";
        string? own = new FileInfo("/proc/self/ns/pid").LinkTarget;
        if (own is not null && own != Host)
        {
            throw new BpfException("kamotel runs in a PID namespace of its own, where it cannot tell which process is which: run it in the host's (hostPID: true in Kubernetes, --pid=host for a container engine)");
        }
    }

    private static void RequirePrivilege()
    {
        Capabilities own = Capabilities.Own;
        if (own.Missing(Capabilities.ForLoad).Length > 0)
        {
            throw BpfException.Missing("BPF programs cannot be loaded", own, Capabilities.ForLoad);
        }
    }

    /// <summary>The program for a function, and its twin for where the key is loaded.</summary>
    private readonly record struct CallProgram(string Name, WantedArguments Arguments)
    {
        public string NameWhere(bool keyLoaded) => keyLoaded ? $"{Name}_key" : Name;
    }

    private sealed class CountedMappings(KernelSide side, IMappingHandler next) : IMappingHandler
    {
        public void OnMapping(in ExecutableMapping mapping)
        {
            side.MappingsReceived++;
            next.OnMapping(in mapping);
        }

        public void OnMappingsLost(ulong count)
        {
            side.MappingsLost += (long)count;
            next.OnMappingsLost(count);
        }
    }
}
