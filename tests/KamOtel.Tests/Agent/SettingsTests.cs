using System.Net;
using KamOtel.Agent;
using Microsoft.Extensions.Logging;

namespace KamOtel.Tests.Agent;

public sealed class SettingsTests : IDisposable
{
    private readonly string _file = Path.GetTempFileName();
    private readonly Dictionary<string, string> _environment = [];
    private readonly List<(Setting, IReadOnlyList<string>)> _commandLine = [];

    public SettingsTests() => File.WriteAllText(_file, "{}");

    [Fact]
    public void Without_a_word_the_defaults_hold()
    {
        RunOptions options = Configuration.Load(null, static _ => null, []);

        options.Listen.ShouldBe(new IPEndPoint(IPAddress.Loopback, 9464));
        options.Watch.ShouldBe(["kamailio", "opensips"]);
        options.RingBytes.ShouldBe(4 << 20);
        options.SettleSeconds.ShouldBe(1);
        options.LibraryPath.ShouldBeEmpty();
        options.SystemLibraries.ShouldBeTrue();
        options.LogLevel.ShouldBe(LogLevel.Information);
        options.LogJson.ShouldBeFalse();
    }

    [Fact]
    public void The_environment_wins_over_the_file_and_the_command_line_over_both()
    {
        File.WriteAllText(_file, """{ "listen": "127.0.0.1:1", "watch": ["a"], "ringBytes": 4096, "Settle": 2 }""");
        _environment["KAMOTEL_LISTEN"] = "127.0.0.1:2";
        _environment["KAMOTEL_WATCH"] = "b, c";
        _commandLine.Add((Named("listen"), ["127.0.0.1:3"]));

        RunOptions options = Load();

        options.Listen!.Port.ShouldBe(3);
        options.Watch.ShouldBe(["b", "c"]);
        options.RingBytes.ShouldBe(4096);
        options.SettleSeconds.ShouldBe(2, "keys are found whatever their case");
    }

    [Fact]
    public void Every_setting_has_its_own_option_and_variable()
    {
        Settings.All.Select(static s => s.Option).ShouldBeUnique();
        Named("ringBytes").Option.ShouldBe("--ring-bytes");
        Named("ringBytes").Variable.ShouldBe("KAMOTEL_RING_BYTES");
        Named("listen").Variable.ShouldBe("KAMOTEL_LISTEN");
    }

    [Theory]
    [InlineData("listen", "[::1]:9464")]
    [InlineData("listen", "0.0.0.0:0")]
    [InlineData("watch", "my-kamailio")]
    [InlineData("ringBytes", "4096")]
    [InlineData("ringBytes", "1073741824")]
    [InlineData("settle", "0.05")]
    [InlineData("settle", "600")]
    [InlineData("libraryPath", "/opt/lib")]
    [InlineData("systemLibraries", "False")]
    [InlineData("logLevel", "DEBUG")]
    [InlineData("logFormat", "json")]
    public void A_value_in_its_form_is_taken_from_anywhere(string key, string value)
    {
        _environment[Named(key).Variable] = value;
        _ = Load();
        _environment.Clear();
        _commandLine.Add((Named(key), [value]));
        _ = Load();
        _commandLine.Clear();
        File.WriteAllText(_file, $$"""{ "{{key}}": "{{value}}" }""");
        _ = Load();
    }

    [Theory]
    [InlineData("listen", "9464")]
    [InlineData("listen", "::1")]
    [InlineData("listen", "localhost:9464")]
    [InlineData("listen", "127.0.0.1:65536")]
    [InlineData("watch", "/usr/sbin/kamailio")]
    [InlineData("ringBytes", "4095")]
    [InlineData("ringBytes", "2048")]
    [InlineData("ringBytes", "5000")]
    [InlineData("ringBytes", "2147483648")]
    [InlineData("ringBytes", "4 MiB")]
    [InlineData("settle", "0")]
    [InlineData("settle", "NaN")]
    [InlineData("settle", "-1")]
    [InlineData("settle", "601")]
    [InlineData("libraryPath", "lib")]
    [InlineData("systemLibraries", "yes")]
    [InlineData("logLevel", "none")]
    [InlineData("logLevel", "2")]
    [InlineData("logLevel", "loud")]
    [InlineData("logFormat", "xml")]
    public void A_value_out_of_form_is_named_with_its_source_and_its_form(string key, string value)
    {
        Setting setting = Named(key);
        _environment[setting.Variable] = value;
        Says(setting.Variable, value, setting.Form);
        _environment.Clear();

        _commandLine.Add((setting, [value]));
        Says(setting.Option, value, setting.Form);
        _commandLine.Clear();

        File.WriteAllText(_file, $$"""{ "{{key}}": "{{value}}" }""");
        Says(_file, key, value, setting.Form);
    }

    [Theory]
    [InlineData("", "no valid JSON")]
    [InlineData("{", "no valid JSON in line 1")]
    [InlineData("[]", "an object")]
    [InlineData("""{ "lisen": "x" }""", "unknown key \"lisen\"; known are listen")]
    [InlineData("""{ "listen": ["127.0.0.1:1"] }""", "a single value is expected")]
    [InlineData("""{ "listen": null }""", "a single value is expected")]
    [InlineData("""{ "watch": [1] }""", "an array of strings is expected")]
    [InlineData("""{ "watch": [] }""", "watch")]
    [InlineData("""{ "ringBytes": {} }""", "a single value is expected")]
    public void A_file_that_is_no_configuration_is_named(string content, string problem)
    {
        File.WriteAllText(_file, content);
        Says(_file, problem);
    }

    [Fact]
    public void A_file_that_cannot_be_read_is_named()
    {
        Should.Throw<UsageException>(static () => Configuration.Load("/nonexistent/kamotel.json", static _ => null, []))
            .Message.ShouldStartWith("/nonexistent/kamotel.json: cannot be read");
        Should.Throw<UsageException>(static () => Configuration.Load("/", static _ => null, []))
            .Message.ShouldStartWith("/: cannot be read");
    }

    [Fact]
    public void A_file_that_never_ends_is_no_configuration()
    {
        File.WriteAllText(_file, new string(' ', (1 << 20) + 1));
        Says(_file, "larger than");
    }

    [Fact]
    public void Comments_trailing_commas_and_a_schema_are_welcome_in_the_file()
    {
        File.WriteAllText(_file, """
            {
              "$schema": "config.schema.json",
              // Where Prometheus finds it.
              "listen": "127.0.0.1:7",
              "systemLibraries": false,
            }
            """);
        RunOptions options = Load();
        options.Listen!.Port.ShouldBe(7);
        options.SystemLibraries.ShouldBeFalse();
    }

    [Fact]
    public void Names_may_be_separated_by_commas_wherever_they_come_from()
    {
        _commandLine.Add((Named("watch"), ["kamailio,opensips", "kamailio"]));
        Load().Watch.ShouldBe(["kamailio", "opensips"]);
        _commandLine.Clear();
        File.WriteAllText(_file, """{ "watch": "kamailio, opensips" }""");
        Load().Watch.ShouldBe(["kamailio", "opensips"]);
        File.WriteAllText(_file, """{ "watch": "kamailio," }""");
        Says(_file, "watch", "NAME");
    }

    [Fact]
    public void More_names_than_are_taken_are_counted()
    {
        string[] names = [.. Enumerable.Range(0, 70).Select(static i => $"name{i}")];
        _commandLine.Add((Named("watch"), names[..64]));
        Load().Watch.Length.ShouldBe(64);
        _commandLine[0] = (Named("watch"), names);
        Says("--watch", "70 names are given", "1 to 64");
        _commandLine.Clear();
        File.WriteAllText(_file, """{ "watch": [] }""");
        Says(_file, "watch", "0 names are given", "1 to 64");
    }

    [Fact]
    public void A_variable_that_is_no_setting_is_named()
    {
        string[] known = [.. Settings.All.Select(static s => s.Variable), "KAMOTEL_BINARY", "KAMOTEL_SERVICE_HOST", "KAMOTEL_PORT_9464_TCP", "PATH", "OTEL_SERVICE_NAME"];
        Settings.Warnings(new RunOptions(), known).ShouldBeEmpty();
        Settings.Warnings(new RunOptions(), [.. known, "KAMOTEL_LISSTEN", "KAMOTEL_CONFIG"]).Select(static w => w.Split(' ')[0])
            .ShouldBe(["KAMOTEL_CONFIG", "KAMOTEL_LISSTEN"]);
    }

    [Fact]
    public void Names_that_the_kernel_cuts_are_known()
    {
        _commandLine.Add((Named("watch"), ["kamailio", "kamailio-of-the-north"]));
        Settings.CutNames(Load()).ShouldBe([("kamailio-of-the-north", "kamailio-of-the")]);
    }

    public void Dispose() => File.Delete(_file);

    private static Setting Named(string key) => Settings.All.Single(s => s.Key == key);

    private RunOptions Load() => Configuration.Load(_file, name => _environment.GetValueOrDefault(name), _commandLine);

    private void Says(params string[] words)
    {
        string message = Should.Throw<UsageException>(Load).Message;
        foreach (string word in words)
        {
            message.ShouldContain(word);
        }
        message.ShouldNotContain("\n");
    }
}
