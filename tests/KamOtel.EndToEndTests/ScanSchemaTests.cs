using System.Text.Json;
using System.Text.Json.Nodes;
using Json.Schema;
using static KamOtel.EndToEndTests.JsonTree;

namespace KamOtel.EndToEndTests;

/// <summary><c>docs/scan.schema.json</c> is a contract: what a scan prints keeps it, and it takes nothing else.</summary>
public sealed class ScanSchemaTests
{
    private const string Example =
        """
        {
          "schema": 1,
          "instances": [
            {
              "target": "pod:edge-0",
              "container": { "id": "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "hostName": "edge-0", "podUid": "01234567-89ab-cdef-0123-456789abcdef", "podName": "edge-0" },
              "rootPid": 1,
              "processes": 2,
              "verdict": "hazard",
              "reason": "2 processes share a slot",
              "kamailio": "5.6.3",
              "openssl": "3.0.22",
              "modules": ["tls", "db_postgres"],
              "tlsThreadsMode": null,
              "sharedMemory": { "size": 67108864, "used": 2677664, "free": 64431200, "maxUsed": 2677664, "manager": "qm" },
              "sharedSlots": [
                { "key": 3, "value": "0x7f2d40400010", "mapping": "/dev/zero (deleted)", "holders": [1, 2], "name": null, "author": null, "askedBy": null }
              ],
              "faults": [
                { "kind": "crash", "signal": "SIGSEGV", "complaint": null, "role": "worker", "module": null, "caller": null, "address": null, "count": 1, "lastPid": 2 },
                { "kind": "complaint", "signal": null, "complaint": "already_freed", "role": "worker", "module": "tls", "caller": "tls_init.c: ser_free", "address": "shared_slot", "count": 3, "lastPid": 2 }
              ],
              "advice": [],
              "coverage": { "inspected": 2, "failed": 0, "sinceExec": false }
            }
          ],
          "commands": [
            { "configuration": "new.cfg", "verdict": "hazard", "reason": "2 processes share a slot", "exitCode": 0, "signal": null, "stopped": true, "killed": 0, "rootPids": [1] }
          ]
        }
        """;

    private static readonly Lazy<JsonSchema> Schema = new(static () =>
        JsonSchema.FromFile(Path.Combine(Requirements.Repository, "docs", "scan.schema.json")));

    [Fact]
    public void The_schema_is_one_itself_and_leaves_no_room_for_the_unknown()
    {
        JsonNode schema = JsonNode.Parse(File.ReadAllText(Path.Combine(Requirements.Repository, "docs", "scan.schema.json")))!;
        Faults(MetaSchemas.Draft202012, schema).ShouldBeEmpty();
        foreach (JsonObject form in Objects(schema).Where(static node => node["properties"] is not null && node["required"] is not null))
        {
            form["additionalProperties"]!.GetValue<bool>().ShouldBeFalse(form.ToJsonString());
            form["required"]!.AsArray().Select(static name => name!.GetValue<string>())
                .ShouldBe(form["properties"]!.AsObject().Select(static property => property.Key));
        }
    }

    [Fact]
    public void The_example_is_right() => Faults(Schema.Value, JsonNode.Parse(Example)).ShouldBeEmpty();

    [Fact]
    public void No_field_may_be_missing()
    {
        foreach ((string path, string field) in Fields(JsonNode.Parse(Example)!))
        {
            JsonNode document = JsonNode.Parse(Example)!;
            At(document, path).AsObject().Remove(field).ShouldBeTrue();
            Faults(Schema.Value, document).ShouldNotBeEmpty($"{path}/{field} may be missing");
        }
    }

    [Fact]
    public void No_field_may_have_another_type()
    {
        foreach ((string path, string field) in Fields(JsonNode.Parse(Example)!))
        {
            JsonNode document = JsonNode.Parse(Example)!;
            At(document, path)[field] = new JsonObject { ["another"] = "type" };
            Faults(Schema.Value, document).ShouldNotBeEmpty($"{path}/{field} may have another type");
        }
    }

    [Theory]
    [InlineData("", "schema", "2")]
    [InlineData("", "more", "1")]
    [InlineData("/instances/0", "more", "1")]
    [InlineData("/instances/0/coverage", "more", "1")]
    [InlineData("/instances/0/sharedSlots/0", "more", "1")]
    [InlineData("/instances/0", "target", "\"\"")]
    [InlineData("/instances/0", "rootPid", "0")]
    [InlineData("/instances/0", "rootPid", "1.5")]
    [InlineData("/instances/0", "rootPid", "4194305")]
    [InlineData("/instances/0", "processes", "0")]
    [InlineData("/instances/0", "verdict", "\"Hazard\"")]
    [InlineData("/instances/0", "verdict", "\"dangerous\"")]
    [InlineData("/instances/0", "verdict", "null")]
    [InlineData("/instances/0", "reason", "\"\"")]
    [InlineData("/instances/0", "kamailio", "\"\"")]
    [InlineData("/instances/0", "modules", "[\"tls\", \"tls\"]")]
    [InlineData("/instances/0", "modules", "[\"/usr/lib/kamailio/modules/tls\"]")]
    [InlineData("/instances/0", "tlsThreadsMode", "-1")]
    [InlineData("/instances/0", "tlsThreadsMode", "3")]
    [InlineData("/instances/0", "sharedMemory", "null")]
    [InlineData("/instances/0/sharedMemory", "more", "1")]
    [InlineData("/instances/0/sharedMemory", "size", "0")]
    [InlineData("/instances/0/sharedMemory", "used", "-1")]
    [InlineData("/instances/0/sharedMemory", "manager", "\"sm\"")]
    [InlineData("/instances/0", "advice", "[\"\"]")]
    [InlineData("/instances/0/coverage", "inspected", "-1")]
    [InlineData("/instances/0/faults/0", "more", "1")]
    [InlineData("/instances/0/faults/0", "kind", "\"complaint\"")]
    [InlineData("/instances/0/faults/0", "signal", "null")]
    [InlineData("/instances/0/faults/0", "signal", "\"11\"")]
    [InlineData("/instances/0/faults/0", "address", "\"elsewhere\"")]
    [InlineData("/instances/0/faults/0", "count", "0")]
    [InlineData("/instances/0/faults/1", "kind", "\"crash\"")]
    [InlineData("/instances/0/faults/1", "complaint", "null")]
    [InlineData("/instances/0/faults/1", "complaint", "\"freed\"")]
    [InlineData("/instances/0/faults/1", "address", "\"near\"")]
    [InlineData("/instances/0/faults/1", "role", "\"child\"")]
    [InlineData("/instances/0/sharedSlots/0", "key", "-1")]
    [InlineData("/instances/0/sharedSlots/0", "key", "1024")]
    [InlineData("/instances/0/sharedSlots/0", "value", "139832328868432")]
    [InlineData("/instances/0/sharedSlots/0", "value", "\"7f2d40400010\"")]
    [InlineData("/instances/0/sharedSlots/0", "value", "\"0x0\"")]
    [InlineData("/instances/0/sharedSlots/0", "value", "\"0xffffffffffffffff\"")]
    [InlineData("/instances/0/sharedSlots/0", "holders", "[1]")]
    [InlineData("/instances/0/sharedSlots/0", "holders", "[1, 1]")]
    [InlineData("/instances/0/sharedSlots/0", "holders", "[0, 1]")]
    [InlineData("/commands/0", "more", "1")]
    [InlineData("/commands/0", "configuration", "\"\"")]
    [InlineData("/commands/0", "verdict", "\"dangerous\"")]
    [InlineData("/commands/0", "exitCode", "256")]
    [InlineData("/commands/0", "signal", "11")]
    [InlineData("/commands/0", "killed", "-1")]
    [InlineData("/commands/0", "rootPids", "[0]")]
    [InlineData("/instances/0", "sharedSlots", "[]")]
    [InlineData("/instances/0", "verdict", "\"safe\"")]
    [InlineData("/instances/0", "verdict", "\"exposed\"")]
    [InlineData("/instances/0", "verdict", "\"unknown\"")]
    public void A_wrong_document_is_refused(string path, string field, string value)
    {
        JsonNode document = JsonNode.Parse(Example)!;
        At(document, path)[field] = JsonNode.Parse(value);

        Faults(Schema.Value, document).ShouldNotBeEmpty();
    }

    [Fact]
    public void Nobody_is_safe_who_was_not_inspected()
    {
        JsonNode document = JsonNode.Parse(Example)!;
        JsonNode instance = At(document, "/instances/0");
        instance["verdict"] = "safe";
        instance["sharedSlots"] = new JsonArray();
        Faults(Schema.Value, document).ShouldBeEmpty();

        instance["coverage"]!["failed"] = 1;
        Faults(Schema.Value, document).ShouldNotBeEmpty();
        instance["coverage"]!["failed"] = 0;
        instance["coverage"]!["inspected"] = 0;
        Faults(Schema.Value, document).ShouldNotBeEmpty();
    }

    [Fact]
    public async Task What_a_scan_prints_keeps_the_schema()
    {
        await using KamailioServer none = await KamailioServer.Prepare("none");
        await using KamailioServer tls = await KamailioServer.Prepare("tls");
        string nobody = ServerName.New(), name = ServerName.New();
        _ = await none.StartAs(name);
        _ = await tls.StartAs(name);

        foreach ((string[] options, int instances) in new[] { (new[] { "--watch", nobody }, 0), (["--watch", name], 2) })
        {
            Ended ended = await Scan.Run(["--json", .. options]);

            Faults(Schema.Value, JsonNode.Parse(ended.Output)).ShouldBeEmpty(ended.ToString());
            ScanReport.Parse(ended.Output).Instances.Length.ShouldBe(instances);
        }
    }

    /// <summary>What is wrong with a document.</summary>
    internal static string[] Faults(string document) => Faults(Schema.Value, JsonNode.Parse(document));

    private static string[] Faults(JsonSchema schema, JsonNode? document)
    {
        EvaluationResults results = schema.Evaluate(document.Deserialize<JsonElement>(), new EvaluationOptions { OutputFormat = OutputFormat.List });
        return results.IsValid
            ? []
            : ["it is not valid", .. results.Details.SelectMany(static detail => detail.Errors?.Select(error => $"{detail.InstanceLocation}: {error.Value}") ?? [])];
    }
}
