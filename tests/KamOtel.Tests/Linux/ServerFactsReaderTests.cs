using System.Diagnostics;
using System.Text;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class ServerFactsReaderTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly ServerFactsReader _reader = new(new ProcFs());

    public void Dispose() => _scratch.Dispose();

    [Theory]
    [InlineData("-pie")]
    [InlineData("-no-pie")]
    public void A_server_is_read_from_its_memory_and_its_files(string position)
    {
        string program = Compile("kamailio", "kamailio 5.8.8 (x86_64/linux) 1ab2c3", position, "-DMODE=2");
        Tools.Run("strip", program);
        string crypto = Library("libcrypto.so.3", "OpenSSL legacy provider", "OpenSSL 3.0.19 27 Jan 2026");

        ServerFacts facts = ReadRunning(program, crypto, Library("lib/kamailio/modules/tls.so"), Library("lib/kamailio/modules/db_mysql.so"), Library("lib/other/sl.so"));

        facts.Kamailio.ShouldBe("5.8.8");
        facts.TlsThreadsMode.ShouldBe(2);
        facts.OpenSsl.ShouldBe("3.0.19");
        facts.Modules.ShouldBe(["db_mysql", "tls"]);
        facts.TlsBackEnd.ShouldBe("tls");
    }

    [Theory]
    [InlineData("tls_mgm,tls_wolfssl", "tls_wolfssl")]
    [InlineData("proto_tls,tls_mgm,tls_openssl", "tls_openssl")]
    [InlineData("proto_tls,tls_mgm", "tls_mgm")]
    [InlineData("proto_udp", null)]
    public void OpenSIPS_is_known_by_its_modules(string modules, string? backEnd)
    {
        string program = Compile("opensips", "opensips 3.4.2", "-pie");

        ServerFacts facts = ReadRunning(program, [.. modules.Split(',').Select(module => Library($"lib/opensips/modules/{module}.so"))]);

        facts.Kamailio.ShouldBeNull("it is none");
        facts.TlsThreadsMode.ShouldBeNull();
        facts.OpenSsl.ShouldBeNull();
        facts.Modules.ShouldBe(modules.Split(','));
        facts.TlsBackEnd.ShouldBe(backEnd);
    }

    [Fact]
    public void The_systems_libcrypto_tells_the_version_that_its_program_tells()
    {
        string path = new LibraryScan().Libraries([]).Paths.FirstOrDefault() ?? string.Empty;
        Tools.Require(path.Length > 0, "libcrypto");

        string? version = ReadRunning(Compile("kamailio", "kamailio 6.1.0 ()", "-pie"), path).OpenSsl;

        // OpenSSL 3.0.19 27 Jan 2026 (Library: OpenSSL 3.0.19 27 Jan 2026)
        Tools.Run("openssl", "version").ShouldContain($"(Library: OpenSSL {version} ");
    }

    [Fact]
    public void A_server_that_is_not_there_has_no_facts()
    {
        using Process process = Tools.Start("/bin/true");
        process.WaitForExit();

        _reader.Read(new(process.Id, 1)).ShouldBe(ServerFacts.Unknown);
        ProcessId self = SlotsTarget.IdOf(Environment.ProcessId);
        _reader.Read(self with { StartTicks = self.StartTicks + 1 }).ShouldBe(ServerFacts.Unknown);
        _reader.Read(new(0, 0)).ShouldBe(ServerFacts.Unknown);
    }

    [Theory]
    [InlineData("kamailio 5.6.3 (x86_64/linux)", "5.6.3")]
    [InlineData("kamailio 6.1.0-dev2\0rubbish", "6.1.0-dev2")]
    [InlineData("kamailio 5\u001b[31m", "5?[31m")]
    [InlineData("kamailio ", null)]
    [InlineData("kamailio x", null)]
    [InlineData("opensips 3.4.2", null)]
    [InlineData("", null)]
    public void Kamailios_version_is_taken_from_a_text_that_is_one(string text, string? version) =>
        ServerFactsReader.ParseKamailio(Encoding.Latin1.GetBytes(text)).ShouldBe(version);

    [Theory]
    [InlineData("OpenSSL 3.0.19 27 Jan 2026", "3.0.19")]
    [InlineData("xOpenSSL 1.1.1w  11 Sep 2023", null)]
    [InlineData("OpenSSL 1.1.1w 11 Sep 2023", "1.1.1w")]
    [InlineData("OpenSSL 3.6.0-beta1 2 Sep 2025", "3.6.0-beta1")]
    [InlineData("OpenSSL OpenSSL 3.6.0 2 Sep 2025", "3.6.0")]
    [InlineData("OpenSSL 3.6.0 2 Sep 202", null)]
    [InlineData("OpenSSL 3.6 2 Sep 2025", null)]
    [InlineData("OpenSSL\u00a03.6.0 2 Sep 2025", null)]
    [InlineData("OpenSSL ", null)]
    [InlineData("OpenSSL 10000000000000000000000000000000000000000000000000000000000000000.0.0 1 Jan 2026", null)]
    public void OpenSSLs_version_has_a_number_and_a_date(string text, string? version) =>
        ServerFactsReader.FindOpenSsl(Encoding.Latin1.GetBytes(text)).ShouldBe(version);

    [Theory]
    [InlineData("/usr/lib/x86_64-linux-gnu/kamailio/modules/tls.so", "tls")]
    [InlineData("/usr/lib64/opensips/modules/proto_tls.so", "proto_tls")]
    [InlineData("/kamailio/modules/a\nb.so", "a?b")]
    [InlineData("/kamailio/modules/.so", null)]
    [InlineData("/kamailio/modules/tls.so.1", null)]
    [InlineData("/kamailio/tls.so", null)]
    [InlineData("/asterisk/modules/tls.so", null)]
    [InlineData(null, null)]
    public void A_module_is_known_by_where_it_lies(string? path, string? module) =>
        ServerModule.NameOf(path).ShouldBe(module);

    private string Compile(string name, string version, params string[] options)
    {
        Tools.Run("gcc", ["-O1", "-rdynamic", "-o", _scratch[name], $"-DVERSION=\"{version}\"", $"{Tools.Targets}/facts.c", "-ldl", .. options]);
        return _scratch[name];
    }

    private string Library(string name, params string[] texts)
    {
        string source = _scratch.Write($"{name}.c", string.Concat(texts.Select(static (text, i) => $"const char text{i}[] = \"{text}\";\n")) + "void function(void) {}");
        Tools.Run("gcc", "-fPIC", "-shared", "-o", _scratch[name], source);
        return _scratch[name];
    }

    private ServerFacts ReadRunning(string program, params string[] libraries)
    {
        using Process process = Tools.Start(program, libraries);
        try
        {
            process.StandardOutput.ReadLine().ShouldBe("ready");
            return _reader.Read(SlotsTarget.IdOf(process.Id));
        }
        finally
        {
            process.StandardInput.Close();
            process.WaitForExit();
        }
    }
}
