using System.Buffers.Binary;
using System.Collections.Immutable;
using Microsoft.Win32.SafeHandles;
using static KamOtel.Linux.ElfFormat;

namespace KamOtel.Linux;

/// <summary>A message that is logged at a site.</summary>
/// <param name="Format">What its arguments mean.</param>
/// <param name="FormatAddress">Where its format stands in the file's own addresses.</param>
/// <param name="FormatArgument">Which argument of the call the format is, counted from 0; the others follow it.</param>
public sealed record ComplaintMessage(ComplaintFormat Format, ulong FormatAddress, int FormatArgument);

/// <summary>A call that logs complaints, and perhaps other messages too: compilers join calls that are alike.</summary>
/// <param name="FileOffset">Where the call stands in the file, in bytes: what a uprobe is attached to.</param>
/// <param name="Address">The same in the file's own addresses.</param>
/// <param name="Messages">The complaints among what it logs.</param>
public sealed record ComplaintSite(ulong FileOffset, ulong Address, ImmutableArray<ComplaintMessage> Messages);

/// <summary>
/// Finds where a program or a module logs complaints: the formats among its constants, the instructions that load their
/// address, and from there straight on the call that logs, where all arguments are in place. x86-64 only.
/// </summary>
/// <param name="Sites">By their place in the file.</param>
/// <param name="Lost">Instructions from which no call is reached without a branch: those messages are not seen.</param>
public sealed record ComplaintSites(ImmutableArray<ComplaintSite> Sites, int Lost)
{
    /// <summary>More code or constants than any server has, in bytes.</summary>
    private const ulong MaxBytes = 64 << 20;

    /// <summary>The core of Kamailio 5.6 has 90 formats and some 300 places that load one; the largest module fewer.</summary>
    private const int MaxFormats = 1024;

    private const int MaxLoads = 4096;

    private const int Buffer = 1 << 20;

    /// <summary>REX, opcode, ModRM and four bytes.</summary>
    private const int LeaLength = 7;

    private static readonly ComplaintSites None = new([], 0);

    /// <summary>The sites of a file; none in one without such messages.</summary>
    public static ElfResult<ComplaintSites> Find(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out ElfError? error))
        {
            return error;
        }
        if (elf.Machine != MachineX64)
        {
            return None;
        }
        ElfSegment[] constants = [.. elf.Segments.Loads.Where(static s => s is { Writable: false, FileSize: > 0 })];
        ElfSegment[] code = [.. constants.Where(static s => s.Executable)];
        foreach (ElfSegment[] segments in new[] { constants, code })
        {
            ulong size = 0;
            foreach (ElfSegment segment in segments)
            {
                // Each of them is inside the file, but they may be the same part of it many times.
                size = segment.FileSize > MaxBytes ? MaxBytes + 1 : Math.Min(size + segment.FileSize, MaxBytes + 1);
            }
            if (size > MaxBytes)
            {
                return new ElfError(ElfErrorKind.TooLarge, 0, $"the file has more than {MaxBytes} bytes of constants and code");
            }
        }

        var formats = new SortedList<ulong, Format>();
        // Linkers put constants beside the code, old ones among it.
        foreach (ElfSegment segment in constants.OrderBy(static s => s.Executable))
        {
            if (segment.Executable && formats.Count > 0)
            {
                continue;
            }
            if (FindFormats(elf, segment, formats) is { } unreadable)
            {
                return unreadable;
            }
        }
        if (formats.Count == 0)
        {
            return None;
        }

        var loads = new SortedSet<ulong>();
        foreach (ElfSegment segment in code)
        {
            if (FindLoads(elf, segment, formats, loads) is { } unreadable)
            {
                return unreadable;
            }
        }
        return Follow(elf, formats, loads);
    }

    private static ComplaintSites Follow(ElfFile elf, SortedList<ulong, Format> formats, SortedSet<ulong> loads)
    {
        var sites = new SortedDictionary<ulong, List<ComplaintMessage>>();
        int lost = 0;
        foreach (ulong load in loads)
        {
            if (LogCall.After(elf, load) is not { } call || Cut(formats, call.Format) is not var (format, text) || elf.Segments.ToFileOffset(call.Address, 1, executable: true) is null)
            {
                lost++;
                continue;
            }
            MessagesAt(sites, call.Address).Add(new ComplaintMessage(ComplaintFormat.Read(format, text), call.Format, call.Argument));
        }
        return new ComplaintSites(
            [.. sites.Select(site => new ComplaintSite(elf.Segments.ToFileOffset(site.Key, 1, executable: true)!.Value, site.Key, [.. site.Value.Distinct()]))],
            lost);
    }

    private static List<ComplaintMessage> MessagesAt(SortedDictionary<ulong, List<ComplaintMessage>> sites, ulong address)
    {
        if (!sites.TryGetValue(address, out List<ComplaintMessage>? messages))
        {
            sites[address] = messages = [];
        }
        return messages;
    }

    /// <summary>The format that begins at an address: linkers let one be the end of another.</summary>
    private static (byte[] Format, ComplaintText Text)? Cut(SortedList<ulong, Format> formats, ulong address) =>
        Holding(formats, address) is { } format ? (format.Bytes[(int)(address - format.Start)..], format.Text) : null;

    /// <summary>The format that an address leads into, before or at the words that it is known by.</summary>
    private static Format? Holding(SortedList<ulong, Format> formats, ulong address)
    {
        IList<ulong> starts = formats.Keys;
        int low = 0, high = starts.Count - 1;
        while (low <= high)
        {
            int middle = (low + high) / 2;
            Format format = formats.Values[middle];
            if (address < format.Start)
            {
                high = middle - 1;
            }
            else if (address > format.Words)
            {
                low = middle + 1;
            }
            else
            {
                return format;
            }
        }
        return null;
    }

    private static ElfError? FindFormats(ElfFile elf, ElfSegment segment, SortedList<ulong, Format> formats)
    {
        const int Kept = 2 * ComplaintTexts.MaxFormat;
        return Walk(elf, segment, Kept, (bytes, address, isFirst, isLast) =>
        {
            foreach (byte[] mark in ComplaintTexts.Marks)
            {
                for (int from = 0, hit; (hit = bytes[from..].IndexOf(mark)) >= 0;)
                {
                    int start = bytes[..(from + hit)].LastIndexOf((byte)0) + 1;
                    int length = bytes[start..].IndexOf((byte)0);
                    // What the buffer cuts is whole in the one before or after.
                    bool cut = (start == 0 && !isFirst) || (length < 0 && !isLast);
                    length = length < 0 ? bytes.Length - start : length;
                    from = start + length;
                    if (cut || length > ComplaintTexts.MaxFormat || Recognise(bytes.Slice(start, length)) is not var (text, words))
                    {
                        continue;
                    }
                    if (formats.Count >= MaxFormats)
                    {
                        return new ElfError(ElfErrorKind.TooLarge, segment.FileOffset, $"the file has more than {MaxFormats} messages that are complaints");
                    }
                    _ = formats.TryAdd(address + (ulong)start, new Format(address + (ulong)start, address + (ulong)(start + words), bytes.Slice(start, length).ToArray(), text));
                }
            }
            return null;
        });
    }

    private static (ComplaintText Text, int Words)? Recognise(ReadOnlySpan<byte> format)
    {
        foreach (ComplaintText text in ComplaintTexts.All)
        {
            if (format.IndexOf(text.Bytes) is >= 0 and var words)
            {
                return (text, words);
            }
        }
        return null;
    }

    /// <summary>The instructions that load the address of a format: relative to themselves, or in a program at a fixed address plainly.</summary>
    private static ElfError? FindLoads(ElfFile elf, ElfSegment segment, SortedList<ulong, Format> formats, SortedSet<ulong> loads)
    {
        ulong lowest = formats.Keys[0];
        ulong highest = formats.Values[^1].Words;
        return Walk(elf, segment, LeaLength, (bytes, address, _, _) =>
        {
            // lea r64, [rip + disp32]
            for (int at = 1; at + LeaLength - 1 <= bytes.Length; at++)
            {
                int hit = bytes[at..^(LeaLength - 2)].IndexOf((byte)0x8d);
                if (hit < 0)
                {
                    break;
                }
                at += hit;
                if ((bytes[at - 1] & 0xfb) == 0x48 && (bytes[at + 1] & 0xc7) == 5)
                {
                    ulong start = address + (ulong)(at - 1);
                    ulong target = unchecked(start + LeaLength + (ulong)(long)BinaryPrimitives.ReadInt32LittleEndian(bytes[(at + 2)..]));
                    if (target >= lowest && target <= highest && Holding(formats, target) is not null)
                    {
                        _ = loads.Add(start);
                    }
                }
            }
            // mov r32, imm32, perhaps behind a REX prefix
            for (int at = 0; elf.IsFixed && at + 5 <= bytes.Length; at++)
            {
                int hit = bytes[at..^4].IndexOfAnyInRange((byte)0xb8, (byte)0xbf);
                if (hit < 0)
                {
                    break;
                }
                at += hit;
                ulong target = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(at + 1)..]);
                if (target >= lowest && target <= highest && Holding(formats, target) is not null)
                {
                    bool extended = at > 0 && bytes[at - 1] == 0x41;
                    _ = loads.Add(address + (ulong)at - (extended ? 1ul : 0));
                }
            }
            return loads.Count > MaxLoads ? new ElfError(ElfErrorKind.TooLarge, segment.FileOffset, $"the file logs complaints in more than {MaxLoads} places") : null;
        });
    }

    /// <summary>Shows all of a segment, a buffer at a time; each one begins with the last bytes of the one before.</summary>
    private static ElfError? Walk(ElfFile elf, ElfSegment segment, int kept, Look look)
    {
        byte[] buffer = new byte[(int)Math.Min(segment.FileSize, Buffer)];
        for (ulong at = 0; at < segment.FileSize;)
        {
            Span<byte> part = buffer.AsSpan(0, (int)Math.Min((ulong)buffer.Length, segment.FileSize - at));
            if (elf.ReadAddress(segment.Address + at, part, "code and constants") is { } unreadable)
            {
                return unreadable;
            }
            bool isLast = at + (ulong)part.Length == segment.FileSize;
            if (look(part, segment.Address + at, at == 0, isLast) is { } failure)
            {
                return failure;
            }
            at += (ulong)(isLast ? part.Length : part.Length - kept);
        }
        return null;
    }

    private delegate ElfError? Look(ReadOnlySpan<byte> bytes, ulong address, bool isFirst, bool isLast);

    private sealed record Format(ulong Start, ulong Words, byte[] Bytes, ComplaintText Text);
}
