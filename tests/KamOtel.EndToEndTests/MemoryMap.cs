using System.Globalization;

namespace KamOtel.EndToEndTests;

/// <summary>A line of <c>/proc/PID/maps</c>.</summary>
/// <param name="Start">First address.</param>
/// <param name="End">The address after the last.</param>
/// <param name="Permissions">Such as <c>rw-s</c>.</param>
/// <param name="Name">Path or other name; empty where there is none.</param>
internal sealed record Mapping(ulong Start, ulong End, string Permissions, string Name);

/// <summary>What a process maps. The tests have a parser of their own: the agent's is what they judge.</summary>
internal sealed class MemoryMap(IEnumerable<Mapping> mappings)
{
    private readonly Mapping[] _mappings = [.. mappings];

    /// <summary>Reads it from a live process.</summary>
    public static MemoryMap Of(int pid) => new(File.ReadLines($"/proc/{pid}/maps").Select(Parse));

    /// <summary>The mapping that an address lies in.</summary>
    public Mapping? At(ulong address) => _mappings.FirstOrDefault(mapping => mapping.Start <= address && address < mapping.End);

    /// <summary>Start-end, permissions, offset, device, inode, and a name that may hold spaces.</summary>
    public static Mapping Parse(string line)
    {
        string[] fields = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
        string[] range = fields[0].Split('-');
        return new Mapping(
            ulong.Parse(range[0], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture),
            ulong.Parse(range[1], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture),
            fields[1],
            fields.Length > 5 ? fields[5].Trim() : "");
    }
}
