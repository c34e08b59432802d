using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

public sealed class OtlpSettingsTests
{
    private readonly Dictionary<string, string> _environment = [];

    [Fact]
    public void Nothing_is_sent_unless_an_endpoint_is_named() => Load().Any.ShouldBeFalse();

    [Fact]
    public void One_endpoint_serves_all_signals()
    {
        _environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4317";
        OtlpSettings settings = Load();
        (settings.Logs, settings.Traces, settings.Metrics).ShouldBe((true, true, true));
        settings.MetricIntervalMs.ShouldBe(60_000);
    }

    [Fact]
    public void A_signal_may_have_its_own_endpoint_or_none()
    {
        _environment["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] = "http://127.0.0.1:4318/v1/metrics";
        _environment["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"] = "http/protobuf";
        OtlpSettings settings = Load();
        (settings.Logs, settings.Traces, settings.Metrics).ShouldBe((false, false, true));
        settings.For("METRICS").Endpoint.ShouldBe(new Uri("http://127.0.0.1:4318/v1/metrics"));

        _environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4317";
        _environment["OTEL_TRACES_EXPORTER"] = "none";
        settings = Load();
        (settings.Logs, settings.Traces, settings.Metrics).ShouldBe((true, false, true));
    }

    [Fact]
    public void The_switch_of_the_standard_turns_all_off()
    {
        _environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4317";
        _environment["OTEL_SDK_DISABLED"] = "true";
        Load().Any.ShouldBeFalse();
    }

    [Theory]
    [InlineData("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]
    [InlineData("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://collector")]
    [InlineData("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "collector")]
    [InlineData("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]
    [InlineData("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "udp")]
    [InlineData("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")]
    [InlineData("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "-1")]
    [InlineData("OTEL_METRIC_EXPORT_INTERVAL", "0")]
    [InlineData("OTEL_BLRP_MAX_QUEUE_SIZE", "large")]
    [InlineData("OTEL_METRICS_EXPORTER", "prometheus")]
    public void A_variable_that_cannot_be_is_named(string name, string value)
    {
        _environment[name] = value;
        string message = Should.Throw<UsageException>(Load).Message;
        message.ShouldContain(name);
        message.ShouldContain(value);
    }

    [Theory]
    [InlineData("hunter2")]
    [InlineData("=hunter2")]
    [InlineData("a hunter2=1")]
    [InlineData(",key=hunter2")]
    [InlineData("key=1,,other=hunter2")]
    [InlineData("key=one%2Chunter2")]
    [InlineData("key=hunt%0Aer2")]
    public void Headers_that_are_none_are_named_and_not_shown(string value)
    {
        foreach (string name in new[] { "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_LOGS_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_METRICS_HEADERS" })
        {
            _environment.Clear();
            _environment[name] = value;
            string message = Should.Throw<UsageException>(Load).Message;
            message.ShouldContain($"{name}: item ");
            message.ShouldContain("NAME=VALUE");
            message.ShouldNotContain("hunter");
            message.ShouldNotContain(value);
        }
    }

    [Theory]
    [InlineData("authorization=Bearer abc==")]
    [InlineData("authorization=Basic%20abc%3D,x-scope-orgid = 1,")]
    [InlineData("empty=")]
    public void Headers_in_their_form_are_taken(string value)
    {
        _environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4317";
        _environment["OTEL_EXPORTER_OTLP_LOGS_HEADERS"] = value;
        _environment["OTEL_EXPORTER_OTLP_HEADERS"] = value;
        Load().For("LOGS").Headers.ShouldBe(value);
    }

    [Theory]
    [InlineData("OTEL_EXPORTER_OTLP_CERTIFICATE")]
    [InlineData("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE")]
    [InlineData("OTEL_EXPORTER_OTLP_CLIENT_KEY")]
    public void A_file_that_is_not_there_is_named_with_its_variable(string name)
    {
        _environment[name] = "/nonexistent/ca.pem";
        Should.Throw<UsageException>(Load).Message.ShouldStartWith($"{name}: '/nonexistent/ca.pem' cannot be read");
        _environment[name] = typeof(OtlpSettings).Assembly.Location;
        Load().OwnCertificates.ShouldBeTrue();
    }

    private OtlpSettings Load() => OtlpSettings.FromEnvironment(name => _environment.GetValueOrDefault(name));
}
