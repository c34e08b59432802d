using System.Buffers.Text;
using System.Text;

namespace KamOtel.Linux;

/// <summary>How a mapping may be used.</summary>
[Flags]
public enum MappingAccess
{
    /// <summary>Not at all.</summary>
    None = 0,

    /// <summary>Read.</summary>
    Read = 1,

    /// <summary>Written.</summary>
    Write = 2,

    /// <summary>Executed.</summary>
    Execute = 4,

    /// <summary>Changes are seen by every process that maps it; without this the mapping is private.</summary>
    Shared = 8,
}

/// <summary>A mapping of a process: a line of <c>/proc/PID/maps</c>.</summary>
/// <param name="Start">Its first address.</param>
/// <param name="End">The address after its last.</param>
/// <param name="Access">How it may be used.</param>
/// <param name="Offset">Where in the file it begins, in bytes.</param>
/// <param name="DeviceMajor">
/// The file's device. On an overlay it may be another than <c>stat</c> tells of the same file: not fit to identify a file.
/// </param>
/// <param name="DeviceMinor">See <paramref name="DeviceMajor"/>.</param>
/// <param name="Inode">The file's inode; 0 when there is no file.</param>
/// <param name="Path">
/// The file's path as the process sees it, a name in brackets (<c>[heap]</c>), or null for nameless memory. Bytes that
/// are no UTF-8 become U+FFFD: open such a file by its mapping.
/// </param>
/// <param name="Deleted">The file is no longer at its path: removed, or replaced by a newer one.</param>
public sealed record Mapping(
    ulong Start, ulong End, MappingAccess Access, ulong Offset, uint DeviceMajor, uint DeviceMinor, ulong Inode, string? Path, bool Deleted)
{
    private const string Gone = " (deleted)";

    /// <summary>The mapping is code out of a file.</summary>
    public bool IsCode => Inode != 0 && Access.HasFlag(MappingAccess.Execute);

    /// <summary>One line without its line end. Null when it makes no sense.</summary>
    internal static Mapping? Parse(ReadOnlySpan<byte> line)
    {
        ReadOnlySpan<byte> rest = line;
        if (!TakeHex(ref rest, (byte)'-', out ulong start)
            || !TakeHex(ref rest, (byte)' ', out ulong end)
            || end < start
            || rest.Length < 5
            || rest[4] != ' ')
        {
            return null;
        }

        MappingAccess access = (rest[0] == 'r' ? MappingAccess.Read : MappingAccess.None)
            | (rest[1] == 'w' ? MappingAccess.Write : MappingAccess.None)
            | (rest[2] == 'x' ? MappingAccess.Execute : MappingAccess.None)
            | (rest[3] == 's' ? MappingAccess.Shared : MappingAccess.None);
        rest = rest[5..];
        if (!TakeHex(ref rest, (byte)' ', out ulong offset)
            || !TakeHex(ref rest, (byte)':', out ulong major)
            || !TakeHex(ref rest, (byte)' ', out ulong minor)
            || major > uint.MaxValue
            || minor > uint.MaxValue
            || !Utf8Parser.TryParse(rest, out ulong inode, out int used))
        {
            return null;
        }

        rest = rest[used..];
        if (!rest.IsEmpty && rest[0] != ' ')
        {
            return null;
        }

        // A name may begin with a blank itself only after a slash, so all these are padding.
        rest = rest.TrimStart((byte)' ');
        string? path = rest.IsEmpty ? null : Decode(rest);
        bool deleted = path is not null && path.EndsWith(Gone, StringComparison.Ordinal);
        return new(start, end, access, offset, (uint)major, (uint)minor, inode, deleted ? path![..^Gone.Length] : path, deleted);
    }

    /// <summary>The kernel writes a line end as <c>\012</c> here, and nothing else so: any other backslash is the name's own.</summary>
    private static string Decode(ReadOnlySpan<byte> name)
    {
        string text = Encoding.UTF8.GetString(name);
        return text.Contains('\\', StringComparison.Ordinal) ? text.Replace("\\012", "\n", StringComparison.Ordinal) : text;
    }

    private static bool TakeHex(ref ReadOnlySpan<byte> rest, byte end, out ulong value)
    {
        if (!Utf8Parser.TryParse(rest, out value, out int used, 'x') || used >= rest.Length || rest[used] != end)
        {
            return false;
        }

        rest = rest[(used + 1)..];
        return true;
    }
}
