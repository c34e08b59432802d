using System.Buffers;
using OpenTelemetry.Exporter;

namespace KamOtel.Agent;

/// <summary>Where OTLP goes, by the standard <c>OTEL_*</c> variables. Nothing is sent unless an endpoint is set.</summary>
internal sealed class OtlpSettings
{
    /// <summary>Read by the SDK, which takes its default for what is no number, and says nothing.</summary>
    private static readonly string[] Numbers =
    [
        "OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT",
        "OTEL_BLRP_SCHEDULE_DELAY", "OTEL_BLRP_EXPORT_TIMEOUT", "OTEL_BLRP_MAX_QUEUE_SIZE", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
        "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    ];

    /// <summary>Files that the SDK reads for TLS.</summary>
    private static readonly string[] Files = ["OTEL_EXPORTER_OTLP_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "OTEL_EXPORTER_OTLP_CLIENT_KEY"];

    /// <summary>What may stand in a header's name, by RFC 9110.</summary>
    private static readonly SearchValues<char> NameCharacters =
        SearchValues.Create("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

    private readonly Func<string, string?> _environment;

    private OtlpSettings(Func<string, string?> environment) => _environment = environment;

    public bool Logs { get; private init; }

    public bool Traces { get; private init; }

    public bool Metrics { get; private init; }

    public bool Any => Logs || Traces || Metrics;

    /// <summary>Certificates or keys of one's own are named.</summary>
    public bool OwnCertificates => Files.Any(name => Value(_environment, name) is not null);

    /// <summary>The variables that are the likely cause when the SDK refuses the settings.</summary>
    public string Suspects => OwnCertificates ? string.Join(", ", Files.Where(name => Value(_environment, name) is not null)) : "OTEL_EXPORTER_OTLP_*";

    /// <summary>How often metrics are sent, in milliseconds.</summary>
    public int MetricIntervalMs { get; private init; } = 60_000;

    /// <exception cref="UsageException">A variable has no valid value.</exception>
    public static OtlpSettings FromEnvironment(Func<string, string?> environment)
    {
        bool disabled = string.Equals(environment("OTEL_SDK_DISABLED"), "true", StringComparison.OrdinalIgnoreCase);
        bool On(string signal)
        {
            string exporter = Value(environment, $"OTEL_{signal}_EXPORTER") ?? "";
            if (exporter is not ("" or "otlp" or "none"))
            {
                throw new UsageException($"OTEL_{signal}_EXPORTER: '{exporter}' is not one of otlp, none");
            }
            bool named = Value(environment, "OTEL_EXPORTER_OTLP_ENDPOINT") is not null || Value(environment, $"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT") is not null;
            return !disabled && exporter != "none" && (named || exporter == "otlp");
        }
        foreach (string name in Numbers)
        {
            _ = Number(environment, name);
        }
        var settings = new OtlpSettings(environment)
        {
            Logs = On("LOGS"),
            Traces = On("TRACES"),
            Metrics = On("METRICS"),
            MetricIntervalMs = Number(environment, "OTEL_METRIC_EXPORT_INTERVAL") ?? 60_000,
        };
        foreach (string signal in new[] { "LOGS", "TRACES", "METRICS" })
        {
            _ = settings.For(signal); // What is wrong is said at the start, not at the first export.
        }
        return settings;
    }

    /// <summary>The exporter's options for a signal: <c>LOGS</c>, <c>TRACES</c> or <c>METRICS</c>.</summary>
    public OtlpExporterOptions For(string signal)
    {
        // The general variables are read by the options themselves.
        CheckUri("OTEL_EXPORTER_OTLP_ENDPOINT");
        CheckProtocol("OTEL_EXPORTER_OTLP_PROTOCOL");
        _ = CheckHeaders("OTEL_EXPORTER_OTLP_HEADERS");
        foreach (string name in Files)
        {
            CheckFile(name);
        }
        var options = new OtlpExporterOptions();
        string prefix = $"OTEL_EXPORTER_OTLP_{signal}_";
        if (CheckProtocol(prefix + "PROTOCOL") is { } protocol)
        {
            options.Protocol = protocol == "grpc" ? OtlpExportProtocol.Grpc : OtlpExportProtocol.HttpProtobuf;
        }
        if (CheckUri(prefix + "ENDPOINT") is { } endpoint)
        {
            options.Endpoint = endpoint;
        }
        if (CheckHeaders(prefix + "HEADERS") is { } headers)
        {
            options.Headers = headers;
        }
        if (Number(_environment, prefix + "TIMEOUT") is { } timeout)
        {
            options.TimeoutMilliseconds = timeout;
        }
        return options;
    }

    private static string? Value(Func<string, string?> environment, string name) => environment(name) is { Length: > 0 } value ? value : null;

    private static int? Number(Func<string, string?> environment, string name) => Value(environment, name) switch
    {
        null => null,
        { } text => int.TryParse(text, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int number) && number > 0
            ? number
            : throw new UsageException($"{name}: '{text}' is not a number above 0"),
    };

    private Uri? CheckUri(string name) => Value(_environment, name) is not { } text
        ? null
        : Uri.TryCreate(text, UriKind.Absolute, out Uri? uri) && uri.Scheme is "http" or "https"
            ? uri
            : throw new UsageException($"{name}: '{text}' is not of the form http://HOST:PORT or https://HOST:PORT");

    /// <summary>The values are not shown: they are for passwords.</summary>
    private string? CheckHeaders(string name)
    {
        if (Value(_environment, name) is not { } text)
        {
            return null;
        }
        // As the SDK reads it: decoded first, then taken apart; the last may be empty.
        string[] items = Uri.UnescapeDataString(text).Split(',');
        for (int i = 0; i < items.Length; i++)
        {
            string[] pair = items[i].Split('=', 2);
            string header = pair[0].Trim();
            bool empty = i > 0 && i == items.Length - 1 && items[i].Length == 0;
            if (!empty && (pair.Length != 2 || header.Length == 0 || header.AsSpan().ContainsAnyExcept(NameCharacters) || pair[1].Any(char.IsControl)))
            {
                throw new UsageException($"{name}: item {i + 1} is not of the form NAME=VALUE; items are separated by commas (it is not shown, as it may be secret)");
            }
        }
        return text;
    }

    private void CheckFile(string name)
    {
        if (Value(_environment, name) is not { } path)
        {
            return;
        }
        try
        {
            using FileStream file = File.OpenRead(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{name}: '{path}' cannot be read: {e.Message}");
        }
    }

    private string? CheckProtocol(string name) => Value(_environment, name) switch
    {
        null => null,
        "grpc" => "grpc",
        "http/protobuf" => "http/protobuf",
        { } other => throw new UsageException($"{name}: '{other}' is not one of grpc, http/protobuf"),
    };
}
