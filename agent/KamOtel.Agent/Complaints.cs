using System.Collections.Immutable;
using System.Globalization;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>
/// Probes where servers log what their memory manager complains of, and what they say by it. The executables of watched names
/// have them from the agent's start on, what a server maps besides when it maps it. They stay until the agent ends. Watch loop
/// only.
/// </summary>
/// <param name="kernel">Attaches the probes.</param>
/// <param name="maps">What each process has mapped.</param>
/// <param name="logger">Where trouble is told.</param>
internal sealed partial class Complaints(KernelSide kernel, CodeMaps maps, ILogger logger) : IDisposable
{
    /// <summary>More than the servers of a host map.</summary>
    private const int MaxFiles = 1024;

    /// <summary>Complaints that may wait for what their process mapped to be told.</summary>
    private const int MaxWaiting = 4096;

    private const int MaxKnown = 1024;

    /// <summary>What Kamailio calls that part of itself which is no module.</summary>
    private const string Core = "core";

    private static readonly ComplaintFile Nothing = new("", []);

    private readonly Dictionary<FileKey, ComplaintFile> _byKey = [];
    private readonly Dictionary<FileIdentity, ComplaintFile> _byIdentity = [];
    private readonly Queue<(string Path, FileKey Key, SafeFileHandle Handle)> _waiting = [];
    private readonly HashSet<FileKey> _wanted = [];
    private readonly List<SafeHandle> _links = [];
    private readonly List<(Observation Observation, ulong[] Arguments, ulong[] Stack)> _early = [];
    private readonly ConstantTexts _texts = new();

    /// <summary>What was found out, until somebody maps something: a storm of complaints must not cost a processor.</summary>
    private readonly Dictionary<(ProcessId Process, ulong Address), Place> _places = [];
    private readonly Dictionary<(AddressSpace Space, ulong Pointer), string?> _pointers = [];
    private long _knownAt;

    /// <summary>
    /// Also attach where servers log that they have no shared memory left. Each page of code that carries a probe is copied
    /// once for a server whose workers are forked later, and once for each process of a server that runs already; these are in
    /// many pages, those of damage in few. A kernel before 6.6 has none of them: each would be a link of its own, which it
    /// takes 80 ms to take away.
    /// </summary>
    public bool WatchShortage { get; set => field = value && KernelSide.HasUprobeMulti; }

    /// <summary>Complaints that could not be read: of a file that is not known, or too many at once.</summary>
    public long Unread { get; private set; }

    /// <summary>Attaches to an executable before anybody runs it.</summary>
    public void OfferExecutable(string path)
    {
        if (RegularFile.Open(path).TryGet(out SafeFileHandle? file, out _))
        {
            using (file)
            {
                if (FileKey.Of(file).TryGet(out FileKey key, out _))
                {
                    Examine(file, path, key);
                }
            }
        }
    }

    /// <summary>A watched process mapped code of a file. If it may complain, it waits for <see cref="AttachNext"/>.</summary>
    public void Offer(SafeFileHandle file, string path)
    {
        if (!MayComplain(path) || !FileKey.Of(file).TryGet(out FileKey key, out _) || IsDone(key) || !_wanted.Add(key))
        {
            return;
        }
        // By the descriptor, so that it is the file that is mapped.
        if (RegularFile.Open(RegularFile.PathOf(file)).TryGet(out SafeFileHandle? own, out _))
        {
            _waiting.Enqueue((path, key, own));
        }
    }

    /// <summary>Attaches to one file that waits; false when none does.</summary>
    public bool AttachNext()
    {
        if (!_waiting.TryDequeue(out (string Path, FileKey Key, SafeFileHandle Handle) next))
        {
            return false;
        }
        using (next.Handle)
        {
            Examine(next.Handle, next.Path, next.Key);
            _ = _wanted.Remove(next.Key);
        }
        return true;
    }

    /// <summary>Takes what a probe told, and tells the fleet, at once if it can.</summary>
    public void Take(Fleet fleet, in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack)
    {
        // Those that came before are told before.
        if ((_early.Count > 0 || !TryTell(fleet, in observation, arguments, stack)) && _early.Count < MaxWaiting)
        {
            _early.Add((observation, arguments.ToArray(), stack.ToArray()));
        }
        else if (_early.Count >= MaxWaiting)
        {
            NotUnderstood(in observation);
        }
    }

    /// <summary>Tells the fleet what had to wait. All mappings that were made before must have been told.</summary>
    public void TellEarly(Fleet fleet)
    {
        foreach ((Observation observation, ulong[] arguments, ulong[] stack) in _early)
        {
            if (!TryTell(fleet, in observation, arguments, stack))
            {
                NotUnderstood(in observation);
            }
        }
        _early.Clear();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        while (_waiting.TryDequeue(out (string, FileKey, SafeFileHandle Handle) next))
        {
            next.Handle.Dispose();
        }
        ProbeLinks.Detach([.. _links]);
        _links.Clear();
    }

    /// <summary>A module, a library of the server's own, or a program.</summary>
    private static bool MayComplain(string path) =>
        ServerModule.ExportedNameOf(path) is not null || !Path.GetFileName(path).Contains(".so", StringComparison.Ordinal) || path.Contains("/kamailio/", StringComparison.Ordinal);

    private bool IsDone(FileKey key) =>
        _byKey.TryGetValue(key, out ComplaintFile? known) ? known.HasShortage || !WatchShortage : _byKey.Count >= MaxFiles;

    private void Examine(SafeFileHandle file, string path, FileKey key)
    {
        if (!_byKey.TryGetValue(key, out ComplaintFile? found))
        {
            _byKey[key] = found = Read(file, path);
        }
        if (!found.HasDamage)
        {
            found.HasDamage = true;
            Attach(file, found, ComplaintFile.IsDamage);
        }
        if (!found.HasShortage && WatchShortage)
        {
            found.HasShortage = true;
            Attach(file, found, static site => !ComplaintFile.IsDamage(site));
        }
    }

    private ComplaintFile Read(SafeFileHandle file, string path)
    {
        if (!ComplaintSites.Find(file).TryGet(out ComplaintSites? found, out ElfError? error))
        {
            NotProbed(logger, path, error.ToString());
            return Nothing;
        }
        if (found.Lost > 0)
        {
            NotFollowed(logger, found.Lost, path);
        }
        if (found.Sites.IsEmpty)
        {
            return Nothing;
        }
        try
        {
            var complaining = new ComplaintFile(path, found.Sites);
            // Two containers of one image have one file below: two probes would tell each complaint twice.
            return kernel.Identify(file) is { } identity && !_byIdentity.TryAdd(identity, complaining) ? _byIdentity[identity] : complaining;
        }
        catch (BpfException e)
        {
            NotProbed(logger, path, e.Message);
            return Nothing;
        }
    }

    private void Attach(SafeFileHandle handle, ComplaintFile file, Func<ComplaintSite, bool> wanted)
    {
        ulong[] offsets = [.. file.Sites.Values.Where(wanted).Select(static s => s.FileOffset)];
        int refused = 0;
        string? reason = null;
        IReadOnlyList<SafeHandle> links = kernel.AttachComplaints(RegularFile.PathOf(handle), offsets, e =>
        {
            refused++;
            reason = e.Message;
        });
        _links.AddRange(links);
        if (reason is not null)
        {
            PartlyProbed(logger, refused, file.Path, reason);
        }
        if (links.Count > 0)
        {
            Probed(logger, file.Path, offsets.Length - refused);
        }
    }

    /// <summary>False when the code is not known, and perhaps will be.</summary>
    private bool TryTell(Fleet fleet, in Observation observation, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack)
    {
        if (_knownAt != maps.Changes || _places.Count >= MaxKnown || _pointers.Count >= MaxKnown)
        {
            _places.Clear();
            _pointers.Clear();
            _knownAt = maps.Changes;
        }
        if (!_places.TryGetValue((observation.Process, observation.Address), out Place? place))
        {
            place = FindPlace(in observation);
            if (place is null)
            {
                return false;
            }
            _places[(observation.Process, observation.Address)] = place;
        }
        if (MessageAt(place.Site, observation.Address, arguments) is not { } message)
        {
            return true; // Another message goes by the same call.
        }
        Complaint complaint = Read(message, place, arguments, stack);
        Complains(logger, observation.Process.Tgid, complaint.Kind, complaint.Address ?? 0, complaint.Module, complaint.Caller);
        if (!fleet.Complained(in observation, complaint))
        {
            Unread++;
            Late(logger, observation.Process.Tgid);
        }
        return true;
    }

    private Place? FindPlace(in Observation observation)
    {
        if (maps.At(observation.Process, observation.TimeNs) is not var (space, program))
        {
            return null;
        }
        ulong address = observation.Address;
        foreach (CodeMapping mapping in space.Mappings)
        {
            if (address >= mapping.Start && address < mapping.End
                && _byKey.TryGetValue(mapping.File.Key, out ComplaintFile? file) && file.Sites.TryGetValue(address - mapping.Start + mapping.Offset, out ComplaintSite? site))
            {
                return new Place(site, space, mapping.File.Module ?? (mapping.File.Path == program ? Core : null));
            }
        }
        return null;
    }

    /// <summary>Which of the messages it is: the call has its format.</summary>
    private static ComplaintMessage? MessageAt(ComplaintSite site, ulong address, ReadOnlySpan<ulong> arguments)
    {
        ulong bias = unchecked(address - site.Address);
        foreach (ComplaintMessage message in site.Messages)
        {
            if (arguments[message.FormatArgument] == unchecked(message.FormatAddress + bias))
            {
                return message;
            }
        }
        return null;
    }

    private Complaint Read(ComplaintMessage message, Place place, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack)
    {
        ComplaintFormat format = message.Format;
        int first = message.FormatArgument + 1;
        ulong? address = Argument(first + format.Pointer, arguments, stack);
        if (format.Kind == ComplaintKind.OutOfSharedMemory)
        {
            return new Complaint(format.Kind, address, place.Module, Caller: null);
        }
        // "tls: tls_init.c"; the core of some versions says just "core/tcp_main.c".
        string? file = TextAt(place.Space, Argument(first + format.File, arguments, stack));
        string? function = TextAt(place.Space, Argument(first + format.Function, arguments, stack));
        int at = file?.IndexOf(": ", StringComparison.Ordinal) ?? -1;
        string? module = at > 0 ? file![..at] : null;
        string? source = at > 0 ? file![(at + 2)..] : file;
        string? caller = (source, function, Argument(first + format.Line, arguments, stack)) switch
        {
            (null, _, _) => function,
            (_, not null, _) => $"{source}: {function}",
            (_, null, { } line) => string.Create(CultureInfo.InvariantCulture, $"{source}:{(uint)line}"),
            _ => source,
        };
        return new Complaint(format.Kind, address, module, caller);
    }

    private static ulong? Argument(int? number, ReadOnlySpan<ulong> arguments, ReadOnlySpan<ulong> stack) =>
        number is not { } n ? null
        : n < arguments.Length ? arguments[n]
        : n - arguments.Length < stack.Length ? stack[n - arguments.Length]
        : null;

    private string? TextAt(AddressSpace space, ulong? pointer)
    {
        if (pointer is not { } address)
        {
            return null;
        }
        if (!_pointers.TryGetValue((space, address), out string? text))
        {
            _pointers[(space, address)] = text = _texts.Find(space, address);
        }
        return text;
    }

    private void NotUnderstood(in Observation observation)
    {
        Unread++;
        SiteUnknown(logger, observation.Address, observation.Process.Tgid);
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "{Path} is watched for complaints about memory in {Count} places")]
    private static partial void Probed(ILogger logger, string path, int count);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Path} is not watched for complaints about memory: {Reason}")]
    private static partial void NotProbed(ILogger logger, string path, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Count} places in {Path} are not watched for complaints about memory: {Reason}")]
    private static partial void PartlyProbed(ILogger logger, int count, string path, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Count} places in {Path} that load a complaint about memory are not watched: no call that logs it follows straight on")]
    private static partial void NotFollowed(ILogger logger, int count, string path);

    [LoggerMessage(Level = LogLevel.Debug, Message = "process {Pid} complains: {Kind}, of 0x{Address:x}, by {Module} in {Caller}")]
    private static partial void Complains(ILogger logger, int pid, ComplaintKind kind, ulong address, string? module, string? caller);

    [LoggerMessage(Level = LogLevel.Warning, Message = "process {Pid} complained and ended before anybody knew what it had mapped: its complaint is not counted")]
    private static partial void Late(ILogger logger, int pid);

    [LoggerMessage(Level = LogLevel.Warning, Message = "a complaint at 0x{Address:x} in process {Pid} is of a file that is not known")]
    private static partial void SiteUnknown(ILogger logger, ulong address, int pid);

    /// <summary>A file that may complain.</summary>
    private sealed class ComplaintFile(string path, ImmutableArray<ComplaintSite> sites)
    {
        public string Path { get; } = path;

        /// <summary>By their offset in the file.</summary>
        public IReadOnlyDictionary<ulong, ComplaintSite> Sites { get; } = sites.ToDictionary(static s => s.FileOffset);

        /// <summary>Those of damage carry probes, as far as the kernel would.</summary>
        public bool HasDamage { get; set; } = sites.IsEmpty;

        /// <summary>The others, too.</summary>
        public bool HasShortage { get; set; } = sites.All(IsDamage);

        public static bool IsDamage(ComplaintSite site) => site.Messages.Any(static m => m.Format.Kind != ComplaintKind.OutOfSharedMemory);
    }

    /// <summary>What lies at an address of a process.</summary>
    private sealed record Place(ComplaintSite Site, AddressSpace Space, string? Module);
}
