using OpenTelemetry.Exporter;

namespace KamOtel.Agent;

/// <summary>
/// What becomes of the exports of one signal: each is counted; that they begin to fail is said once, and that they work
/// again is, too. One export at a time.
/// </summary>
internal sealed partial class ExportReport(Signal signal, TelemetryCounters counters, ILogger logger)
{
    private HttpResponseMessage? _answer;
    private string? _problem;
    private string _endpoint = "";
    private bool _failing;

    /// <summary>Where it goes; and, where TLS needs no files of its own, why not. The SDK itself tells nobody.</summary>
    public OtlpExporterOptions Watch(OtlpExporterOptions options, bool ownCertificates)
    {
        // Not what may stand before the host: a name and a password.
        _endpoint = options.Endpoint.GetComponents(UriComponents.SchemeAndServer | UriComponents.Path, UriFormat.UriEscaped);
        if (!ownCertificates)
        {
            options.HttpClientFactory = () => new HttpClient(new Observer(this)) { Timeout = TimeSpan.FromMilliseconds(options.TimeoutMilliseconds) };
        }
        return options;
    }

    /// <summary>An export ended.</summary>
    /// <param name="taken">The endpoint took it.</param>
    /// <param name="count">Log records or spans in it; 1 for metrics.</param>
    public void Ended(bool taken, long count)
    {
        if (taken)
        {
            counters.CountExported(signal, count);
        }
        else
        {
            counters.CountDropped(signal, DropReason.ExportFailed, count);
        }
        if (taken != _failing)
        {
            return;
        }
        _failing = !taken;
        if (_failing)
        {
            Failing(logger, Words.Of(signal), _endpoint, Problem() ?? "it did not take them");
        }
        else
        {
            Working(logger, Words.Of(signal), _endpoint);
        }
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Signal} do not reach {Endpoint}: {Reason}; what is lost is counted (kamotel_telemetry_dropped_total)")]
    private static partial void Failing(ILogger logger, string signal, string endpoint, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "{Signal} reach {Endpoint} again")]
    private static partial void Working(ILogger logger, string signal, string endpoint);

    /// <summary>In the headers when there is no body, else behind it.</summary>
    private static string? GrpcStatus(HttpResponseMessage response) =>
        (response.Headers.TryGetValues("grpc-status", out IEnumerable<string>? values) || response.TrailingHeaders.TryGetValues("grpc-status", out values))
        && values.FirstOrDefault() is { } status and not "0" ? status : null;

    /// <summary>What was wrong with the latest request, as far as its answer tells.</summary>
    private string? Problem() => _problem ?? (_answer is not { } answer ? null
        : !answer.IsSuccessStatusCode ? $"it answered with HTTP status {(int)answer.StatusCode}"
        : GrpcStatus(answer) is { } status ? $"it answered with gRPC status {status}" : null);

    /// <summary>Notes how each request ends.</summary>
    private sealed class Observer(ExportReport report) : DelegatingHandler(new HttpClientHandler())
    {
        protected override HttpResponseMessage Send(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            try
            {
                return Answered(base.Send(request, cancellationToken));
            }
            catch (Exception e)
            {
                Failed(e);
                throw;
            }
        }

        protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
        {
            try
            {
                return Answered(await base.SendAsync(request, cancellationToken));
            }
            catch (Exception e)
            {
                Failed(e);
                throw;
            }
        }

        private HttpResponseMessage Answered(HttpResponseMessage answer)
        {
            (report._answer, report._problem) = (answer, null);
            return answer;
        }

        private void Failed(Exception e) =>
            (report._answer, report._problem) = (null, e is OperationCanceledException ? "no answer in time" : e.Message);
    }
}
