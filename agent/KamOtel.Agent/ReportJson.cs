using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace KamOtel.Agent;

/// <summary>All that kamotel tells as JSON, but recordings: camelCase, nulls written.</summary>
[JsonSerializable(typeof(ScanReport))]
[JsonSerializable(typeof(DoctorReport))]
[JsonSerializable(typeof(FleetReport))]
[JsonSerializable(typeof(InstanceReport))]
[JsonSerializable(typeof(BeatReport))]
[JsonSerializable(typeof(GoneReport))]
[JsonSerializable(typeof(ErrorReport))]
[JsonSerializable(typeof(DrillReport))]
internal sealed partial class ReportJson : JsonSerializerContext
{
    /// <summary>For standard output: paths are to be read by people, and nothing there goes into a web page as it is.</summary>
    public static ReportJson Readable { get; } = new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });

    /// <summary>For the status page: one line, and nothing in it that a browser would take for a tag.</summary>
    public static ReportJson Compact { get; } = new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        Converters = { new MillisecondsConverter() },
    });

    /// <summary>Times as ISO 8601 in UTC, with milliseconds.</summary>
    private sealed class MillisecondsConverter : JsonConverter<DateTimeOffset>
    {
        public override DateTimeOffset Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetDateTimeOffset();

        public override void Write(Utf8JsonWriter writer, DateTimeOffset value, JsonSerializerOptions options) =>
            writer.WriteStringValue(value.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture));
    }
}
