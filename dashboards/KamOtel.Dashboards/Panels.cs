using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>The types of panels that are used, with the options that all of them share.</summary>
internal static class Panels
{
    /// <summary>Zero is plain, more is a warning.</summary>
    public static readonly IReadOnlyList<(double? From, string Colour)> WarnFromOne = [(null, Verdicts.Plain), (1, Verdicts.Warning)];

    /// <summary>Zero is plain, more is bad.</summary>
    public static readonly IReadOnlyList<(double? From, string Colour)> BadFromOne = [(null, Verdicts.Plain), (1, Verdicts.Bad)];

    /// <summary>One number, or one for each series.</summary>
    public static Panel Stat(string title, int width, string unit, string noValue, string description, params Query[] queries) =>
        new("stat", title, description, width, unit)
        {
            NoValue = noValue,
            Queries = [.. queries.Select(static q => q with { Now = true })],
            Options = new JsonObject
            {
                ["colorMode"] = "value",
                ["graphMode"] = "none",
                ["justifyMode"] = "auto",
                ["orientation"] = "auto",
                ["percentChangeColorMode"] = "standard",
                ["reduceOptions"] = new JsonObject { ["calcs"] = Json.Array("lastNotNull"), ["fields"] = "", ["values"] = false },
                ["showPercentChange"] = false,
                ["textMode"] = "auto",
                ["wideLayout"] = true,
            },
        };

    /// <summary>The course of numbers.</summary>
    public static Panel Lines(string title, int width, string unit, string noValue, string description, params Query[] queries) =>
        Graph(title, width, unit, noValue, description, queries, "line", 10, stacked: false);

    /// <summary>Numbers that make up a whole, one upon the other.</summary>
    public static Panel Areas(string title, int width, string unit, string noValue, string description, params Query[] queries) =>
        Graph(title, width, unit, noValue, description, queries, "line", 50, stacked: true);

    /// <summary>What was counted in each interval.</summary>
    public static Panel Bars(string title, int width, string unit, string noValue, string description, params Query[] queries) =>
        Graph(title, width, unit, noValue, description, queries, "bars", 80, stacked: true) with
        {
            // Shorter ones would show no more: agents are scraped every 15 to 60 seconds.
            LeastInterval = "1m",
            Decimals = 0,
        };

    /// <summary>States over time, a lane each.</summary>
    public static Panel States(string title, int width, string noValue, string description, JsonArray mappings, params Query[] queries) =>
        new("state-timeline", title, description, width, "none")
        {
            NoValue = noValue,
            Queries = queries,
            Mappings = mappings,
            Custom = new JsonObject { ["fillOpacity"] = 85, ["lineWidth"] = 0 },
            Options = new JsonObject
            {
                ["alignValue"] = "left",
                ["legend"] = new JsonObject { ["calcs"] = new JsonArray(), ["displayMode"] = "list", ["placement"] = "bottom", ["showLegend"] = true },
                ["mergeValues"] = true,
                ["perPage"] = 20,
                ["rowHeight"] = 0.85,
                ["showValue"] = "auto",
                ["tooltip"] = new JsonObject { ["mode"] = "single", ["sort"] = "none" },
            },
        };

    /// <summary>Rows and columns of what is now.</summary>
    public static Panel Table(string title, int width, string noValue, string description, params Query[] queries) =>
        new("table", title, description, width, "none")
        {
            NoValue = noValue,
            Queries = [.. queries.Select(static q => q with { Now = true })],
            Custom = new JsonObject { ["align"] = "auto", ["cellOptions"] = new JsonObject { ["type"] = "auto" }, ["filterable"] = true, ["inspect"] = false },
            Options = new JsonObject { ["cellHeight"] = "sm", ["showHeader"] = true },
        };

    /// <summary>Rows that agree in what they have in common are made one.</summary>
    public static JsonObject Merge() => new() { ["id"] = "merge", ["options"] = new JsonObject() };

    /// <summary>Columns in this order, and none of those that are left out.</summary>
    public static JsonObject Columns(IEnumerable<string> order, params string[] leftOut) => new()
    {
        ["id"] = "organize",
        ["options"] = new JsonObject
        {
            ["excludeByName"] = new JsonObject(leftOut.Select(static c => KeyValuePair.Create<string, JsonNode?>(c, true))),
            ["indexByName"] = new JsonObject(order.Select(static (c, i) => KeyValuePair.Create<string, JsonNode?>(c, i))),
            ["renameByName"] = new JsonObject(),
        },
    };

    /// <summary>Only rows that count something.</summary>
    public static JsonObject OnlyAboveZero() => new()
    {
        ["id"] = "filterByValue",
        ["options"] = new JsonObject
        {
            ["type"] = "include",
            ["match"] = "all",
            ["filters"] = new JsonArray(new JsonObject
            {
                ["fieldName"] = "Value",
                ["config"] = new JsonObject { ["id"] = "greater", ["options"] = new JsonObject { ["value"] = 0 } },
            }),
        },
    };

    /// <summary>Two values into words.</summary>
    public static JsonArray YesNo(string zero, string zeroColour, string one, string oneColour) =>
    [
        new JsonObject
        {
            ["type"] = "value",
            ["options"] = new JsonObject
            {
                ["0"] = new JsonObject { ["text"] = zero, ["color"] = zeroColour, ["index"] = 0 },
                ["1"] = new JsonObject { ["text"] = one, ["color"] = oneColour, ["index"] = 1 },
            },
        },
    ];

    /// <summary>From which values on which colour, for one column or series.</summary>
    public static JsonObject Steps(params (double? From, string Colour)[] steps) => new()
    {
        ["mode"] = "absolute",
        ["steps"] = Json.Array(steps.Select(static s => (JsonNode)new JsonObject { ["value"] = s.From, ["color"] = s.Colour })),
    };

    /// <summary>One colour, whatever the value.</summary>
    public static JsonObject Fixed(string colour) => new() { ["mode"] = "fixed", ["fixedColor"] = colour };

    /// <summary>Links, for one column.</summary>
    public static JsonArray LinkTo(params IEnumerable<DataLink> links) => Json.Array(links.Select(static l => (JsonNode)l.ToJson()));

    /// <summary>A column's cells have the colour of their value.</summary>
    public static (string Id, JsonNode Value) Coloured() => ("custom.cellOptions", new JsonObject { ["type"] = "color-background", ["mode"] = "basic" });

    /// <summary>A column's words have the colour of their value.</summary>
    public static (string Id, JsonNode Value) ColouredText() => ("custom.cellOptions", new JsonObject { ["type"] = "color-text" });

    private static Panel Graph(string title, int width, string unit, string noValue, string description, Query[] queries, string style, int fill, bool stacked) =>
        new("timeseries", title, description, width, unit)
        {
            NoValue = noValue,
            Queries = queries,
            ColourMode = "palette-classic-by-name",
            Bounds = (0, null),
            Custom = new JsonObject
            {
                ["drawStyle"] = style,
                ["fillOpacity"] = fill,
                ["lineWidth"] = 1,
                ["showPoints"] = "auto",
                // A gap is a gap: nobody looked.
                ["spanNulls"] = false,
                ["stacking"] = new JsonObject { ["mode"] = stacked ? "normal" : "none", ["group"] = "A" },
            },
            Options = new JsonObject
            {
                ["legend"] = new JsonObject { ["calcs"] = new JsonArray(), ["displayMode"] = "list", ["placement"] = "bottom", ["showLegend"] = true },
                ["tooltip"] = new JsonObject { ["mode"] = "multi", ["sort"] = "desc" },
            },
        };
}
