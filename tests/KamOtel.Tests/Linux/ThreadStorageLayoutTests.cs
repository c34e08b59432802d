using System.Buffers.Binary;
using CsCheck;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ThreadStorageLayoutTests : IDisposable
{
    private const ushort X64 = 62;
    private const ushort Arm64 = 183;

    private static readonly string[] Descriptors =
    [
        "_thread_db_pthread_specific", "_thread_db_sizeof_pthread", "_thread_db_sizeof_pthread_key_data", "_thread_db_pthread_key_data_seq",
        "_thread_db_pthread_key_data_data", "_thread_db_pthread_key_data_level2_data", "_thread_db___pthread_keys",
        "_thread_db_sizeof_pthread_key_struct", "_thread_db_pthread_key_struct_seq", "_thread_db_pthread_key_struct_destr",
    ];

    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void Glibc_tells_its_own_layout()
    {
        MappedFile libc = Read(Libc());

        libc.Unsupported.ShouldBeNull();
        ThreadStorageLayout layout = libc.Layout.ShouldNotBeNull();
        layout.Flat.ShouldBeFalse();
        (layout.Blocks * layout.BlockSlots).ShouldBe(int.Parse(Tools.Run("getconf", "PTHREAD_KEYS_MAX")));
        layout.TableOffset.ShouldBeInRange(0, 64 * 1024);
        layout.BlockSize.ShouldBe(SlotReader.CopiedBlockSize, "what the kernel side copies");
        layout.KeyTableSize.ShouldBe(layout.Blocks * layout.BlockSlots * 16);
    }

    [Fact]
    public void On_aarch64_a_thread_lies_below_its_pointer()
    {
        byte[] bytes = File.ReadAllBytes(Libc());
        long offset = Read(bytes).Layout!.TableOffset;
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(18), Arm64);
        uint size = BitConverter.ToUInt32(bytes, Places(bytes)["_thread_db_sizeof_pthread"]);

        ThreadStorageLayout layout = Read(bytes).Layout.ShouldNotBeNull();

        layout.TableOffset.ShouldBe(offset - size);
        layout.PointsToItself.ShouldBeFalse();
    }

    [Fact]
    public void Musl_tells_its_layout_by_its_code()
    {
        string program = SlotsTarget.Compile(_scratch, CLibrary.MuslStatic);
        ThreadStorageLayout whole = Read(program).Layout.ShouldNotBeNull();
        whole.Flat.ShouldBeTrue();
        whole.BlockSlots.ShouldBe(128);
        whole.KeyTable.ShouldNotBeNull();
        whole.NoDestructor.ShouldNotBeNull();

        // Without its local symbols the destructors are unknown, without any so is everything.
        Tools.Run("objcopy", "--strip-symbol=nodtor", program);
        ThreadStorageLayout less = Read(program).Layout.ShouldNotBeNull();
        less.TableOffset.ShouldBe(whole.TableOffset);
        less.KeyTable.ShouldBeNull();
        less.KeyTableSize.ShouldBe(0);
        Tools.Run("strip", program);
        Read(program).ShouldSatisfyAllConditions(static file => file.Layout.ShouldBeNull(), static file => file.Unsupported.ShouldBeNull());
    }

    [Fact]
    public void A_library_that_is_no_C_library_has_no_layout_and_no_complaint()
    {
        MappedFile file = Read(Tools.CompileLibrary(_scratch["a.so"]));

        file.Layout.ShouldBeNull();
        file.Unsupported.ShouldBeNull();
        file.Segments.ShouldNotBeNull();
        Read("#!/bin/sh\n"u8.ToArray()).Segments.ShouldBeNull();
    }

    [Fact]
    public void A_function_with_the_name_of_musls_is_not_believed()
    {
        _scratch.Write("wrapper.c", "extern void *other(unsigned key); void *pthread_getspecific(unsigned key) { return other(key); }");
        Tools.Run("gcc", "-O1", "-fPIC", "-shared", "-o", _scratch["wrapper.so"], _scratch["wrapper.c"]);

        MappedFile file = Read(_scratch["wrapper.so"]);

        file.Layout.ShouldBeNull();
        file.Unsupported.ShouldNotBeNull().ShouldContain("pthread_getspecific is not musl's: ");
    }

    [Fact]
    public void A_description_that_makes_no_sense_is_named()
    {
        byte[] whole = File.ReadAllBytes(Libc());
        Dictionary<string, int> places = Places(whole);
        long[] nasty = [0, 1, 7, 8, 63, 64, 65, 4096, 65536, 1 << 30, int.MaxValue, uint.MaxValue, uint.MaxValue - 7];
        int refused = 0;
        foreach ((string name, int place) in places)
        {
            for (int field = 0; field < (name.Contains("sizeof", StringComparison.Ordinal) ? 1 : 3); field++)
            {
                foreach (long value in nasty)
                {
                    byte[] bytes = [.. whole];
                    BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(place + (4 * field)), (uint)value);
                    MappedFile file = Read(bytes);
                    ShouldBeBounded(file);
                    refused += file.Unsupported?.Contains("makes no sense", StringComparison.Ordinal) == true ? 1 : 0;
                }
            }
        }

        refused.ShouldBeGreaterThan(150);
    }

    [Fact]
    public void Descriptions_changed_at_random_are_refused_or_bounded()
    {
        byte[] whole = File.ReadAllBytes(Libc());
        int[] places = [.. Places(whole).Values];
        Gen.Select(Gen.Int[0, places.Length - 1], Gen.Int[0, 2], Gen.OneOf(Gen.UInt[0, 4096], Gen.UInt)).Array[1, 6].Sample(
            changes =>
            {
                byte[] bytes = [.. whole];
                foreach ((int place, int field, uint value) in changes)
                {
                    BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(places[place] + (4 * field)), value);
                }

                ShouldBeBounded(Read(bytes));
            },
            iter: 200,
            threads: 1);
    }

    [Fact]
    public void A_description_that_is_missing_is_named()
    {
        byte[] bytes = File.ReadAllBytes(Libc());
        int name = bytes.AsSpan().IndexOf("_thread_db_pthread_key_struct_destr\0"u8);
        bytes[name + 10] = (byte)'x';

        MappedFile file = Read(bytes);

        file.Layout.ShouldBeNull();
        file.Unsupported.ShouldNotBeNull().ShouldContain("_thread_db_pthread_key_struct_destr is missing");
    }

    [Theory]
    [InlineData(X64, "64488b042500000000 488b8080000000 89ff 488b04f8 c3", 128)] // Debian
    [InlineData(X64, "64488b042500000000 89ff 488b4070 488b04f8 c3", 112)] // gcc, a short displacement
    [InlineData(X64, "64488b042500000000 488b8080000000 89f9 488b04c8 c3", 128)] // clang
    [InlineData(X64, "f30f1efa 64488b042500000000 488b4070 89f9 488b04c8 c3", 112)] // with control-flow protection
    [InlineData(X64, "55 4889e5 64488b042500000000 488b4070 89ff 488b04f8 5d c3", 112)] // with frame pointers
    [InlineData(X64, "644c8b0c2500000000 4d8b9180000000 4189f8 4b8b04c2 c3", 128)] // other registers
    [InlineData(X64, "64488b042500000000 488b4090 8bff 488b04f8 c3", -112)]
    [InlineData(Arm64, "48d03bd5 080159f8 005960f8 c0035fd6", -112)] // clang
    [InlineData(Arm64, "5f2403d5 48d03bd5 080159f8 005960f8 c0035fd6", -112)] // with branch protection
    [InlineData(Arm64, "41d03bd5 212003d1 212c40f9 e003002a 207860f8 c0035fd6", -112)] // older compilers
    public void Musls_function_is_followed(int machine, string code, long offset)
    {
        MuslCode.TryFindTable((ushort)machine, Hex(code), out long found, out string met).ShouldBeTrue(met);
        found.ShouldBe(offset);
    }

    [Theory]
    [InlineData(X64, "", "at its byte 0")]
    [InlineData(X64, "c3", "c3 at its byte 0")]
    [InlineData(X64, "64488b042500000000 488b8080000000 89ff 488b04f8", "at its byte 22")] // no end
    [InlineData(X64, "64488b042500000000 488b8080000000 488b04f8 c3", "488b04f8c3 at its byte 16")] // the key's upper half
    [InlineData(X64, "64488b042500000000 488b8080000000 89ff 488b0478 c3", "at its byte 18")] // times two
    [InlineData(X64, "64488b042500000000 488b8080000000 89ff 488b44f808 c3", "at its byte 18")] // not at the array's start
    [InlineData(X64, "64488b042500000000 488b8000000100 89ff 488b04f8 c3", "at its byte 9")] // too far
    [InlineData(X64, "64488b042500000000 488b8081000000 89ff 488b04f8 c3", "at its byte 9")] // not aligned
    [InlineData(X64, "64488b042510000000 488b8080000000 89ff 488b04f8 c3", "at its byte 0")] // %fs:0x10
    [InlineData(X64, "488b042500000000 488b8080000000 89ff 488b04f8 c3", "at its byte 0")] // not of the thread
    [InlineData(X64, "64488b042500000000 488b8080000000 89ff 488b04f8 4889c8 c3", "c3 at its byte 25")] // returns something else
    [InlineData(X64, "64488b042500000000 8b8080000000 89ff 488b04f8 c3", "at its byte 9")] // 32 bits
    [InlineData(X64, "83ff1f 7748 89ff 64488b042510000000", "83ff1f7748")] // glibc's
    [InlineData(X64, "e9fbffffff", "e9fbffffff")]
    [InlineData(X64, "64", "64 at its byte 0")]
    [InlineData(X64, "64488b04", "64488b04 at its byte 0")]
    [InlineData(X64, "90909090909090909090909090909090 64488b042500000000 488b4070 89ff 488b04f8 c3", "at its byte 16")] // no end in sight
    [InlineData(Arm64, "48d03bd5 080159f8 006960f8 c0035fd6", "006960f8c0035fd6 at its byte 8")] // not times eight
    [InlineData(Arm64, "48d03bd5 080159f8 00d960f8 c0035fd6", "at its byte 8")] // signed
    [InlineData(Arm64, "48d03bd5 080159f8 007960f8 c0035fd6", "at its byte 8")] // the key's upper half
    [InlineData(Arm64, "48d03bd5 080159f8 005960f8", "at its byte 12")]
    [InlineData(Arm64, "48d03bd5 080159", "at its byte 4")]
    [InlineData(3, "c3", "c3 at its byte 0")]
    public void Anything_else_is_named_and_not_guessed(int machine, string code, string message)
    {
        MuslCode.TryFindTable((ushort)machine, Hex(code), out long found, out string met).ShouldBeFalse();
        found.ShouldBe(0);
        met.ShouldContain(message);
    }

    [Fact]
    public void Code_at_random_never_throws()
    {
        byte[][] pieces = [.. new[] { "64488b042500000000", "488b4070", "488b8080000000", "89ff", "488b04f8", "c3", "48d03bd5", "080159f8", "005960f8", "55" }.Select(Hex)];
        Gen<byte[]> piece = Gen.OneOf(Gen.Int[0, pieces.Length - 1].Select(i => pieces[i]), Gen.Byte.Array[1, 4]);
        Gen.Select(Gen.Bool.Select(static arm => arm ? Arm64 : X64), piece.Array[0, 12]).Sample((machine, code) =>
        {
            MuslCode.TryFindTable(machine, code.SelectMany(static bytes => bytes).Take(MuslCode.MaxLength).ToArray(), out long offset, out _);
            Math.Abs(offset).ShouldBeLessThanOrEqualTo(4096);
        });
    }

    private static string Libc() => Tools.Run("gcc", "-print-file-name=libc.so.6").Trim();

    private static byte[] Hex(string text) => Convert.FromHexString(text.Replace(" ", "", StringComparison.Ordinal));

    private static void ShouldBeBounded(MappedFile file)
    {
        if (file.Layout is not { } layout)
        {
            file.Unsupported.ShouldNotBeNull();
            return;
        }

        layout.Blocks.ShouldBeInRange(1, 64);
        layout.BlockSlots.ShouldBeInRange(1, 64);
        layout.SlotSize.ShouldBeInRange(8, 64);
        layout.SequenceAt.ShouldBeInRange(0, layout.SlotSize - 8);
        layout.DataAt.ShouldBeInRange(0, layout.SlotSize - 8);
        layout.KeyEntrySize.ShouldBeInRange(8, 64);
        layout.KeySequenceAt.ShouldBeInRange(0, layout.KeyEntrySize - 8);
        layout.KeyDestructorAt.ShouldBeInRange(0, layout.KeyEntrySize - 8);
        layout.TableOffset.ShouldBeInRange(-64 * 1024, 64 * 1024);
    }

    /// <summary>Where in the file the descriptions are.</summary>
    private Dictionary<string, int> Places(byte[] bytes)
    {
        File.WriteAllBytes(_scratch["libc"], bytes);
        using SafeFileHandle file = File.OpenHandle(_scratch["libc"]);
        return ElfFile.Open(file).Value.FindObjects(Descriptors).Value.Found.ToDictionary(static o => o.Name, static o => (int)o.FileOffset!.Value, StringComparer.Ordinal);
    }

    private MappedFile Read(byte[] bytes)
    {
        File.WriteAllBytes(_scratch["file"], bytes);
        return Read(_scratch["file"]);
    }

    private static MappedFile Read(string path)
    {
        using SafeFileHandle file = File.OpenHandle(path);
        return MappedFile.Read(file);
    }
}
