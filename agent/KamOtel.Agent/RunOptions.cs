using System.Globalization;
using System.Net;

namespace KamOtel.Agent;

/// <summary>What <c>kamotel</c> can be told. <see cref="Settings"/> says how.</summary>
internal sealed class RunOptions
{
    /// <summary>Address and port of the status page, <c>/metrics</c>, <c>/healthz</c> and <c>/readyz</c>. Port 0 picks a free one; null: they are not served.</summary>
    public IPEndPoint? Listen { get; set; } = new(IPAddress.Loopback, 9464);

    /// <summary>PEM file with the certificate that is served with, and those between it and the CA. Empty: HTTP.</summary>
    public string TlsCertificate { get; set; } = "";

    /// <summary>PEM file with its key. Empty: it is in the same file.</summary>
    public string TlsKey { get; set; } = "";

    /// <summary>PEM file with the CA whose clients are served. Empty: all are.</summary>
    public string TlsClientCa { get; set; } = "";

    /// <summary>File of the names and passwords that are served. Empty: all are.</summary>
    public string BasicAuth { get; set; } = "";

    /// <summary>Names of the programs to watch, as the kernel knows them: the first 15 bytes count.</summary>
    public string[] Watch { get; set; } = ["kamailio", "opensips"];

    /// <summary>Size of the ring between kernel and agent, in bytes: a power of two and a multiple of the page size.</summary>
    public int RingBytes { get; set; } = 4 * 1024 * 1024;

    /// <summary>
    /// Quiet time after the last fork after which a server counts as started, and age at which a worker counts as settled:
    /// what it inherited and still has then, it keeps. In seconds.
    /// </summary>
    public double SettleSeconds { get; set; } = 1;

    /// <summary>Time between two inspections of a server in which nothing happens, in seconds.</summary>
    public double InspectEverySeconds { get; set; } = 60;

    /// <summary>How long the use of shared slots is watched after a hazard was found, in seconds; 0 switches it off.</summary>
    public double ConfirmSeconds { get; set; } = 2;

    /// <summary>More directories to search for libcrypto, beside the system's library paths.</summary>
    public string[] LibraryPath { get; set; } = [];

    /// <summary>Search the system's library paths for libcrypto at start. False: only <see cref="LibraryPath"/> and what watched processes map.</summary>
    public bool SystemLibraries { get; set; } = true;

    /// <summary>The least level that is logged.</summary>
    public LogLevel LogLevel { get; set; } = LogLevel.Information;

    /// <summary>Log lines as JSON objects.</summary>
    public bool LogJson { get; set; }

    /// <summary>What of it the fleet has to know.</summary>
    public Diagnosis.FleetOptions ForFleet() => new() { SettleNs = (ulong)(SettleSeconds * 1e9), InspectEveryNs = (ulong)(InspectEverySeconds * 1e9) };
}

/// <summary>The command line, the environment or the configuration file is wrong; the message says where and how it should be.</summary>
internal sealed class UsageException(string message) : Exception(message);

/// <summary>One thing that can be set: by <c>appsettings.json</c>, by the environment, by the command line; the later wins.</summary>
/// <param name="Key">Its key in the configuration file, in camelCase.</param>
/// <param name="Form">The form of a value, for help and errors.</param>
/// <param name="Help">What it does, with its default.</param>
/// <param name="IsList">It takes more than one value: repeated options, an array, a comma list.</param>
/// <param name="Apply">Sets it; throws <see cref="FormatException"/> when the value has not the form.</param>
internal sealed record Setting(string Key, string Form, string Help, bool IsList, Action<RunOptions, IReadOnlyList<string>> Apply)
{
    /// <summary>The values that it can have; empty when they are not fixed.</summary>
    public string[] Values { get; init; } = Form.Contains('|', StringComparison.Ordinal) ? Form.Split('|') : [];

    /// <summary>It is about serving, and nothing to a command that does not.</summary>
    public bool Serves { get; init; }

    /// <summary>The option on the command line.</summary>
    public string Option => "--" + Dashed('-').ToLowerInvariant();

    /// <summary>The environment variable.</summary>
    public string Variable => "KAMOTEL_" + Dashed('_').ToUpperInvariant();

    private string Dashed(char dash) => string.Concat(Key.Select(c => char.IsUpper(c) ? $"{dash}{c}" : $"{c}"));
}

/// <summary>The one table of all settings.</summary>
internal static class Settings
{
    private const int NameLength = 15;
    private const int MaxRing = 1 << 30;
    private const int MaxNames = 64;

    /// <summary>
    /// Variables that are no settings, and nobody's mistake: the scripts take the first; Kubernetes sets the others beside a
    /// service of that name.
    /// </summary>
    private static readonly string[] OtherVariables = ["KAMOTEL_BINARY", "KAMOTEL_PORT", "KAMOTEL_PORT_", "KAMOTEL_SERVICE_"];

    public static IReadOnlyList<Setting> All { get; } =
    [
        new("listen", "ADDRESS:PORT", "where the status page, /metrics, /healthz and /readyz are served; port 0 picks a free one (default 127.0.0.1:9464)", IsList: false, static (o, v) =>
            // Without brackets the last group of an IPv6 address would pass for a port.
            o.Listen = IPEndPoint.TryParse(v[0], out IPEndPoint? address) && v[0].AsSpan(v[0].LastIndexOf(']') + 1).Count(':') == 1 ? address : throw new FormatException()) { Serves = true },
        new("tlsCertificate", "FILE", "PEM file with the certificate, then those between it and the CA: HTTPS is served in place of HTTP (default none)", IsList: false, static (o, v) =>
            o.TlsCertificate = v[0]) { Serves = true },
        new("tlsKey", "FILE", "PEM file with the certificate's key (default: it is in the certificate's file)", IsList: false, static (o, v) =>
            o.TlsKey = v[0]) { Serves = true },
        new("tlsClientCa", "FILE", "PEM file with a CA: only clients with its certificates are served, but for /healthz and /readyz (default none)", IsList: false, static (o, v) =>
            o.TlsClientCa = v[0]) { Serves = true },
        new("basicAuth", "FILE", "file of those who are served but for /healthz and /readyz, a line NAME:HASH each as 'htpasswd -nB NAME' writes it (default none: all are)", IsList: false, static (o, v) =>
            o.BasicAuth = v[0]) { Serves = true },
        new("watch", "NAME", "name of a program to watch; may be repeated, or names separated by commas, 1 to 64 in all (default kamailio and opensips)", IsList: true, static (o, v) =>
            o.Watch = Names(v)),
        new("ringBytes", "BYTES", "size of the ring between kernel and agent: a power of two from 4096 to 1073741824 (default 4194304)", IsList: false, static (o, v) =>
            o.RingBytes = int.TryParse(v[0], NumberStyles.None, CultureInfo.InvariantCulture, out int n) && n is >= 4096 and <= MaxRing && (n & (n - 1)) == 0 ? n : throw new FormatException()),
        new("settle", "SECONDS", "quiet time after the last fork after which a server counts as started, and age at which a worker counts as settled, 0.05 to 600 (default 1)", IsList: false, static (o, v) =>
            o.SettleSeconds = Seconds(v[0], 0.05, 600)),
        new("inspectEvery", "SECONDS", "time between two inspections of a server in which nothing happens, 1 to 86400 (default 60)", IsList: false, static (o, v) =>
            o.InspectEverySeconds = Seconds(v[0], 1, 86400)),
        new("confirm", "SECONDS", "how long the use of shared slots is watched after a hazard was found, 0 to 60; 0 switches it off (default 2)", IsList: false, static (o, v) =>
            o.ConfirmSeconds = Seconds(v[0], 0, 60)),
        new("libraryPath", "DIRECTORY", "one more directory to search for libcrypto; may be repeated", IsList: true, static (o, v) =>
            o.LibraryPath = v.All(static d => d.StartsWith('/')) ? [.. v] : throw new FormatException()),
        new("systemLibraries", "true|false", "search the system's library paths for libcrypto at start (default true)", IsList: false, static (o, v) =>
            o.SystemLibraries = bool.TryParse(v[0], out bool b) ? b : throw new FormatException()),
        new("logLevel", "LEVEL", "least level that is logged: trace, debug, information, warning, error or critical (default information)", IsList: false, static (o, v) =>
            o.LogLevel = Enum.TryParse(v[0], ignoreCase: true, out LogLevel l) && Enum.IsDefined(l) && l != LogLevel.None && !char.IsDigit(v[0][0]) ? l : throw new FormatException())
        {
            Values = ["trace", "debug", "information", "warning", "error", "critical"],
        },
        new("logFormat", "text|json", "form of log lines (default text)", IsList: false, static (o, v) =>
            o.LogJson = v[0] switch { "text" => false, "json" => true, _ => throw new FormatException() }),
    ];

    /// <summary>Sets one thing, or says what is wrong with it.</summary>
    /// <param name="source">Where the value came from, for the error.</param>
    /// <exception cref="UsageException">The values have not the setting's form.</exception>
    public static void Apply(RunOptions options, Setting setting, IReadOnlyList<string> values, string source)
    {
        try
        {
            setting.Apply(options, values.Count > 0 || setting.IsList ? values : throw new FormatException());
        }
        catch (LimitException e)
        {
            throw new UsageException($"{source}: {e.Message}");
        }
        catch (FormatException)
        {
            throw new UsageException($"{source}: '{string.Join(",", values)}' is not of the form {setting.Form}: {setting.Help}");
        }
    }

    private static bool IsUnknown(string variable) =>
        variable.StartsWith("KAMOTEL_", StringComparison.Ordinal)
        && !OtherVariables.Any(other => other.EndsWith('_') ? variable.StartsWith(other, StringComparison.Ordinal) : variable == other)
        && All.All(s => s.Variable != variable);

    private static string[] Names(IReadOnlyList<string> values)
    {
        string[] names = [.. values.SelectMany(static v => v.Split(',', StringSplitOptions.TrimEntries)).Distinct(StringComparer.Ordinal)];
        return names.Any(static n => n.Length == 0 || n.Contains('/', StringComparison.Ordinal)) ? throw new FormatException()
            : names.Length is >= 1 and <= MaxNames ? names
            : throw new LimitException($"{names.Length} names are given, and 1 to {MaxNames} are taken");
    }

    private static double Seconds(string value, double least, double most) =>
        double.TryParse(value, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double seconds) && seconds >= least && seconds <= most ? seconds : throw new FormatException();

    /// <summary>What may not be as it was meant, though it is no error; a sentence each.</summary>
    /// <param name="options">What is in force.</param>
    /// <param name="variables">The names of all variables of the environment.</param>
    public static IEnumerable<string> Warnings(RunOptions options, IEnumerable<string> variables)
    {
        foreach (string name in variables.Where(IsUnknown).Order(StringComparer.Ordinal))
        {
            yield return $"{name} is no setting and changes nothing; 'kamotel run --help' lists them";
        }
        foreach ((string name, string cut) in CutNames(options))
        {
            yield return $"the kernel cuts the name {name} to {cut}: every program whose name begins so is watched";
        }
    }

    /// <summary>The names that the kernel will cut: what they are cut to.</summary>
    public static IEnumerable<(string Name, string Cut)> CutNames(RunOptions options) =>
        options.Watch
            .Select(static n => (Name: n, Cut: Diagnosis.TaskName.From(n).ToString()))
            .Where(static pair => System.Text.Encoding.UTF8.GetByteCount(pair.Name) > NameLength);

    /// <summary>As many values are not taken; the message says how many are.</summary>
    private sealed class LimitException(string message) : FormatException(message);
}
