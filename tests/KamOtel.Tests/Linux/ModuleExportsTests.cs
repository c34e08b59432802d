using System.Buffers.Binary;
using System.Globalization;
using CsCheck;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ModuleExportsTests : IDisposable
{
    private const string Modules = "/usr/lib/x86_64-linux-gnu/kamailio/modules";
    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Theory]
    [InlineData("htable")]
    [InlineData("tm")]
    [InlineData("db_postgres")]
    [InlineData("tls")]
    public void A_real_module_is_initialised_where_its_symbol_or_the_relocations_say(string name)
    {
        string path = $"{Modules}/{name}.so";
        Tools.Require(File.Exists(path), path);

        ModuleInit init = Read(path, name).Value;

        init.Module.ShouldBe(name);
        init.FileOffset.ShouldBe(ByReadelf(path));
    }

    [Theory]
    [InlineData("/opt/modules/htable.so", "htable")]
    [InlineData("/srv/kamailio-5.6.3/modules/extra/htable.so", "htable")]
    [InlineData("/usr/lib/kamailio/modules/other.so", "other")]
    [InlineData("/opt/modules/another.so", null)]
    [InlineData("/opt/modules/libhtable.so", null)]
    public void A_module_is_one_wherever_it_lies_by_the_name_that_it_exports(string path, string? name)
    {
        string real = $"{Modules}/htable.so";
        Tools.Require(File.Exists(real), real);
        using SafeFileHandle file = File.OpenHandle(real);
        ServerModule.NameOf(path, file).ShouldBe(name);
    }

    [Fact]
    public void All_modules_that_are_installed_can_be_read_but_those_that_go_by_another_name()
    {
        Tools.Require(Directory.Exists(Modules), Modules);
        string[] failed = [.. Directory.GetFiles(Modules, "*.so").Select(static path => (path, name: Path.GetFileNameWithoutExtension(path)))
            .Where(m => Read(m.path, m.name).Error is not null).Select(static m => m.name)];
        failed.ShouldBeSubsetOf(["ss7ops"]);
    }

    [Theory]
    [InlineData("-Wl,-z,nopack-relative-relocs", "relative")]
    [InlineData("-DGLOBAL_INIT", "by symbol")]
    [InlineData("-Wl,-z,pack-relative-relocs", "packed")]
    [InlineData("-Wl,-z,noseparate-code", "one segment")]
    public void The_init_function_is_found_by_every_kind_of_relocation(string option, string kind)
    {
        string path = Compile(option);
        ulong expected = ulong.Parse(Symbol(path, "mod_init").Split(' ')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        ElfFile elf = ElfFile.Open(Open(path)).Value;

        Read(path, "sample").Value.FileOffset.ShouldBe(elf.Segments.ToFileOffset(expected, 1, executable: true), kind);
    }

    [Fact]
    public void A_module_without_an_init_function_has_none() =>
        Read(Compile("-DINIT=0"), "sample").Value.ShouldBe(new ModuleInit("sample", null));

    [Theory]
    [InlineData("other")]
    [InlineData("sampl")]
    [InlineData("samples")]
    [InlineData("")]
    public void A_file_of_another_name_is_not_believed(string name) =>
        Read(Compile(), name).Error.ShouldNotBeNull().Message.ShouldContain("does not call itself");

    [Fact]
    public void An_init_function_that_is_no_code_is_not_believed() =>
        Read(Compile("-DINIT=(int(*)(void))&exports"), "sample").Error.ShouldNotBeNull().Message.ShouldContain("no code");

    [Fact]
    public void What_exports_no_module_is_said_to_be_none() =>
        Read(Tools.CompileLibrary(_scratch["library.so"]), "library").Error.ShouldNotBeNull().Message.ShouldContain("exports no module");

    [Fact]
    public void Without_section_headers_it_is_found_as_the_loader_does()
    {
        string path = Compile();
        ulong? offset = Read(path, "sample").Value.FileOffset;
        Sample.DropSectionHeaders(path);
        Read(path, "sample").Value.FileOffset.ShouldBe(offset);
    }

    [Fact]
    public void A_table_of_relocations_that_is_too_long_or_elsewhere_is_not_read()
    {
        byte[] bytes = File.ReadAllBytes(Compile());
        int size = DynamicEntry(bytes, 8);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(size), 24UL << 40);
        Write(bytes).Error.ShouldNotBeNull().Kind.ShouldBe(ElfErrorKind.TooLarge);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(size), 24 * 100_000);
        Write(bytes).Error.ShouldNotBeNull().Message.ShouldContain("not in the file");
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(size), 24);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(DynamicEntry(bytes, 7)), ulong.MaxValue - 3);
        Write(bytes).Error.ShouldNotBeNull().Message.ShouldContain("not in the file");
    }

    [Fact]
    public void Whatever_is_changed_in_a_file_it_gives_a_function_in_the_file_or_an_error()
    {
        byte[] good = File.ReadAllBytes(Compile());
        Gen.Select(Gen.Int[0, good.Length - 1], Gen.Byte).Array[1, 6].Sample(
            changes =>
            {
                byte[] bytes = [.. good];
                foreach ((int at, byte value) in changes)
                {
                    bytes[at] = value;
                }
                ElfResult<ModuleInit> result = Write(bytes);
                return result.Error is not null || result.Value.FileOffset is null || result.Value.FileOffset < (ulong)bytes.Length;
            },
            iter: 300,
            threads: 1);
    }

    private static ElfResult<ModuleInit> Read(string path, string name)
    {
        using SafeFileHandle file = Open(path);
        return ModuleExports.ReadInit(file, name);
    }

    private static SafeFileHandle Open(string path) => File.OpenHandle(path);

    private static string Symbol(string path, string name) =>
        Tools.Run("nm", path).Split('\n').Single(line => line.EndsWith(" " + name, StringComparison.Ordinal));

    /// <summary>Offset of the relocated pointer at 56 bytes into the exports; code in these files lies at its address.</summary>
    private static ulong? ByReadelf(string path)
    {
        string symbol = Tools.Run("nm", "-D", path).Split('\n').Single(static line => line.EndsWith(" exports", StringComparison.Ordinal));
        ulong at = ulong.Parse(symbol.Split(' ')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture) + 56;
        string line = Tools.Run("readelf", "-rW", path).Split('\n').Single(l => l.StartsWith(at.ToString("x16", CultureInfo.InvariantCulture), StringComparison.Ordinal));
        return ulong.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
    }

    /// <summary>Where the value of an entry of the dynamic segment stands.</summary>
    private static int DynamicEntry(byte[] file, ulong tag)
    {
        int headers = (int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(32));
        for (int at = headers; ; at += 56)
        {
            if (BinaryPrimitives.ReadUInt32LittleEndian(file.AsSpan(at)) == 2)
            {
                int entry = (int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(at + 8));
                while (BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(entry)) != tag)
                {
                    entry += 16;
                }
                return entry + 8;
            }
        }
    }

    private ElfResult<ModuleInit> Write(byte[] bytes)
    {
        string path = _scratch["changed.so"];
        File.WriteAllBytes(path, bytes);
        return Read(path, "sample");
    }

    private string Compile(params string[] options)
    {
        string path = _scratch["sample.so"];
        Tools.Run("gcc", ["-O1", "-fPIC", "-shared", "-DNAME=\"sample\"", "-o", path, $"{Tools.Targets}/module.c", .. options]);
        return path;
    }
}
