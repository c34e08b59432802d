using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace KamOtel.Dashboards;

/// <summary>A value of the Helm chart, as <c>values.yaml</c> describes it.</summary>
/// <param name="Path">Where it is: <c>image.tag</c>.</param>
/// <param name="Default">What it is by default, as JSON.</param>
/// <param name="Description">The comment before it that begins with <c># --</c>.</param>
internal sealed record ChartValue(string Path, string Default, string Description)
{
    private const string Mark = "# -- ";

    /// <summary>All values in their order. What has a description is told as a whole, and its parts are not.</summary>
    /// <param name="yaml">The text of <c>values.yaml</c>.</param>
    /// <exception cref="InvalidOperationException">A value has no description.</exception>
    public static IReadOnlyList<ChartValue> Read(string yaml)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(yaml));
        string[] lines = yaml.Split('\n');
        var values = new List<ChartValue>();
        Collect((YamlMappingNode)stream.Documents[0].RootNode, "");
        return values;

        void Collect(YamlMappingNode mapping, string prefix)
        {
            foreach ((YamlNode key, YamlNode value) in mapping.Children)
            {
                string path = prefix + ((YamlScalarNode)key).Value;
                if (DescriptionBefore((int)key.Start.Line - 1) is { } description)
                {
                    values.Add(new ChartValue(path, Json.Line(ToJson(value)!), description));
                }
                else if (value is YamlMappingNode { Children.Count: > 0 } parts)
                {
                    Collect(parts, path + ".");
                }
                else
                {
                    throw new InvalidOperationException($"values.yaml: {path} has no description ({Mark}…)");
                }
            }
        }

        string? DescriptionBefore(int line)
        {
            var text = new StringBuilder();
            for (int at = line - 1; at >= 0 && lines[at].TrimStart() is ['#', ..] comment; at--)
            {
                if (comment.StartsWith(Mark, StringComparison.Ordinal))
                {
                    return text.Insert(0, comment[Mark.Length..]).ToString();
                }
                _ = text.Insert(0, comment[1..]);
            }
            return null;
        }
    }

    private static JsonNode ToJson(YamlNode node) => node switch
    {
        YamlMappingNode mapping => new JsonObject(mapping.Children.Select(static c => KeyValuePair.Create(((YamlScalarNode)c.Key).Value!, (JsonNode?)ToJson(c.Value)))),
        YamlSequenceNode sequence => new JsonArray([.. sequence.Children.Select(ToJson)]),
        YamlScalarNode { Style: ScalarStyle.Plain, Value: { } plain } when plain is "true" or "false" || double.TryParse(plain, CultureInfo.InvariantCulture, out _) => JsonNode.Parse(plain)!,
        YamlScalarNode scalar => JsonValue.Create(scalar.Value)!,
        _ => throw new InvalidOperationException($"values.yaml: {node.NodeType} at line {node.Start.Line} is not expected"),
    };
}
