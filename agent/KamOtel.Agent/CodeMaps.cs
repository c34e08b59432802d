using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>A file as mappings tell of it.</summary>
/// <param name="DeviceMajor">On an overlay it may be another than <c>stat</c> tells.</param>
/// <param name="DeviceMinor">See <paramref name="DeviceMajor"/>.</param>
/// <param name="Inode">The inode.</param>
internal readonly record struct MappedInode(uint DeviceMajor, uint DeviceMinor, ulong Inode);

/// <summary>
/// Which code each process had mapped at which time. It is told as it happens, so it is known of a process that is gone,
/// of a library that was unloaded since, and of a file that was deleted. Watch loop only.
/// </summary>
internal sealed class CodeMaps : IDisposable
{
    /// <summary>More files than the servers of a host map; each is an open descriptor.</summary>
    private const int MaxFiles = 1024;

    /// <summary>More mappings than a server has; one that has more is not known beyond.</summary>
    private const int MaxMappings = 4096;

    private readonly Dictionary<ProcessId, History> _processes = [];
    private readonly Dictionary<MappedInode, CodeFile> _files = [];

    /// <summary>Grows whenever what is known of a process that was known before may be another thing now.</summary>
    public long Changes { get; private set; }

    /// <summary>The process executes a program: what it had mapped is gone.</summary>
    /// <param name="process">The process.</param>
    /// <param name="program">The path of its executable; null when it is not known.</param>
    public void Begin(ProcessId process, string? program)
    {
        Changes++;
        _processes[process] = new History(parent: null, forkNs: 0, program);
    }

    /// <summary>The child has what the parent has.</summary>
    public void Fork(ProcessId parent, ProcessId child, ulong timeNs)
    {
        if (_processes.TryGetValue(parent, out History? history))
        {
            _processes[child] = new History(history, timeNs, history.Program);
        }
    }

    /// <summary>The process ended. Its stacks that are still to come have been asked for with <see cref="At"/> before.</summary>
    public void End(ProcessId process)
    {
        Changes++;
        _ = _processes.Remove(process);
    }

    /// <summary>The process mapped a file. What was told already is not told twice.</summary>
    /// <param name="process">The process.</param>
    /// <param name="start">First address.</param>
    /// <param name="end">The address after the last.</param>
    /// <param name="offset">Where in the file it begins.</param>
    /// <param name="file">The file; null when it could not be opened, so that what was there before is not taken for it.</param>
    /// <param name="timeNs">Boot time in nanoseconds; 0: before anything that was told.</param>
    public void Map(ProcessId process, ulong start, ulong end, ulong offset, CodeFile? file, ulong timeNs)
    {
        if (_processes.TryGetValue(process, out History? history) && history.Entries.Count < MaxMappings)
        {
            Changes++;
            history.Map(new Entry(start, end, offset, file, timeNs, ulong.MaxValue));
        }
    }

    /// <summary>The file that was kept open for a mapping of the same inode; null when there is none.</summary>
    public CodeFile? Find(MappedInode inode) => _files.GetValueOrDefault(inode);

    /// <summary>Keeps a file open: its inode is not used for another file meanwhile.</summary>
    public void Keep(MappedInode inode, CodeFile file)
    {
        // More than that is refused by nobody, but closed only when it is garbage.
        if (_files.Count < MaxFiles)
        {
            _files[inode] = file;
        }
    }

    /// <summary>
    /// Closes the files that no process has mapped any more, as each keeps its file system busy: a container's could not be
    /// taken away. No stack may be on its way.
    /// </summary>
    /// <param name="release">Makes others let go of a file.</param>
    public void CloseUnused(Action<CodeFile> release)
    {
        var used = new HashSet<CodeFile>();
        var seen = new HashSet<History>();
        foreach (History process in _processes.Values)
        {
            for (History? at = process; at is not null && seen.Add(at); at = at.Parent)
            {
                used.UnionWith(at.Entries.Select(static e => e.File).OfType<CodeFile>());
            }
        }
        foreach ((MappedInode inode, CodeFile file) in _files.Where(f => !used.Contains(f.Value)).ToArray())
        {
            _ = _files.Remove(inode);
            release(file);
            file.Dispose();
        }
    }

    /// <summary>Closes all files.</summary>
    public void Dispose()
    {
        _processes.Clear();
        CloseUnused(static _ => { });
    }

    /// <summary>What the process had mapped at a time, and the path of its program; null when nothing is known of it.</summary>
    public (AddressSpace Space, string? Program)? At(ProcessId process, ulong timeNs) =>
        _processes.TryGetValue(process, out History? history) ? (history.At(timeNs), history.Program) : null;

    private readonly record struct Entry(ulong Start, ulong End, ulong Offset, CodeFile? File, ulong SinceNs, ulong UntilNs)
    {
        public bool IsAt(ulong timeNs) => SinceNs <= timeNs && timeNs < UntilNs;

        public bool Overlaps(in Entry other) => Start < other.End && other.Start < End;

        public bool IsSamePlace(in Entry other) => Start == other.Start && End == other.End && Offset == other.Offset && ReferenceEquals(File, other.File);
    }

    /// <summary>What a process mapped, in order of time; before its fork it is its parent's.</summary>
    private sealed class History(History? parent, ulong forkNs, string? program)
    {
        private AddressSpace? _latest;
        private ulong _programNs = program is null && parent is null ? ulong.MaxValue : 0;

        public History? Parent => parent;

        public List<Entry> Entries { get; } = [];

        /// <summary>Where nobody could ask the process it is what it mapped first: the kernel does that before all else.</summary>
        public string? Program { get; private set; } = program;

        public void Map(Entry entry)
        {
            if (entry.SinceNs < _programNs)
            {
                _programNs = entry.SinceNs;
                Program = entry.File?.Path;
            }
            for (int i = 0; i < Entries.Count; i++)
            {
                Entry known = Entries[i];
                if (known.UntilNs != ulong.MaxValue || !known.Overlaps(in entry))
                {
                    continue;
                }
                if (known.IsSamePlace(in entry))
                {
                    return; // Found in /proc, and told as an event as well.
                }
                Entries[i] = known with { UntilNs = Math.Max(entry.SinceNs, known.SinceNs) };
            }
            Entries.Add(entry);
        }

        public AddressSpace At(ulong timeNs)
        {
            var mappings = new List<CodeMapping>();
            Collect(timeNs, mappings);
            mappings.Sort(static (a, b) => a.Start.CompareTo(b.Start));
            // Most stacks of a start see the same code: the unwinder knows it by its identity.
            AddressSpace? known = Latest(mappings);
            return _latest = known ?? AddressSpace.Create(mappings);
        }

        private void Collect(ulong timeNs, List<CodeMapping> mappings)
        {
            foreach (Entry entry in Entries)
            {
                if (entry is { File: { } file } && entry.IsAt(timeNs))
                {
                    mappings.Add(new CodeMapping(entry.Start, entry.End, entry.Offset, file));
                }
            }
            if (parent is null)
            {
                return;
            }
            var inherited = new List<CodeMapping>();
            parent.Collect(Math.Min(timeNs, forkNs), inherited);
            mappings.AddRange(inherited.Where(m => !Entries.Exists(e => e.SinceNs <= timeNs && e.Start < m.End && m.Start < e.End)));
        }

        private AddressSpace? Latest(List<CodeMapping> mappings)
        {
            for (History? at = this; at is not null; at = at.Parent)
            {
                if (at._latest is { } latest && latest.Mappings.SequenceEqual(mappings))
                {
                    return latest;
                }
            }
            return null;
        }
    }
}
