using System.Text.Json.Nodes;

namespace KamOtel.EndToEndTests;

/// <summary>The objects of a JSON document, for tests that spoil one after the other.</summary>
internal static class JsonTree
{
    /// <summary>Every field, with the path of the object that has it.</summary>
    public static IEnumerable<(string Path, string Field)> Fields(JsonNode node, string path = "") => node switch
    {
        JsonObject form => form.SelectMany(field => field.Value is null
            ? [(path, field.Key)]
            : Fields(field.Value, $"{path}/{field.Key}").Prepend((path, field.Key))),
        JsonArray list => list.SelectMany((item, number) => item is null ? [] : Fields(item, $"{path}/{number}")),
        _ => [],
    };

    /// <summary>What stands at a path.</summary>
    public static JsonNode At(JsonNode document, string path)
    {
        foreach (string step in path.Split('/', StringSplitOptions.RemoveEmptyEntries))
        {
            document = document is JsonArray list ? list[int.Parse(step)]! : document[step]!;
        }
        return document;
    }

    /// <summary>Every object.</summary>
    public static IEnumerable<JsonObject> Objects(JsonNode? node) => node switch
    {
        JsonObject form => form.SelectMany(static field => Objects(field.Value)).Prepend(form),
        JsonArray list => list.SelectMany(Objects),
        _ => [],
    };
}
