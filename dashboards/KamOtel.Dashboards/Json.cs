using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>Writing JSON.</summary>
internal static class Json
{
    private static readonly JsonSerializerOptions Readable = new() { WriteIndented = true, NewLine = "\n", Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    private static readonly JsonSerializerOptions Dense = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>As text, to be read in reviews.</summary>
    public static string Text(JsonNode node) => node.ToJsonString(Readable) + "\n";

    /// <summary>On one line.</summary>
    public static string Line(JsonNode node) => node.ToJsonString(Dense);

    /// <summary>A list of texts.</summary>
    public static JsonArray Array(params IEnumerable<string> items) => [.. items.Select(static i => (JsonNode?)i)];

    /// <summary>A list.</summary>
    public static JsonArray Array(IEnumerable<JsonNode> items) => [.. items];
}
