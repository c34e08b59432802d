using System.Text.Json;
using System.Text.Json.Nodes;
using Json.Schema;
using static KamOtel.EndToEndTests.JsonTree;

namespace KamOtel.EndToEndTests;

/// <summary><c>docs/doctor.schema.json</c> is a contract: what the doctor prints keeps it, and it takes nothing else.</summary>
public sealed class DoctorSchemaTests
{
    private static readonly string Path = System.IO.Path.Combine(Requirements.Repository, "docs", "doctor.schema.json");

    private static readonly Lazy<JsonSchema> Schema = new(static () => JsonSchema.FromFile(Path));

    private static readonly Lazy<Task<string>> Printed = new(static async () =>
    {
        Requirements.Agent();
        return (await RunningProgram.Run(Requirements.Binary, ["doctor", "--json", "--watch", ServerName.New(), "--listen", $"127.0.0.1:{Scratch.FreePort()}"])).Output;
    });

    [Fact]
    public void The_schema_is_one_itself_and_leaves_no_room_for_the_unknown()
    {
        JsonNode schema = JsonNode.Parse(File.ReadAllText(Path))!;
        Faults(MetaSchemas.Draft202012, schema).ShouldBeEmpty();
        JsonObject[] forms = [.. Objects(schema).Where(static node => node["properties"] is not null && node["type"]?.GetValueKind() == JsonValueKind.String)];
        forms.Length.ShouldBe(8);
        foreach (JsonObject form in forms)
        {
            form["additionalProperties"]!.GetValue<bool>().ShouldBeFalse(form.ToJsonString());
            form["required"]!.AsArray().Select(static name => name!.GetValue<string>()).ShouldBe(form["properties"]!.AsObject().Select(static property => property.Key));
        }
    }

    [Fact]
    public async Task What_the_doctor_prints_keeps_the_schema_and_no_field_may_be_missing_or_of_another_type()
    {
        JsonNode document = JsonNode.Parse(await Printed.Value)!;
        Faults(Schema.Value, document).ShouldBeEmpty(document.ToJsonString());

        foreach ((string path, string field) in Fields(document).DistinctBy(static f => System.Text.RegularExpressions.Regex.Replace(f.Path, "[0-9]+", "") + f.Field))
        {
            JsonNode without = document.DeepClone();
            At(without, path).AsObject().Remove(field).ShouldBeTrue();
            Faults(Schema.Value, without).ShouldNotBeEmpty($"{path}/{field} may be missing");
            JsonNode other = document.DeepClone();
            At(other, path)[field] = new JsonObject { ["another"] = "type" };
            Faults(Schema.Value, other).ShouldNotBeEmpty($"{path}/{field} may have another type");
        }
    }

    [Theory]
    [InlineData("", "schema", "2")]
    [InlineData("", "more", "1")]
    [InlineData("", "result", "\"good\"")]
    [InlineData("", "features", "[]")]
    [InlineData("", "findings", "[]")]
    [InlineData("/features/0", "id", "\"verdict\"")]
    [InlineData("/features/0", "works", "false")]
    [InlineData("/features/0", "because", "[\"kernel\"]")]
    [InlineData("/findings/0", "id", "\"Kernel\"")]
    [InlineData("/findings/0", "status", "\"fail\"")]
    [InlineData("/findings/0", "status", "\"failed\"")]
    [InlineData("/findings/0", "seen", "\"\"")]
    [InlineData("/findings/0", "breaks", "[\"verdicts\"]")]
    [InlineData("/libraries/0", "setBeginsWith", "\"mov\"")]
    [InlineData("/libraries/0", "setSite", "\"mov\"")]
    [InlineData("/libraries/0", "setSiteReason", "\"\"")]
    [InlineData("/libraries/0", "setCallNs", "-1")]
    [InlineData("/libraries/0", "functions", "[\"main\"]")]
    public async Task A_wrong_document_is_refused(string path, string field, string value)
    {
        Requirements.Bpf();
        JsonNode document = JsonNode.Parse(await Printed.Value)!;
        document["features"]![0]!["works"]!.GetValue<bool>().ShouldBeTrue();
        At(document, path)[field] = JsonNode.Parse(value);

        Faults(Schema.Value, document).ShouldNotBeEmpty();
    }

    private static string[] Faults(JsonSchema schema, JsonNode? document)
    {
        EvaluationResults results = schema.Evaluate(document.Deserialize<JsonElement>(), new EvaluationOptions { OutputFormat = OutputFormat.List });
        return results.IsValid
            ? []
            : ["it is not valid", .. results.Details.SelectMany(static detail => detail.Errors?.Select(error => $"{detail.InstanceLocation}: {error.Value}") ?? [])];
    }
}
