using System.Text.Json;

namespace KamOtel.Agent;

/// <summary>Puts the options together: file, then environment, then command line.</summary>
internal static class Configuration
{
    /// <summary>The file that is read when none is named, if it is there.</summary>
    public const string DefaultFile = "/etc/kamotel/appsettings.json";

    private const long MaxFileBytes = 1 << 20;

    /// <summary>The options in force.</summary>
    /// <param name="file">The configuration file, or null for <see cref="DefaultFile"/>.</param>
    /// <param name="environment">Looks an environment variable up.</param>
    /// <param name="commandLine">What the command line set.</param>
    /// <exception cref="UsageException">Something is wrong; the message says where and how it should be.</exception>
    public static RunOptions Load(
        string? file, Func<string, string?> environment, IEnumerable<(Setting Setting, IReadOnlyList<string> Values)> commandLine)
    {
        var options = new RunOptions();
        if (file is not null || File.Exists(DefaultFile))
        {
            ReadFile(options, file ?? DefaultFile);
        }
        foreach (Setting setting in Settings.All)
        {
            if (environment(setting.Variable) is { Length: > 0 } value)
            {
                Settings.Apply(options, setting, setting.IsList ? value.Split(',', StringSplitOptions.TrimEntries) : [value], setting.Variable);
            }
        }
        foreach ((Setting setting, IReadOnlyList<string> values) in commandLine)
        {
            Settings.Apply(options, setting, values, setting.Option);
        }
        return options;
    }

    private static void ReadFile(RunOptions options, string file)
    {
        try
        {
            using FileStream stream = File.OpenRead(file);
            if (stream.Length > MaxFileBytes)
            {
                throw new UsageException($"{file}: larger than {MaxFileBytes} bytes, which no configuration is");
            }
            using JsonDocument document = JsonDocument.Parse(stream, new JsonDocumentOptions { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true });
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new UsageException($"{file}: an object {{…}} is expected at the top");
            }
            foreach (JsonProperty property in document.RootElement.EnumerateObject())
            {
                if (property.Name == "$schema")
                {
                    continue;
                }
                Setting setting = Settings.All.FirstOrDefault(s => s.Key.Equals(property.Name, StringComparison.OrdinalIgnoreCase))
                    ?? throw new UsageException($"{file}: unknown key \"{property.Name}\"; known are {string.Join(", ", Settings.All.Select(static s => s.Key))}");
                Settings.Apply(options, setting, Values(property.Value, setting, file), $"{file}: {property.Name}");
            }
        }
        catch (JsonException e)
        {
            throw new UsageException($"{file}: no valid JSON in line {e.LineNumber + 1}, byte {e.BytePositionInLine + 1}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new UsageException($"{file}: cannot be read: {e.Message}");
        }
    }

    private static IReadOnlyList<string> Values(JsonElement value, Setting setting, string file) => value.ValueKind switch
    {
        JsonValueKind.String => [value.GetString()!],
        JsonValueKind.Number => [value.GetRawText()],
        JsonValueKind.True => ["true"],
        JsonValueKind.False => ["false"],
        JsonValueKind.Array when setting.IsList && value.EnumerateArray().All(static v => v.ValueKind == JsonValueKind.String) =>
            [.. value.EnumerateArray().Select(static v => v.GetString()!)],
        _ => throw new UsageException($"{file}: {setting.Key}: {(setting.IsList ? "a string or an array of strings" : "a single value")} is expected"),
    };
}
