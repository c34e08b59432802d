using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace KamOtel.Dashboards;

/// <summary>YAML that reads well: keys in the order given, expressions over several lines as they are.</summary>
internal static class Yaml
{
    /// <summary>A mapping.</summary>
    public static YamlMappingNode Map(params IEnumerable<(string Key, YamlNode Value)> entries) =>
        new(entries.Select(static e => KeyValuePair.Create((YamlNode)new YamlScalarNode(e.Key), e.Value)));

    /// <summary>A sequence.</summary>
    public static YamlSequenceNode List(params IEnumerable<YamlNode> items) => new(items);

    /// <summary>A text: one of several lines as a literal block.</summary>
    public static YamlNode Text(string text) => text.Contains('\n')
        ? new YamlScalarNode(text + "\n") { Style = ScalarStyle.Literal }
        : new YamlScalarNode(text) { Style = text.Contains("{{") || text.Contains(": ") ? ScalarStyle.SingleQuoted : ScalarStyle.Any };

    /// <summary>A number or a truth value: what YAML does not take for a text.</summary>
    public static YamlNode Plain(string text) => new YamlScalarNode(text) { Style = ScalarStyle.Plain };

    /// <summary>A document with a comment before it.</summary>
    public static string Document(string comment, YamlNode root)
    {
        using var writer = new StringWriter { NewLine = "\n" };
        foreach (string line in comment.Split('\n'))
        {
            writer.WriteLine($"# {line}".TrimEnd());
        }
        var emitter = new Emitter(writer, new EmitterSettings(bestIndent: 2, bestWidth: int.MaxValue, isCanonical: false, maxSimpleKeyLength: 1024, skipAnchorName: false, indentSequences: true));
        new YamlStream(new YamlDocument(root)).Save(emitter, assignAnchors: false);
        string text = writer.ToString();
        return text.EndsWith("...\n", StringComparison.Ordinal) ? text[..^4] : text;
    }
}
