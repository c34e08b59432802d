using System.Buffers.Binary;
using CsCheck;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>The figures of Kamailio's memory managers are believed only when all that is known of their structures fits.</summary>
public sealed class MemoryManagerTests
{
    private const ulong Pool = 0x7f00_0000_0000;
    private const ulong Size = 64 << 20;

    /// <summary>As Kamailio 5.6.3 of Debian 12 had them with <c>-m 64</c>.</summary>
    public static TheoryData<string, ulong[], ulong> Real => new()
    {
        { "qm", [0, Size, 2437624, 2677664, 2677665, 1, Pool + 0x39690, Pool + Size - 0x30], 2677664 },
        { "fm", [0, Size, 2437624, 2474992, 2474993, 1, Pool + 0x8478, Pool + Size - 0x48], 2474992 },
        { "tlsf", [0, 0, 0, 0, 0, 0, Pool, Pool + 0x255fc0, Size - 80, 2439072, 2450088, 2450089, 1, 1], 2450088 },
        { "tlsf", [0, 0, Pool, Pool + 0x255fc0, Size - 16, 2439072, 2450088, 2450089, 1, 1], 2450088 },
    };

    [Theory]
    [MemberData(nameof(Real))]
    public void A_structure_tells_what_is_used(string manager, ulong[] words, ulong used)
    {
        PoolFigures figures = MemoryManager.Parse(manager, Bytes(words), Pool, Size).ShouldNotBeNull();
        (figures.Used, figures.MaxUsed).ShouldBe((used, used + 1));
        figures.Total.ShouldBeInRange(Size - 80, Size);
    }

    [Theory]
    [MemberData(nameof(Real))]
    public void A_structure_is_no_other_managers_nor_another_pools(string manager, ulong[] words, ulong used)
    {
        _ = used;
        byte[] bytes = Bytes(words);
        MemoryManager.Parse(manager == "tlsf" ? "qm" : "tlsf", bytes, Pool, Size).ShouldBeNull();
        MemoryManager.Parse("hp", bytes, Pool, Size).ShouldBeNull();
        MemoryManager.Parse(manager, bytes, Pool + (Size << 1), Size).ShouldBeNull();
        MemoryManager.Parse(manager, bytes, Pool, Size / 2).ShouldBeNull();
        MemoryManager.Parse(manager, bytes, Pool, Size * 2).ShouldBeNull();
        MemoryManager.Parse(manager, bytes.AsSpan(1), Pool, Size).ShouldBeNull();
        MemoryManager.Parse(manager, [], Pool, Size).ShouldBeNull();
    }

    /// <summary>By word: the size, what is given out, with the overhead, at most, and the two places.</summary>
    [Theory]
    [InlineData(0, 256UL)]
    [InlineData(1, Size + 8)]
    [InlineData(1, Size - 16)]
    [InlineData(1, Size - 4)]
    [InlineData(2, 2677665UL)]
    [InlineData(3, 2677666UL)]
    [InlineData(3, 64UL)]
    [InlineData(4, Size + 1)]
    [InlineData(4, ulong.MaxValue)]
    [InlineData(6, 0UL)]
    [InlineData(6, Pool)]
    [InlineData(6, Pool + 0x39691)]
    [InlineData(6, Pool + Size)]
    [InlineData(7, Pool + Size)]
    [InlineData(7, Pool + Size - 0x200)]
    [InlineData(7, Pool + 0x39690)]
    public void What_does_not_fit_gives_no_number(int word, ulong value)
    {
        ulong[] words = [0, Size, 2437624, 2677664, 2677665, 1, Pool + 0x39690, Pool + Size - 0x30];
        words[word] = value;
        MemoryManager.Parse("qm", Bytes(words), Pool, Size).ShouldBeNull();
    }

    [Fact]
    public void Whatever_is_there_no_number_contradicts_the_size() =>
        Gen.Select(Gen.Int[0, 2], Gen.OneOf(Gen.ULong, Gen.ULong[0, Size], Gen.ULong[Pool, Pool + Size]).Array[14], Gen.OneOf(Gen.Const(Size), Gen.ULong[0, Size])).Sample((which, words, size) =>
        {
            // Where a size belongs there is one: else hardly any would get further.
            words[1] = size / 8 * 8;
            words[8] = size - 80;
            if (MemoryManager.Parse(((string[])["qm", "fm", "tlsf"])[which], Bytes(words), Pool, size) is { } figures)
            {
                figures.Used.ShouldBeLessThanOrEqualTo(figures.MaxUsed);
                figures.MaxUsed.ShouldBeLessThanOrEqualTo(figures.Total);
                figures.Total.ShouldBeLessThanOrEqualTo(size);
            }
        });

    [Theory]
    [InlineData("q_malloc\0abc", "qm")]
    [InlineData("f_malloc\0abc", "fm")]
    [InlineData("tlsf_malloc\0", "tlsf")]
    [InlineData("q_malloc", null)]
    [InlineData("q_malloc_dbg", null)]
    [InlineData("", null)]
    public void A_manager_is_known_by_its_whole_name(string text, string? name) =>
        MemoryManager.NameOf(System.Text.Encoding.ASCII.GetBytes(text)).ShouldBe(name);

    private static byte[] Bytes(ulong[] words)
    {
        byte[] bytes = new byte[MemoryManager.StructureSize];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(8 * i), words[i]);
        }

        return bytes;
    }
}
