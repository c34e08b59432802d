using System.Runtime.CompilerServices;
using System.Text;

namespace KamOtel.Linux;

/// <summary>
/// Texts that pointers of a process lead to, when they are constants: they are read from the files that the process has mapped,
/// never from its memory, and also when it is gone. One thread at a time.
/// </summary>
public sealed class ConstantTexts
{
    /// <summary>The longest text, in bytes: names of files and functions.</summary>
    private const int MaxLength = 256;

    private readonly ConditionalWeakTable<CodeFile, File> _files = [];

    /// <summary>The text at an address; null when that is no constant of a file, or no printable ASCII.</summary>
    public string? Find(AddressSpace space, ulong address)
    {
        ArgumentNullException.ThrowIfNull(space);
        foreach (CodeMapping mapping in space.Mappings)
        {
            if (Segments(mapping.File) is { } segments
                && segments.LoadBias(mapping.Start, mapping.End - mapping.Start, mapping.Offset) is { } bias
                && segments.ConstantsFrom(unchecked(address - bias)) is var (offset, length))
            {
                return Read(mapping.File, offset, (int)Math.Min(length, MaxLength));
            }
        }
        return null;
    }

    private ElfSegments? Segments(CodeFile file) =>
        _files.GetValue(file, static f => new File(ElfFile.Open(f.Handle).TryGet(out ElfFile? elf, out _) ? elf.Segments : null)).Segments;

    private static string? Read(CodeFile file, ulong offset, int length)
    {
        Span<byte> bytes = stackalloc byte[length];
        if (!ElfReader.TryCreate(file.Handle, out ElfReader? reader, out _) || reader.Read(offset, bytes, "a text") is not null)
        {
            return null;
        }
        int end = bytes.IndexOf((byte)0);
        return end > 0 && !bytes[..end].ContainsAnyExceptInRange((byte)' ', (byte)'~') ? Encoding.ASCII.GetString(bytes[..end]) : null;
    }

    private sealed record File(ElfSegments? Segments);
}
