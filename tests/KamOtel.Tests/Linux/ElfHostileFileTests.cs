using System.Buffers.Binary;
using System.Text;
using CsCheck;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ElfHostileFileTests : IDisposable
{
    private const string Wanted = "plain_function";
    private readonly Scratch _scratch = new();
    private readonly SafeFileHandle _file;

    public ElfHostileFileTests() => _file = File.OpenHandle(_scratch["hostile"], FileMode.Create, FileAccess.ReadWrite);

    public void Dispose()
    {
        _file.Dispose();
        _scratch.Dispose();
    }

    [Fact]
    public void The_file_made_by_hand_is_a_good_one()
    {
        Found(new Sample().Add(Wanted, address: 0x1008, size: 4)).ShouldHaveSingleItem().FileOffset.ShouldBe(8UL);
    }

    [Fact]
    public void A_name_is_found_wherever_it_lies_on_the_edge_of_a_buffer()
    {
        for (int padding = (16 * 1024) - 40; padding < (16 * 1024) + 4; padding++)
        {
            Found(new Sample { Padding = padding }.Add("x").Add(Wanted)).Length.ShouldBe(1, $"{padding} bytes before it");
        }
    }

    [Theory]
    [InlineData("", ElfErrorKind.NotElf)]
    [InlineData("\u007fEL", ElfErrorKind.NotElf)]
    [InlineData("#!/bin/sh\nexec kamailio -DD -E -f /etc/kamailio/kamailio.cfg -m 64 -M 8\n", ElfErrorKind.NotElf)]
    [InlineData("\u007fELF", ElfErrorKind.Truncated)]
    public void What_is_no_ELF_file_is_said_to_be_none(string text, ElfErrorKind kind) => Failure(Encoding.Latin1.GetBytes(text)).Kind.ShouldBe(kind);

    [Theory]
    [InlineData(4, 1, 1, ElfErrorKind.UnsupportedClass, "32-bit")]
    [InlineData(4, 1, 9, ElfErrorKind.UnsupportedClass, "class is 9")]
    [InlineData(5, 1, 2, ElfErrorKind.UnsupportedByteOrder, "big-endian")]
    [InlineData(5, 1, 0, ElfErrorKind.UnsupportedByteOrder, "byte order is 0")]
    [InlineData(6, 1, 7, ElfErrorKind.Malformed, "version is 7")]
    [InlineData(16, 2, 1, ElfErrorKind.UnsupportedType, "type is 1")]
    [InlineData(18, 2, 243, ElfErrorKind.UnsupportedMachine, "machine 243")]
    [InlineData(32, 8, -1, ElfErrorKind.Malformed, "program header table")]
    [InlineData(32, 8, 1 << 30, ElfErrorKind.Truncated, "program header table")]
    [InlineData(54, 2, 32, ElfErrorKind.Malformed, "32 bytes instead of 56")]
    [InlineData(56, 2, 0, ElfErrorKind.Malformed, "no program headers")]
    [InlineData(56, 2, 0xffff, ElfErrorKind.TooLarge, "65535 program headers")]
    [InlineData(40, 8, -1, ElfErrorKind.Malformed, "section header table")]
    [InlineData(40, 8, 1 << 30, ElfErrorKind.Truncated, "section header table")]
    [InlineData(58, 2, 1, ElfErrorKind.Malformed, "1 bytes instead of 64")]
    [InlineData(60, 2, 0xffff, ElfErrorKind.Truncated, "section header table")]
    [InlineData(64 + 8, 8, 0x10, ElfErrorKind.Malformed, "do not lie alike in a page")]
    [InlineData(64 + 32, 8, 1 << 20, ElfErrorKind.Truncated, "segment that the loader maps")]
    [InlineData(64 + 32, 8, -1, ElfErrorKind.Malformed, "beyond the address space")]
    public void A_wrong_header_is_named(int at, int size, long value, ElfErrorKind kind, string message)
    {
        byte[] bytes = new Sample().Add(Wanted).ToBytes();
        Put(bytes, at, size, value);

        ElfError error = Failure(bytes);

        error.Kind.ShouldBe(kind);
        error.Message.ShouldContain(message);
    }

    [Theory]
    [InlineData(true, 56, 23, ElfErrorKind.Malformed, "entries of 23 bytes")]
    [InlineData(true, 24, 1 << 30, ElfErrorKind.Truncated, "the symbol table")]
    [InlineData(true, 24, -1, ElfErrorKind.Malformed, "the symbol table")]
    [InlineData(true, 32, 1 << 20, ElfErrorKind.Truncated, "the symbol table")]
    [InlineData(true, 32, -1, ElfErrorKind.TooLarge, "symbols")]
    [InlineData(true, 40, 1, ElfErrorKind.Malformed, "no string table")]
    [InlineData(true, 40, 3, ElfErrorKind.Malformed, "there are only 3")]
    [InlineData(false, 24, -1, ElfErrorKind.Malformed, "the names of the symbol table")]
    [InlineData(false, 32, 1 << 20, ElfErrorKind.Truncated, "the names of the symbol table")]
    [InlineData(false, 32, long.MaxValue, ElfErrorKind.TooLarge, "the names of the symbol table")]
    public void A_wrong_section_is_named(bool symbols, int at, long value, ElfErrorKind kind, string message)
    {
        var sample = new Sample().Add(Wanted);
        byte[] bytes = sample.ToBytes();
        Put(bytes, (symbols ? sample.SymbolSection : sample.StringSection) + at, at == 40 ? 4 : 8, value);

        ElfError error = Failure(bytes);

        error.Kind.ShouldBe(kind);
        error.Message.ShouldContain(message);
    }

    [Fact]
    public void More_sections_than_the_header_can_count_are_counted_by_the_first_section()
    {
        var sample = new Sample().Add(Wanted);
        byte[] bytes = sample.ToBytes();
        Put(bytes, 60, 2, 0);
        Put(bytes, sample.Sections + 32, 8, 3);
        Look(bytes).Value.Found.Length.ShouldBe(1);

        Put(bytes, sample.Sections + 32, 8, 1L << 40);
        Failure(bytes).Kind.ShouldBe(ElfErrorKind.TooLarge);
    }

    [Theory]
    [InlineData(0x0fffUL, 1UL)]
    [InlineData(0x1000UL, 1UL << 40)]
    [InlineData(0x1001UL, ulong.MaxValue)]
    [InlineData(ulong.MaxValue, 0UL)]
    public void A_function_outside_the_code_is_rejected_and_the_others_are_found(ulong address, ulong size)
    {
        ElfFunctions functions = Look(new Sample().Add(Wanted, address, size).Add(Wanted).ToBytes()).Value;

        functions.Found.ShouldHaveSingleItem().FileOffset.ShouldBe(0UL);
        functions.Rejected.ShouldHaveSingleItem().Message.ShouldContain(Wanted);
    }

    [Fact]
    public void A_thousand_and_more_symbols_of_one_name_are_refused()
    {
        var sample = new Sample();
        for (int i = 0; i <= 1024; i++)
        {
            sample.Add(Wanted, address: 0x1000 + (ulong)i);
        }

        Failure(sample.ToBytes()).Kind.ShouldBe(ElfErrorKind.TooLarge);
        Failure(new Sample { Strings = string.Concat(Enumerable.Repeat(Wanted + '\0', 1025)) }.ToBytes()).Kind.ShouldBe(ElfErrorKind.TooLarge);
    }

    [Fact]
    public void A_file_of_a_terabyte_of_nothing_costs_nothing()
    {
        var sample = new Sample().Add(Wanted);
        byte[] bytes = sample.ToBytes();
        RandomAccess.Write(_file, bytes, 0);
        RandomAccess.SetLength(_file, 1L << 40);
        Put(bytes, sample.StringSection + 32, 8, 1L << 39);
        RandomAccess.Write(_file, bytes, 0);
        FailureInPlace().Kind.ShouldBe(ElfErrorKind.TooLarge);

        Put(bytes, sample.StringSection + 32, 8, 1);
        Put(bytes, sample.SymbolSection + 32, 8, 1L << 39);
        RandomAccess.Write(_file, bytes, 0);
        FailureInPlace().Kind.ShouldBe(ElfErrorKind.TooLarge);
    }

    [Theory]
    [InlineData(0x0fffUL, 1UL, false)]
    [InlineData(0x1000UL, 1UL << 40, false)]
    [InlineData(ulong.MaxValue, 0UL, false)]
    [InlineData(0x1000UL, 8UL, true)]
    [InlineData(0x3ff8UL, 8UL, true)]
    [InlineData(0x3ff9UL, 8UL, false)]
    public void An_object_is_found_inside_memory_and_rejected_outside(ulong address, ulong size, bool found)
    {
        var sample = new Sample().Add(Wanted, address, size);
        byte[] bytes = sample.ToBytes();
        bytes[64 + 56 + 24 + 4] = 0x11;
        Put(bytes, 64 + 40, 8, 0x3000);

        Look(bytes);
        ElfObjects objects = ElfFile.Open(_file).Value.FindObjects([Wanted]).Value;

        (objects.Found.Length, objects.Rejected.Length).ShouldBe(found ? (1, 0) : (0, 1));
        if (found)
        {
            objects.Found[0].FileOffset.ShouldBe(address == 0x1000 ? 0UL : null);
        }
    }

    [Fact]
    public void Memory_that_ends_beyond_the_address_space_is_refused()
    {
        byte[] bytes = new Sample().Add(Wanted).ToBytes();
        Put(bytes, 64 + 40, 8, -1);

        Failure(bytes).Message.ShouldContain("beyond the address space");
    }

    [Theory]
    [InlineData("gnu", 0x6ffffef5L)]
    [InlineData("sysv", 4L)]
    public void A_hash_table_that_lies_about_its_length_is_refused(string style, long tag)
    {
        byte[] bytes = SectionlessLibrary(style, out int dynamic);
        int hash = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(Entry(bytes, dynamic, tag) + 8));

        if (style == "sysv")
        {
            // The old table tells the number of symbols itself.
            byte[] endless = [.. bytes];
            Put(endless, hash + 4, 4, 0x7fffffff);
            Failure(endless).Message.ShouldContain("leaves its segment");
        }
        else
        {
            // The newer one's last chain ends the table: this one runs into the end of the file, that one into other data.
            int[] head = [.. Enumerable.Range(0, 3).Select(i => BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(hash + (4 * i))))];
            (int bucketCount, int first, int buckets) = (head[0], head[1], hash + 16 + (8 * head[2]));
            byte[] endless = [.. bytes];
            endless.AsSpan(^8..).Clear();
            Put(endless, buckets, 4, first - bucketCount + ((bytes.Length - 8 - buckets) / 4));
            Failure(endless).Message.ShouldContain("has no end");

            byte[] astray = [.. bytes];
            for (int at = buckets + (4 * bucketCount); at < dynamic; at += 4)
            {
                astray[at] &= 0xfe;
            }

            Failure(astray).Kind.ShouldBe(ElfErrorKind.Malformed);
        }

        foreach (int at in (int[])[hash, hash + 4, hash + 8])
        {
            byte[] wrong = [.. bytes];
            Put(wrong, at, 4, 0xffffffff);
            ElfResult<ElfFunctions> result = Look(wrong);
            (result.Error is not null || result.Value.Found.Length <= 1).ShouldBeTrue();
        }

        foreach (long other in (long[])[tag, 5, 6])
        {
            byte[] wrong = [.. bytes];
            Put(wrong, Entry(bytes, dynamic, other) + 8, 8, -64);
            Failure(wrong).Kind.ShouldBe(ElfErrorKind.Malformed, $"entry {other:x}");
        }
    }

    [Fact]
    public void A_dynamic_segment_without_end_is_refused()
    {
        byte[] bytes = SectionlessLibrary("gnu", out _);
        Put(bytes, DynamicHeader(bytes) + 32, 8, 1 << 24);

        Failure(bytes).Kind.ShouldBe(ElfErrorKind.TooLarge);
    }

    [Fact]
    public void A_real_library_cut_at_any_length_is_an_error_or_still_true()
    {
        byte[] whole = File.ReadAllBytes(Tools.CompileLibrary(_scratch["a.so"], "-s", "-Wl,-z,noseparate-code"));
        ElfFunction truth = Look(whole).Value.Found.ShouldHaveSingleItem();
        int errors = 0;
        for (int length = whole.Length - 1; length >= 0; length--)
        {
            RandomAccess.SetLength(_file, length);
            (ElfResult<ElfFunctions> result, _, _) = Measure();
            if (result.TryGet(out ElfFunctions? functions, out ElfError? error))
            {
                functions.Found.ShouldBe([truth], $"cut at {length}");
            }
            else
            {
                error.Kind.ShouldBeOneOf(ElfErrorKind.Truncated, ElfErrorKind.NotElf);
                errors++;
            }
        }

        errors.ShouldBeGreaterThan(whole.Length / 2);
    }

    [Fact]
    public void Every_byte_of_the_headers_may_have_any_value()
    {
        byte[] whole = File.ReadAllBytes(Tools.CompileLibrary(_scratch["a.so"], "-s"));
        Look(whole).Value.Found.ShouldHaveSingleItem();
        int headers = 64 + (56 * whole[56]);
        for (int at = 0; at < headers; at++)
        {
            for (int value = 0; value < 256; value++)
            {
                RandomAccess.Write(_file, [(byte)value], at);
                ShouldStayModest(whole.Length);
            }

            RandomAccess.Write(_file, whole.AsSpan(at, 1), at);
        }
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_file_changed_at_random_never_throws_and_never_costs_much(bool sections)
    {
        byte[] whole = sections
            ? File.ReadAllBytes(Tools.CompileLibrary(_scratch["a.so"], "-Wl,-z,noseparate-code", "-Wl,--hash-style=both"))
            : SectionlessLibrary("gnu", out _);
        Look(whole).Value.Found.ShouldHaveSingleItem();

        // Most changes where they hurt: headers, symbols and hashes at the start, sections at the end.
        Gen<int> place = Gen.OneOf(Gen.Int[0, 700], Gen.Int[700, 2000], Gen.Int[0, whole.Length - 8], Gen.Int[whole.Length - 2000, whole.Length - 8]);
        long[] nasty = [0, -1, 1, long.MaxValue, long.MinValue, whole.Length, uint.MaxValue, 0xfffffff8];
        Gen<byte[]> bytes = Gen.OneOf(
            Gen.Byte.Array[1],
            Gen.Int[0, nasty.Length - 1].Select(i => BitConverter.GetBytes(nasty[i])),
            Gen.ULong.Select(BitConverter.GetBytes));
        Gen.Select(place, bytes).Array[1, 12].Sample(
            changes =>
            {
                foreach ((int at, byte[] change) in changes)
                {
                    RandomAccess.Write(_file, change, at);
                }

                ShouldStayModest(whole.Length);
                RandomAccess.Write(_file, whole, 0);
            },
            iter: 20_000,
            threads: 1);
    }

    [Fact]
    public void What_is_no_regular_file_is_unreadable()
    {
        using SafeFileHandle folder = File.OpenHandle("/proc/self/stat");
        ElfFile.Open(folder).Error.ShouldNotBeNull().Kind.ShouldBeOneOf(ElfErrorKind.NotElf, ElfErrorKind.Unreadable);
        using var pipe = new System.IO.Pipes.AnonymousPipeServerStream(System.IO.Pipes.PipeDirection.In);
        using var end = new SafeFileHandle(pipe.SafePipeHandle.DangerousGetHandle(), ownsHandle: false);
        ElfFile.Open(end).Error.ShouldNotBeNull().Kind.ShouldBe(ElfErrorKind.Unreadable);
    }

    private static void Put(Span<byte> file, int at, int size, long value)
    {
        Span<byte> number = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(number, value);
        number[..size].CopyTo(file[at..]);
    }

    private static int DynamicHeader(ReadOnlySpan<byte> file)
    {
        int at = 64;
        while (BinaryPrimitives.ReadUInt32LittleEndian(file[at..]) != 2)
        {
            at += 56;
        }

        return at;
    }

    private static int Entry(ReadOnlySpan<byte> file, int dynamic, long tag)
    {
        while (BinaryPrimitives.ReadInt64LittleEndian(file[dynamic..]) != tag)
        {
            dynamic += 16;
        }

        return dynamic;
    }

    private byte[] SectionlessLibrary(string hashStyle, out int dynamic)
    {
        byte[] bytes = File.ReadAllBytes(Tools.CompileLibrary(_scratch["sectionless.so"], "-s", "-Wl,-z,noseparate-code", $"-Wl,--hash-style={hashStyle}"));
        Sample.DropSectionHeaders(bytes);
        dynamic = (int)BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(DynamicHeader(bytes) + 8));
        Look(bytes).Value.Found.ShouldHaveSingleItem();
        return bytes;
    }

    private ElfFunction[] Found(Sample sample)
    {
        ElfFunctions functions = Look(sample.ToBytes()).Value;
        functions.Rejected.ShouldBeEmpty();
        return [.. functions.Found];
    }

    private ElfError Failure(byte[] bytes) => Look(bytes).Error.ShouldNotBeNull();

    private ElfError FailureInPlace()
    {
        (ElfResult<ElfFunctions> result, ulong bytesRead, _) = Measure();
        bytesRead.ShouldBeLessThan(1UL << 20);
        return result.Error.ShouldNotBeNull();
    }

    private ElfResult<ElfFunctions> Look(byte[] bytes)
    {
        RandomAccess.SetLength(_file, 0);
        RandomAccess.Write(_file, bytes, 0);
        return Measure().Result;
    }

    /// <summary>No exception, bounded memory, and no byte read more than a few times.</summary>
    private void ShouldStayModest(int length)
    {
        (_, ulong bytesRead, long allocated) = Measure();
        bytesRead.ShouldBeLessThan((ulong)length * 12);
        allocated.ShouldBeLessThan(256 * 1024);
        if (ElfFile.Open(_file).TryGet(out ElfFile? elf, out _))
        {
            elf.FindObjects([Wanted]).TryGet(out _, out _);
            elf.Segments.LoadBias(0x7f00_0000_0000, 0x1000, 0x1000);
            elf.BytesRead.ShouldBeLessThan((ulong)length * 12);
        }
    }

    private (ElfResult<ElfFunctions> Result, ulong BytesRead, long Allocated) Measure()
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        if (!ElfFile.Open(_file).TryGet(out ElfFile? elf, out ElfError? error))
        {
            return (error, 0, GC.GetAllocatedBytesForCurrentThread() - before);
        }

        ElfResult<ElfFunctions> result = elf.FindFunctions([Wanted]);
        return (result, elf.BytesRead, GC.GetAllocatedBytesForCurrentThread() - before);
    }
}
