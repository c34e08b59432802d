using System.Buffers.Binary;
using System.Globalization;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ElfFileTests : IDisposable
{
    private static readonly string[] Calls = ["CRYPTO_THREAD_init_local", "CRYPTO_THREAD_set_local", "CRYPTO_THREAD_get_local", "CRYPTO_THREAD_cleanup_local"];
    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void The_systems_libcrypto_gives_the_offsets_that_readelf_tells()
    {
        string path = new LibraryScan().Libraries([]).Paths.FirstOrDefault() ?? string.Empty;
        Tools.Require(path.Length > 0, "libcrypto");

        ElfFunctions functions = Find(path, Calls);

        functions.Rejected.ShouldBeEmpty();
        functions.Found.Select(static f => (f.Name, f.Address, f.FileOffset, f.Size)).ShouldBe(ByReadelf(path, Calls), ignoreOrder: true);
        functions.Found.Length.ShouldBe(Calls.Length);
    }

    [Fact]
    public void The_build_id_and_the_kind_are_those_that_readelf_tells()
    {
        string library = Tools.CompileLibrary(_scratch["a.so"], "-Wl,--build-id=0x0123456789abcdef", "-Wl,-soname,a.so");
        string program = Compile("program", "-pie", "-fPIE");
        string fixedProgram = Compile("fixed", "-no-pie", "-Wl,--build-id=none");
        string staticPie = Compile("static-pie", "-static-pie");

        Open(library, static elf => (elf.BuildId, elf.Kind)).ShouldBe(("0123456789abcdef", ElfKind.SharedObject));
        Open(program, static elf => elf.Kind).ShouldBe(ElfKind.Executable);
        Open(fixedProgram, static elf => (elf.BuildId, elf.Kind)).ShouldBe((null, ElfKind.Executable));
        Open(staticPie, static elf => elf.Kind).ShouldBe(ElfKind.Executable);
        string libc = Tools.Run("gcc", "-print-file-name=libc.so.6").Trim();
        Open(libc, static elf => (elf.Kind, elf.BuildId is { Length: 40 })).ShouldBe((ElfKind.SharedObject, true), "it has an interpreter, but is no program");
        Tools.Run("readelf", "-n", libc).ShouldContain(Open(libc, static elf => elf.BuildId)!);
    }

    [Fact]
    public void A_library_gives_its_functions_and_nothing_else()
    {
        string path = Tools.CompileLibrary(_scratch["a.so"]);
        string[] names = ["plain_function", "outer_plain_function", "aliased_function", "versioned_function", "indirect_function", "data_object", "atoi", "absent"];

        ElfFunctions functions = Find(path, names);

        functions.Rejected.ShouldBeEmpty();
        ILookup<string, ulong> offsets = functions.Found.ToLookup(static f => f.Name, static f => f.FileOffset);
        offsets["plain_function"].Count().ShouldBe(1, ".dynsym and .symtab tell the same");
        offsets["outer_plain_function"].Count().ShouldBe(1, "its tail is another function's name");
        offsets["aliased_function"].ShouldBe(offsets["plain_function"]);
        offsets["versioned_function"].Distinct().Count().ShouldBe(2, "two versions, two places");
        functions.Found.Length.ShouldBe(5, "no indirect function, no data, nothing undefined");
        functions.Found.Select(static f => (f.Name, f.Address, f.FileOffset, f.Size)).ShouldBe(ByReadelf(path, names), ignoreOrder: true);
    }

    [Fact]
    public void A_file_of_aarch64_is_read_alike()
    {
        string path = Tools.CompileLibrary(_scratch["a.so"]);
        ElfFunctions here = Find(path, "plain_function");
        byte[] bytes = File.ReadAllBytes(path);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(18), 183);
        File.WriteAllBytes(path, bytes);

        Find(path, "plain_function").Found.ShouldBe(here.Found);
    }

    [Fact]
    public void A_static_program_gives_the_library_functions_that_it_carries()
    {
        string program = Compile("static", "-static");

        ElfFunctions functions = Find(program, "CRYPTO_THREAD_set_local");

        functions.Found.Select(static f => (f.Name, f.Address, f.FileOffset, f.Size)).ShouldBe(ByReadelf(program, "CRYPTO_THREAD_set_local"));
        Open(program, static elf => elf.Kind).ShouldBe(ElfKind.Executable);
    }

    [Fact]
    public void A_stripped_program_gives_what_it_exports_and_no_more()
    {
        string exporting = Compile("exporting", "-rdynamic");
        string silent = Compile("silent");
        ulong offset = Find(exporting, "CRYPTO_THREAD_set_local").Found.ShouldHaveSingleItem().FileOffset;
        Find(silent, "CRYPTO_THREAD_set_local").Found.ShouldHaveSingleItem();
        Tools.Run("strip", exporting);
        Tools.Run("strip", silent);

        Find(exporting, "CRYPTO_THREAD_set_local").Found.ShouldHaveSingleItem().FileOffset.ShouldBe(offset);
        Find(silent, "CRYPTO_THREAD_set_local").Found.ShouldBeEmpty();
    }

    [Theory]
    [InlineData("gnu")]
    [InlineData("sysv")]
    [InlineData("both")]
    public void Without_section_headers_the_dynamic_segment_tells_the_same(string hashStyle)
    {
        string path = Tools.CompileLibrary(_scratch["a.so"], $"-Wl,--hash-style={hashStyle}");
        string[] names = ["plain_function", "outer_plain_function", "aliased_function", "versioned_function"];
        ElfFunctions whole = Find(path, names);
        Sample.DropSectionHeaders(path);

        Find(path, names).Found.ShouldBe(whole.Found, ignoreOrder: true);
    }

    [Fact]
    public void Section_headers_that_were_cut_off_do_not_hide_the_dynamic_symbols()
    {
        string path = Tools.CompileLibrary(_scratch["a.so"]);
        ElfFunctions whole = Find(path, "versioned_function");
        using (FileStream file = File.OpenWrite(path))
        {
            file.SetLength(file.Length - 64);
        }

        Find(path, "versioned_function").Found.ShouldBe(whole.Found, ignoreOrder: true);
    }

    [Fact]
    public void A_name_that_is_empty_or_endless_is_the_callers_mistake()
    {
        string path = Tools.CompileLibrary(_scratch["a.so"]);

        Should.Throw<ArgumentException>(() => Find(path, string.Empty));
        Should.Throw<ArgumentException>(() => Find(path, new string('a', 1025)));
    }

    [Fact]
    public void A_library_gives_its_data_and_nothing_else()
    {
        string path = _scratch["data.so"];
        _scratch.Write("data.c", """
            int filled = 7;
            int zeros[100];
            const char text[] = "text";
            __thread int local = 3;
            extern int elsewhere;
            int function(void) { return elsewhere + local; }
            """);
        Tools.Run("gcc", "-O1", "-fPIC", "-shared", "-o", path, _scratch["data.c"]);
        string[] names = ["filled", "zeros", "text", "local", "elsewhere", "function", "absent"];

        ElfObjects objects = Open(path, elf => elf.FindObjects(names).Value);

        objects.Rejected.ShouldBeEmpty();
        objects.Found.Select(static o => (o.Name, o.Size)).ShouldBe([("filled", 4UL), ("zeros", 400UL), ("text", 5UL)], ignoreOrder: true);
        objects.Found.Single(static o => o.Name == "zeros").FileOffset.ShouldBeNull("it is in .bss");
        byte[] bytes = File.ReadAllBytes(path);
        ElfObject filled = objects.Found.Single(static o => o.Name == "filled");
        BitConverter.ToInt32(bytes, (int)filled.FileOffset!.Value).ShouldBe(7);
        byte[] text = new byte[5];
        Open(path, elf => elf.ReadAddress(objects.Found.Single(static o => o.Name == "text").Address, text, "the text")).ShouldBeNull();
        text.ShouldBe("text\0"u8.ToArray());
        Open(path, elf => elf.ReadAddress(objects.Found.Single(static o => o.Name == "zeros").Address, text, "zeros")).ShouldNotBeNull().Message.ShouldContain("is not in the file");
        objects.Found.Select(static o => (o.Name, o.Address)).ShouldBe(
            Tools.Run("nm", "-D", path).Split('\n').Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
                .Where(words => words.Length == 3 && names.Take(3).Contains(words[2], StringComparer.Ordinal))
                .Select(static words => (words[2], ulong.Parse(words[0], NumberStyles.HexNumber))),
            ignoreOrder: true);
    }

    [Theory]
    [InlineData("-Wl,-z,separate-code")]
    [InlineData("-Wl,-z,noseparate-code")]
    public void A_mapping_of_code_tells_where_the_file_was_loaded(string layout)
    {
        Tools.Run("gcc", "-o", _scratch["map_library"], $"{Tools.Targets}/map_library.c", "-ldl");
        string path = Tools.CompileLibrary(_scratch["a.so"], layout);
        using System.Diagnostics.Process process = Tools.Start(_scratch["map_library"], path);
        try
        {
            process.StandardOutput.ReadLine().ShouldBe("ready");
            Mapping code = new ProcFs().ReadMaps(process.Id, onlyCode: true).Value.Single(m => m.Path == path);
            ElfObject value = Open(path, static elf => elf.FindObjects(["data_object"]).Value.Found.Single());

            ulong? bias = Open(path, elf => elf.Segments.LoadBias(code.Start, code.End - code.Start, code.Offset));

            byte[] number = new byte[4];
            ProcessMemory.TryRead(process.Id, bias!.Value + value.Address, number, out ProcFailure failure).ShouldBeTrue(failure.Detail);
            BitConverter.ToInt32(number).ShouldBe(7);
            Open(path, elf => elf.Segments.LoadBias(code.Start, code.End - code.Start, 1 << 20)).ShouldBeNull("the file has no code there");
        }
        finally
        {
            process.StandardInput.Close();
            process.WaitForExit();
        }
    }

    private static T Open<T>(string path, Func<ElfFile, T> use)
    {
        using SafeFileHandle file = File.OpenHandle(path);
        return use(ElfFile.Open(file).Value);
    }

    private static ElfFunctions Find(string path, params string[] names) => Open(path, elf => elf.FindFunctions(names).Value);

    /// <summary>The same by readelf: defined functions of both tables, and the executable segment that holds each.</summary>
    private static List<(string Name, ulong Address, ulong FileOffset, ulong Size)> ByReadelf(string path, params string[] names)
    {
        List<ulong[]> segments = Lines("-lW").Where(static words => words is ["LOAD", .., "E", _])
            .Select(static words => words[1..6].Select(Number).ToArray()).ToList();
        return Lines("-Ws").Where(words => words is [_, _, _, "FUNC", _, _, not "UND", _, ..] && names.Contains(words[7].Split('@')[0], StringComparer.Ordinal))
            .Select(words =>
            {
                ulong address = Number("0x" + words[1]);
                ulong[] segment = segments.Single(s => address >= s[1] && address < s[1] + s[3]);
                return (words[7].Split('@')[0], address, address - segment[1] + segment[0], Number(words[2]));
            })
            .Distinct().ToList();

        IEnumerable<string[]> Lines(string option) =>
            Tools.Run("readelf", option, path).Split('\n').Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries));

        static ulong Number(string text) => text.StartsWith("0x", StringComparison.Ordinal)
            ? ulong.Parse(text.AsSpan(2), NumberStyles.HexNumber)
            : ulong.Parse(text);
    }

    private string Compile(string name, params string[] options)
    {
        Tools.Run("gcc", ["-O1", "-o", _scratch[name], $"{Tools.Targets}/static_program.c", .. options]);
        return _scratch[name];
    }
}
