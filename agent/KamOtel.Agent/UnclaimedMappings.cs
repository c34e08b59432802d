using System.Text;
using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>A mapping that was told before anybody knew that its process is a server.</summary>
/// <param name="Path">As the process sees it.</param>
/// <param name="Start">First address.</param>
/// <param name="Length">In bytes.</param>
/// <param name="Offset">Where in the file it begins.</param>
/// <param name="Inode">The file.</param>
/// <param name="TimeNs">Boot time in nanoseconds.</param>
internal readonly record struct UnclaimedMapping(string Path, ulong Start, ulong Length, ulong Offset, MappedInode Inode, ulong TimeNs);

/// <summary>
/// The latest mappings of processes that nobody watches. The kernel maps a program before it tells of its exec: a process that
/// is gone before it can be asked has no other witness of what it ran. Bounded; allocates only for a server. Watch loop only.
/// </summary>
internal sealed class UnclaimedMappings
{
    /// <summary>What a host maps while an exec is on its way to the agent.</summary>
    private const int Most = 256;

    private const int MaxPath = 256;

    private readonly Entry[] _entries = new Entry[Most];
    private readonly byte[] _paths = new byte[Most * MaxPath];
    private int _next;

    /// <summary>Keeps it, in place of the oldest. One with a very long path is not kept.</summary>
    public void Keep(in ExecutableMapping mapping)
    {
        if (mapping.Path.Length > MaxPath)
        {
            return;
        }
        mapping.Path.CopyTo(_paths.AsSpan(_next * MaxPath));
        _entries[_next] = new Entry(mapping.Tgid, mapping.Path.Length, mapping.Start, mapping.Length, mapping.Offset, new MappedInode(mapping.DeviceMajor, mapping.DeviceMinor, mapping.Inode), mapping.TimeNs);
        _next = (_next + 1) % Most;
    }

    /// <summary>
    /// What the program mapped that this process executed then, oldest first: its executable and its interpreter, which the
    /// kernel maps before it tells of the exec, and all since. What the process had mapped before is another program's.
    /// </summary>
    public List<UnclaimedMapping> Claim(int tgid, ulong execNs)
    {
        var before = new List<UnclaimedMapping>();
        var since = new List<UnclaimedMapping>();
        for (int i = 0; i < Most; i++)
        {
            int at = (_next + i) % Most;
            Entry entry = _entries[at];
            if (entry.Tgid == tgid && entry.Length > 0)
            {
                string path = Encoding.UTF8.GetString(_paths, at * MaxPath, entry.PathLength);
                (entry.TimeNs <= execNs ? before : since).Add(new UnclaimedMapping(path, entry.Start, entry.Length, entry.Offset, entry.Inode, entry.TimeNs));
                _entries[at] = default;
            }
        }
        before.Sort(static (a, b) => a.TimeNs.CompareTo(b.TimeNs));
        since.Sort(static (a, b) => a.TimeNs.CompareTo(b.TimeNs));
        bool hasInterpreter = before.Count > 1 && Path.GetFileName(before[^1].Path).StartsWith("ld-", StringComparison.Ordinal);
        before.RemoveRange(0, Math.Max(0, before.Count - (hasInterpreter ? 2 : 1)));
        return [.. before, .. since];
    }

    private readonly record struct Entry(int Tgid, int PathLength, ulong Start, ulong Length, ulong Offset, MappedInode Inode, ulong TimeNs);
}
