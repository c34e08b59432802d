using System.Net;
using System.Net.Sockets;

namespace KamOtel.EndToEndTests;

/// <summary>What is wrong is said in one line, with the remedy, and an exit code; never with a stack trace.</summary>
public sealed class BadInputTests
{
    [Fact]
    public async Task A_port_that_is_taken_is_named()
    {
        Requirements.Bpf();
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        string address = listener.LocalEndpoint.ToString()!;

        Ended ended = await Run("run", "--listen", address);

        ended.Code.ShouldBe(69, ended.ToString());
        ended.Errors.ShouldContain(address);
        ended.Errors.ShouldContain("--listen");
        IsAMessage(ended);
    }

    [Theory]
    [InlineData("run", "--no-such-option")]
    [InlineData("no-such-command")]
    [InlineData("run", "--listen", "nowhere")]
    [InlineData("run", "--listen", "127.0.0.1:70000")]
    [InlineData("run", "--ring-bytes", "1000")]
    [InlineData("run", "--ring-bytes", "-4096")]
    [InlineData("run", "--settle", "soon")]
    [InlineData("run", "--config", "/nonexistent/kamotel.json")]
    [InlineData("run", "--watch")]
    public async Task A_usage_error_ends_with_code_64_and_points_to_the_help(params string[] arguments)
    {
        Requirements.Agent();
        Ended ended = await Run(arguments);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Output.ShouldBeEmpty();
        ended.Errors.ShouldStartWith("kamotel: error: ");
        ended.Errors.ShouldContain("--help");
        IsAMessage(ended);
    }

    [Theory]
    [InlineData("KAMOTEL_RING_BYTES", "many")]
    [InlineData("KAMOTEL_LISTEN", ":::")]
    [InlineData("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")]
    [InlineData("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")]
    [InlineData("OTEL_METRIC_EXPORT_INTERVAL", "-1")]
    public async Task A_wrong_variable_is_named(string name, string value)
    {
        Requirements.Agent();
        var environment = new Dictionary<string, string?> { ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1", [name] = value };
        Ended ended = await RunningProgram.Run(Requirements.Binary, ["run", "--listen", $"127.0.0.1:{Scratch.FreePort()}"], environment);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Errors.ShouldContain(name);
        ended.Errors.ShouldContain(value);
        IsAMessage(ended);
    }

    [Theory]
    [InlineData("{ \"listen\": ")]
    [InlineData("[]")]
    [InlineData("{ \"lissten\": \"127.0.0.1:0\" }")]
    [InlineData("{ \"ringBytes\": \"large\" }")]
    [InlineData("{ \"watch\": [1, 2] }")]
    [InlineData("")]
    public async Task A_malformed_configuration_file_is_named(string content)
    {
        Requirements.Agent();
        using var scratch = new Scratch();
        string file = scratch["kamotel.json"];
        await File.WriteAllTextAsync(file, content, TestContext.Current.CancellationToken);

        Ended ended = await Run("run", "--config", file);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Errors.ShouldContain(file);
        IsAMessage(ended);
    }

    [Fact]
    public async Task A_kernel_without_types_is_named()
    {
        Requirements.Bpf();
        Requirements.Program("unshare");
        Ended ended = await RunningProgram.Run(
            "unshare",
            ["--mount", "bash", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" run --listen 127.0.0.1:0", Requirements.Binary]);

        ended.Code.ShouldBe(69, ended.ToString());
        ended.Errors.ShouldContain("/sys/kernel/btf/vmlinux");
        ended.Errors.ShouldContain("CONFIG_DEBUG_INFO_BTF");
        IsAMessage(ended);
    }

    [Fact]
    public async Task Help_and_version_speak_on_standard_output()
    {
        Requirements.Agent();
        Ended help = await Run("--help");
        help.Code.ShouldBe(0, help.ToString());
        help.Errors.ShouldBeEmpty();
        help.Output.ShouldContain("run");
        Ended run = await Run("run", "--help");
        run.Code.ShouldBe(0, run.ToString());
        foreach (string option in new[] { "--listen", "--watch", "--ring-bytes", "--settle", "--follow", "--config" })
        {
            run.Output.ShouldContain(option);
        }
        Ended version = await Run("--version");
        version.Code.ShouldBe(0, version.ToString());
        version.Output.ShouldStartWith("kamotel ");
        version.Output.Trim().ShouldNotContain("\n");
    }

    private static Task<Ended> Run(params string[] arguments) => RunningProgram.Run(Requirements.Binary, arguments);

    private static void IsAMessage(Ended ended)
    {
        ended.Errors.ShouldNotContain("   at ");
        ended.Errors.ShouldNotContain("Exception");
        ended.Errors.Trim().Split('\n').Length.ShouldBeLessThanOrEqualTo(20);
    }
}
