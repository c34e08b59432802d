using System.Globalization;
using System.IO.Compression;
using System.Text.Json.Nodes;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>
/// Servers of tests/corpus, by name, replayed to their end. Recorded are real Kamailio 5.6.3 of Debian 12 only. The others are
/// <em>derived</em>: a real recording in which the facts, or what its processes hold, were changed to those of a server
/// that could not be had here, as its source and the measurements of the project's domain tell them. They prove what is
/// advised to such a server, not that there is one.
/// </summary>
internal static class RecordedServers
{
    private const string Sentinel = "0xffffffffffffffff";

    private static readonly Dictionary<string, (string File, Action<List<JsonObject>>? Change)> Known = new(StringComparer.Ordinal)
    {
        ["none"] = ("none", null),
        ["tls"] = ("tls", null),
        ["db_postgres"] = ("db_postgres", null),
        ["db_mysql:first"] = ("db_mysql_first", null),
        ["http_client:first"] = ("http_client_first", null),
        ["tls:found"] = ("tls_found", null),
        ["tls, a worker died of SIGSEGV"] = ("tls", Death),
        ["tls, nothing known of it"] = ("tls", Facts(static f => (f["kamailio"], f["openSsl"], f["tlsBackEnd"], f["modules"]) = (null, null, null, new JsonArray()))),
        ["tls, with OpenSSL 1.1.1w"] = ("tls", Facts(static f => f["openSsl"] = "1.1.1w")),
        ["tls, as 5.8.8 with mode 0"] = ("tls", As("5.8.8", 0)),
        ["tls, as 5.8.8 with mode 1"] = ("tls", As("5.8.8", 1)),
        ["tls, as 5.8.8 with mode 2"] = ("tls", As("5.8.8", 2)),
        ["tls, as 6.0.2 with mode 0"] = ("tls", As("6.0.2", 0)),
        ["tls, as 6.0.2 with mode 1"] = ("tls", As("6.0.2", 1)),
        ["tls, as 6.1.0-dev2 with mode 0"] = ("tls", As("6.1.0-dev2", 0)),
        ["tls, as OpenSIPS"] = ("tls", Facts(static f => (f["kamailio"], f["tlsBackEnd"], f["modules"]) = (null, "tls_openssl", new JsonArray("proto_tls", "tls_mgm", "tls_openssl")))),
        ["db_postgres_tls:first, as 5.7.4"] = ("db_postgres_tls_first", As("5.7.4", null)),
        ["http_client:first, as 5.7.4"] = ("http_client_first", As("5.7.4", null)),
        ["tls, as 5.8.8 with mode 2, cured"] = ("tls", As("5.8.8", 2) + Cured),
        ["tls, as 5.8.8 with mode 1, cured"] = ("tls", As("5.8.8", 1) + Cured),
        ["tls, as 6.0.2 with mode 1, cured"] = ("tls", As("6.0.2", 1) + Cured),
        ["db_mysql:first, without tls, cured"] = ("db_mysql_first", Facts(static f => (f["tlsBackEnd"], f["modules"]) = (null, new JsonArray("db_mysql", "htable"))) + Cured),
        ["tls, inspection denied"] = ("tls", Inspection("denied")),
        ["tls, inspection unsupported"] = ("tls", Inspection("unsupported")),
        ["tls, inspection unreadable"] = ("tls", Inspection("unreadable")),
        ["tls, events lost before the first inspection"] = ("tls", EventsLost),
    };

    public static IEnumerable<string> Names => Known.Keys;

    /// <summary>The only server of the recording, as it was at its end.</summary>
    public static InstanceSnapshot Find(string name) => Play(name, sink: null);

    /// <summary>Replays it into a sink.</summary>
    public static InstanceSnapshot Play(string name, IFleetSink? sink)
    {
        (string file, Action<List<JsonObject>>? change) = Known[name];
        List<JsonObject> lines = Lines(file);
        change?.Invoke(lines);
        using var reader = new RecordingReader(Zip(lines), name);
        var replay = new Replay(reader, sink);
        replay.Run();
        reader.Problem.ShouldBeNull();
        return replay.Servers.ShouldHaveSingleItem() with { Ended = false };
    }

    private static Action<List<JsonObject>> As(string kamailio, int? mode) =>
        Facts(facts => (facts["kamailio"], facts["tlsThreadsMode"]) = (kamailio, mode));

    private static Action<List<JsonObject>> Facts(Action<JsonObject> change) => lines =>
    {
        JsonObject[] facts = [.. Inspected(lines).Select(static l => l["facts"]).OfType<JsonObject>()];
        facts.ShouldNotBeEmpty();
        Array.ForEach(facts, change);
    };

    /// <summary>Each worker holds a pointer of its own, as where the at-fork handler cleared what it inherited.</summary>
    private static void Cured(List<JsonObject> lines)
    {
        _ = lines.RemoveAll(static l => (string?)l["t"] == "confirmed");
        foreach (JsonObject process in Inspected(lines).SelectMany(static l => l["found"]!.AsArray().Skip(1)).Cast<JsonObject>())
        {
            ulong own = ulong.Parse(((string)process["process"]!).Split('@')[0], CultureInfo.InvariantCulture) * 64;
            foreach (JsonNode slot in (process["slots"] as JsonArray ?? []).Where(static s => (string)s!["value"]! != Sentinel)!)
            {
                slot!["value"] = $"0x{ulong.Parse(((string)slot["value"]!)[2..], NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture) + own:x}";
            }
        }
    }

    private static void Death(List<JsonObject> lines)
    {
        JsonObject fork = lines.Last(static l => (string?)l["kind"] == "fork");
        string worker = (string)fork["other"]!;
        lines.Insert(lines.Count - 1, new JsonObject
        {
            ["t"] = "observed",
            ["kind"] = "exit",
            ["at"] = lines[^1]["at"]!.DeepClone(),
            ["process"] = worker,
            ["tid"] = int.Parse(worker.Split('@')[0], CultureInfo.InvariantCulture),
            ["instance"] = fork["instance"]!.DeepClone(),
            ["status"] = 11,
            ["lastThread"] = true,
        });
    }

    private static Action<List<JsonObject>> Inspection(string status) => lines =>
    {
        foreach (JsonObject process in Inspected(lines).SelectMany(static l => l["found"]!.AsArray()).Cast<JsonObject>())
        {
            process["status"] = status;
            process["detail"] = "as derived for a test";
            _ = process.Remove("slots");
        }
        _ = lines.RemoveAll(static l => (string?)l["t"] == "confirmed");
    };

    private static void EventsLost(List<JsonObject> lines)
    {
        int first = lines.FindIndex(static l => (string?)l["t"] == "due");
        JsonNode at = lines[first]["at"]!.DeepClone();
        lines.RemoveRange(first, lines.Count - first);
        lines.Add(new JsonObject { ["t"] = "lost", ["count"] = 3, ["at"] = at });
        lines.Add(new JsonObject { ["t"] = "end", ["at"] = at.DeepClone() });
    }

    private static IEnumerable<JsonObject> Inspected(List<JsonObject> lines) => lines.Where(static l => (string?)l["t"] == "inspected");

    private static List<JsonObject> Lines(string file)
    {
        using var gzip = new GZipStream(File.OpenRead(Path.Combine(Repository.Root, "tests", "corpus", file + ".kamotel")), CompressionMode.Decompress);
        using var text = new StreamReader(gzip);
        List<JsonObject> lines = [];
        while (text.ReadLine() is { } line)
        {
            // The kind of a line has to come first in it.
            lines.Add(JsonNode.Parse(line)!.AsObject());
        }
        return lines;
    }

    private static MemoryStream Zip(List<JsonObject> lines)
    {
        var zipped = new MemoryStream();
        using (var text = new StreamWriter(new GZipStream(zipped, CompressionLevel.Fastest, leaveOpen: true)) { NewLine = "\n" })
        {
            lines.ForEach(line => text.WriteLine(line.ToJsonString()));
        }
        zipped.Position = 0;
        return zipped;
    }
}
