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
        Message.IsOne(ended);
    }

    [Theory]
    [InlineData("192.0.2.1")]
    [InlineData("[2001:db8::1]")]
    public async Task An_address_that_is_not_ours_is_named(string host)
    {
        Requirements.Bpf();
        string address = $"{host}:{Scratch.FreePort()}";
        Ended ended = await Run("run", "--listen", address);

        ended.Code.ShouldBe(69, ended.ToString());
        ended.Errors.ShouldContain($"{address} cannot be listened on: ");
        Message.IsOne(ended);
    }

    [Fact]
    public async Task A_working_directory_that_is_gone_does_not_matter()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        await using RunningProgram agent = RunningProgram.Start(
            "bash", ["-c", "mkdir \"$1\" && cd \"$1\" && rmdir \"$1\" && exec \"$0\" run --listen 127.0.0.1:0", Requirements.Binary, scratch["gone"]]);
        await Until.True("the agent to listen", () => agent.Errors.Contains("listening on", StringComparison.Ordinal), TimeSpan.FromSeconds(20), agent.ToString);
        agent.Send(Signal.Terminate);
        (await agent.End()).Code.ShouldBe(0, agent.ToString());
    }

    [Fact]
    public async Task A_doubtful_setting_is_a_warning()
    {
        Requirements.Bpf();
        await using RunningProgram agent = RunningProgram.Start(
            Requirements.Binary,
            ["run", "--listen", "127.0.0.1:0", "--library-path", "/etc/passwd"],
            new Dictionary<string, string?> { ["KAMOTEL_LISSTEN"] = "127.0.0.1:1", ["KAMOTEL_BINARY"] = "x" });
        await Until.True("the agent to listen", () => agent.Errors.Contains("listening on", StringComparison.Ordinal), state: agent.ToString);
        agent.Errors.ShouldContain("warning: KAMOTEL_LISSTEN is no setting");
        agent.Errors.ShouldNotContain("KAMOTEL_BINARY");
        agent.Errors.ShouldContain("no directory /etc/passwd");
        agent.Send(Signal.Terminate);
        (await agent.End()).Code.ShouldBe(0, agent.ToString());
    }

    [Theory]
    [InlineData("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")]
    [InlineData("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "not a name=hunter2")]
    public async Task Malformed_headers_are_named_and_not_shown(string name, string value)
    {
        Requirements.Agent();
        var environment = new Dictionary<string, string?> { ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1", [name] = value };
        Ended ended = await RunningProgram.Run(Requirements.Binary, ["run", "--listen", $"127.0.0.1:{Scratch.FreePort()}"], environment);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Errors.ShouldContain($"{name}: item 1 is not of the form NAME=VALUE");
        ended.Errors.ShouldNotContain("hunter2");
        Message.IsOne(ended);
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
    [InlineData("run", "--watch", "kamailio,")]
    [InlineData("run", "--listen", "127.0.0.1:0", "--listen")]
    public async Task A_usage_error_ends_with_code_64_and_points_to_the_help(params string[] arguments)
    {
        Requirements.Agent();
        Ended ended = await Run(arguments);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Output.ShouldBeEmpty();
        ended.Errors.ShouldStartWith("kamotel: error: ");
        ended.Errors.ShouldContain("--help");
        Message.IsOne(ended);
    }

    [Theory]
    [InlineData("KAMOTEL_RING_BYTES", "many")]
    [InlineData("KAMOTEL_LISTEN", ":::")]
    [InlineData("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")]
    [InlineData("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")]
    [InlineData("OTEL_METRIC_EXPORT_INTERVAL", "-1")]
    [InlineData("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem")]
    [InlineData("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/nonexistent/client.pem")]
    [InlineData("OTEL_EXPORTER_OTLP_CERTIFICATE", "/etc/passwd")] // There, and no certificate.
    public async Task A_wrong_variable_is_named(string name, string value)
    {
        Requirements.Agent();
        var environment = new Dictionary<string, string?> { ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1", [name] = value };
        Ended ended = await RunningProgram.Run(Requirements.Binary, ["run", "--listen", $"127.0.0.1:{Scratch.FreePort()}"], environment);

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Errors.ShouldContain(name);
        ended.Errors.ShouldContain(value);
        Message.IsOne(ended);
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
        Message.IsOne(ended);
    }

    [Theory]
    [InlineData(69, "run", "--listen", "127.0.0.1:0")]
    [InlineData(2, "scan")]
    public async Task A_process_namespace_of_its_own_is_named(int code, params string[] arguments)
    {
        Requirements.Bpf();
        Requirements.Program("unshare");
        Ended ended = await RunningProgram.Run("unshare", ["--pid", "--fork", "--mount-proc", Requirements.Binary, .. arguments]);

        ended.Code.ShouldBe(code, ended.ToString());
        ended.Output.ShouldBeEmpty();
        ended.Errors.ShouldContain("--pid=host");
        Message.IsOne(ended);
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
        Message.IsOne(ended);
    }

    [Fact]
    public async Task Help_and_version_speak_on_standard_output()
    {
        Requirements.Agent();
        Ended help = await Run("--help");
        help.Code.ShouldBe(0, help.ToString());
        help.Errors.ShouldBeEmpty();
        help.Output.ShouldContain("run");
        help.Output.ShouldContain("scan");
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
}
