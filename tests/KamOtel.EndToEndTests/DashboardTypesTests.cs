using System.Text.Json.Nodes;

namespace KamOtel.EndToEndTests;

/// <summary>Grafana's own types accept the dashboards, and refuse what is not right.</summary>
public sealed class DashboardTypesTests
{
    private static readonly string Types = Path.Combine(Requirements.Repository, "dashboards", "types", "check.mjs");

    [Fact]
    public async Task Todays_and_the_previous_major_Grafanas_types_accept_each_dashboard()
    {
        Ended ended = await Check([.. CommittedDashboard.Files()]);

        ended.Code.ShouldBe(0, ended.ToString());
    }

    [Theory]
    [InlineData("an option that there is not", "stat", "/options/colourMode", "\"value\"")]
    [InlineData("an option of another panel", "timeseries", "/options/rowHeight", "1")]
    [InlineData("a value that an option does not have", "stat", "/options/colorMode", "\"rainbow\"")]
    [InlineData("a panel of old", "timeseries", "/type", "\"graph\"")]
    [InlineData("a field setting that there is not", "timeseries", "/fieldConfig/defaults/custom/pointSiz", "5")]
    [InlineData("a field setting where there are none", "stat", "/fieldConfig/defaults/custom", "{ \"lineWidth\": 1 }")]
    [InlineData("a misspelt override", "table", "/fieldConfig/overrides/0/properties/0/id", "\"displayNam\"")]
    [InlineData("an override of the wrong type", "table", "/fieldConfig/overrides/0/properties/0", "{ \"id\": \"custom.width\", \"value\": \"wide\" }")]
    [InlineData("a query without PromQL", "stat", "/targets/0/expr", null)]
    [InlineData("a panel without a place", "stat", "/gridPos/w", null)]
    [InlineData("a panel that says nothing when there is nothing", "stat", "/fieldConfig/defaults/noValue", null)]
    public async Task A_mistake_is_refused(string mistake, string type, string path, string? value)
    {
        using var scratch = new Scratch();
        JsonNode dashboard = JsonNode.Parse(await File.ReadAllTextAsync(CommittedDashboard.Files().First(static f => f.EndsWith("fleet.json", StringComparison.Ordinal)), TestContext.Current.CancellationToken))!;
        JsonNode panel = dashboard["panels"]!.AsArray().First(p => p!["type"]!.GetValue<string>() == type)!;
        int last = path.LastIndexOf('/');
        JsonNode parent = JsonTree.At(panel, path[..last]);
        if (value is null)
        {
            parent.AsObject().Remove(path[(last + 1)..]).ShouldBeTrue();
        }
        else if (parent is JsonArray array)
        {
            array[int.Parse(path[(last + 1)..], System.Globalization.CultureInfo.InvariantCulture)] = JsonNode.Parse(value);
        }
        else
        {
            parent[path[(last + 1)..]] = JsonNode.Parse(value);
        }
        string file = scratch["mistaken.json"];
        await File.WriteAllTextAsync(file, dashboard.ToJsonString(), TestContext.Current.CancellationToken);

        Ended ended = await Check(file);

        ended.Code.ShouldBe(1, mistake);
        ended.Errors.ShouldContain("error TS");
    }

    private static async Task<Ended> Check(params string[] dashboards)
    {
        Requirements.Program("node");
        Requirements.Program("npm");
        return await RunningProgram.Run("node", [Types, Path.Combine(Requirements.Repository, "out", "grafana-types"), .. dashboards], patience: TimeSpan.FromSeconds(180));
    }
}
