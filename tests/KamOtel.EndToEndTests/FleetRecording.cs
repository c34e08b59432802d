using System.Globalization;
using System.IO.Compression;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace KamOtel.EndToEndTests;

/// <summary>One recording of many servers, made of those of the corpus: each with processes and times of its own.</summary>
internal static partial class FleetRecording
{
    /// <summary>Text of a stranger that would be markup, and would turn what follows it.</summary>
    public const string Hostile = "<img src=x onerror=alert(1)>\u202Egfc";

    private static readonly string[] Kinds = ["db_postgres", "none", "tls", "none", "http_client_first", "none", "none", "db_mysql", "tls_found", "none"];

    /// <summary>Writes it.</summary>
    /// <param name="file">Where.</param>
    /// <param name="servers">How many; the last one has the name <see cref="Hostile"/>.</param>
    public static void Write(string file, int servers)
    {
        const long Start = 16_100_000_000_000;
        const long Apart = 30_000_000_000;
        long inputs = 0;
        using var writer = new StreamWriter(new GZipStream(File.Create(file), CompressionLevel.Fastest));
        for (int i = 0; i < servers; i++)
        {
            string[] lines = Lines(Path.Combine(Requirements.Repository, "tests", "corpus", $"{Kinds[i % Kinds.Length]}.kamotel"));
            if (i == 0)
            {
                writer.WriteLine(lines[0]);
            }
            inputs += (long)JsonNode.Parse(lines[^1])!["inputs"]!;
            long shift = Start + i * Apart - long.Parse(At().Match(string.Concat(lines)).Groups[1].Value, CultureInfo.InvariantCulture);
            string target = i == servers - 1 ? Hostile : $"/etc/kamailio/edge-{i:00}.cfg";
            foreach (string line in lines[1..^1])
            {
                string shifted = Time().Replace(line, time => Add(time.Value, shift));
                shifted = Process().Replace(shifted, pid => $"\"{Add(pid.Groups[1].Value, i * 10_000)}@");
                shifted = Thread().Replace(shifted, tid => $"\"tid\":{Add(tid.Groups[1].Value, i * 10_000)}");
                writer.WriteLine(Target().Replace(shifted, $"\"target\":{JsonValue.Create(target).ToJsonString()}"));
            }
        }
        writer.WriteLine($"{{\"t\":\"end\",\"at\":{Start + servers * Apart},\"inputs\":{inputs}}}");
    }

    private static string[] Lines(string file)
    {
        using var reader = new StreamReader(new GZipStream(File.OpenRead(file), CompressionMode.Decompress));
        return reader.ReadToEnd().Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private static string Add(string number, long more) =>
        (long.Parse(number, CultureInfo.InvariantCulture) + more).ToString(CultureInfo.InvariantCulture);

    [GeneratedRegex("\"at\":(\\d+)")]
    private static partial Regex At();

    /// <summary>Nanoseconds since boot, which no other number of a recording looks like.</summary>
    [GeneratedRegex(@"\b1[56]\d{12}\b")]
    private static partial Regex Time();

    [GeneratedRegex("\"(\\d{3,6})@")]
    private static partial Regex Process();

    [GeneratedRegex("\"tid\":(\\d+)")]
    private static partial Regex Thread();

    [GeneratedRegex("\"target\":\"[^\"]*\"")]
    private static partial Regex Target();
}
