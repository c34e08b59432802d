using System.Net;
using System.Net.Sockets;
using KamOtel.Agent;
using Microsoft.Extensions.Logging;
using OpenTelemetry.Exporter;

namespace KamOtel.Tests.Agent;

/// <summary>Exports that fail are said once, with the endpoint and the reason, and once when they work again.</summary>
public sealed class ExportReportTests : IDisposable
{
    private readonly TelemetryCounters _counters = new();
    private readonly StringWriter _log = new();

    [Fact]
    public void A_change_is_said_once_and_everything_is_counted()
    {
        ExportReport report = Make(out _);
        report.Ended(taken: true, 5);
        _log.ToString().ShouldBeEmpty("all is well from the first");
        report.Ended(taken: false, 2);
        report.Ended(taken: false, 3);
        report.Ended(taken: true, 1);
        report.Ended(taken: true, 1);

        string[] lines = _log.ToString().Split('\n', StringSplitOptions.RemoveEmptyEntries);
        lines.Length.ShouldBe(2);
        lines[0].ShouldStartWith("kamotel: warning: logs do not reach http://127.0.0.1:");
        lines[1].ShouldStartWith("kamotel: info: logs reach http://127.0.0.1:");
        _counters.Exported(Signal.Logs).ShouldBe(7);
        _counters.Dropped(Signal.Logs, DropReason.ExportFailed).ShouldBe(5);
    }

    [Fact]
    public async Task The_reason_is_what_the_request_met()
    {
        ExportReport report = Make(out OtlpExporterOptions options);
        using HttpClient client = options.HttpClientFactory();
        _ = await Should.ThrowAsync<HttpRequestException>(() => client.GetAsync(options.Endpoint, TestContext.Current.CancellationToken));
        report.Ended(taken: false, 1);
        _log.ToString().ShouldContain("Connection refused");
    }

    [Fact]
    public void A_password_in_the_address_is_not_shown()
    {
        ExportReport report = Make(out _, "http://user:secret@127.0.0.1:1/v1/logs?key=secret");
        report.Ended(taken: false, 1);
        _log.ToString().ShouldContain("http://127.0.0.1:1/v1/logs");
        _log.ToString().ShouldNotContain("secret");
    }

    public void Dispose() => _log.Dispose();

    private ExportReport Make(out OtlpExporterOptions options, string? endpoint = null)
    {
        var report = new ExportReport(Signal.Logs, _counters, new StderrLoggerProvider(_log, json: false).CreateLogger("test"));
        options = report.Watch(new OtlpExporterOptions { Endpoint = new Uri(endpoint ?? $"http://127.0.0.1:{DeadPort()}") }, ownCertificates: false);
        return report;
    }

    private static int DeadPort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
