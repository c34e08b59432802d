using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>One query of a panel.</summary>
/// <param name="Expression">PromQL with instruments' names: see <see cref="InstrumentQuery"/>.</param>
/// <param name="Legend">What its series are called: <c>{{target}}</c>.</param>
/// <param name="Now">Its value now, instead of its course.</param>
/// <param name="Exemplars">Points that lead to traces are asked for, too.</param>
internal sealed record Query(string Expression, string Legend = "", bool Now = false, bool Exemplars = false);

/// <summary>What differs for one column or series.</summary>
/// <param name="Field">Its name.</param>
/// <param name="Properties">What differs: <c>unit</c>, <c>custom.width</c>, ….</param>
internal sealed record Override(string Field, params (string Id, JsonNode Value)[] Properties)
{
    internal JsonObject ToJson() => new()
    {
        ["matcher"] = new JsonObject { ["id"] = "byName", ["options"] = Field },
        ["properties"] = Json.Array(Properties.Select(static p => (JsonNode)new JsonObject { ["id"] = p.Id, ["value"] = p.Value.DeepClone() })),
    };
}

/// <summary>A panel. <see cref="Panels"/> makes those of each type.</summary>
/// <param name="Type">Grafana's name of it: <c>stat</c>.</param>
/// <param name="Title">What it is called, once in its dashboard.</param>
/// <param name="Description">What it means, and what to do.</param>
/// <param name="Width">Of 24 columns.</param>
/// <param name="Unit">Grafana's name of it.</param>
internal sealed record Panel(string Type, string Title, string Description, int Width, string Unit)
{
    /// <summary>What it asks.</summary>
    public IReadOnlyList<Query> Queries { get; init; } = [];

    /// <summary>What it says when there is nothing to show.</summary>
    public required string NoValue { get; init; }

    /// <summary>From which values on which colour; the first has no lower bound.</summary>
    public IReadOnlyList<(double? From, string Colour)> Thresholds { get; init; } = [(null, Verdicts.Plain)];

    /// <summary>How colours are found: by <c>thresholds</c> or from a palette.</summary>
    public string ColourMode { get; init; } = "thresholds";

    /// <summary>Values into words.</summary>
    public JsonArray? Mappings { get; init; }

    /// <summary>The least and the greatest value, where they are known.</summary>
    public (double? Least, double? Greatest) Bounds { get; init; }

    /// <summary>Digits after the point.</summary>
    public int? Decimals { get; init; }

    /// <summary>Where a click leads.</summary>
    public IReadOnlyList<DataLink> Links { get; init; } = [];

    /// <summary>What differs for one column or series.</summary>
    public IReadOnlyList<Override> Overrides { get; init; } = [];

    /// <summary>What Grafana does with the answers before it shows them.</summary>
    public IReadOnlyList<JsonObject> Transformations { get; init; } = [];

    /// <summary>The least distance of two points, where it is not the data source's.</summary>
    public string? LeastInterval { get; init; }

    /// <summary>The options of its type.</summary>
    public required JsonObject Options { get; init; }

    /// <summary>What its type knows of each field.</summary>
    public JsonObject? Custom { get; init; }

    /// <summary>As Grafana takes it.</summary>
    /// <param name="id">Its number in the dashboard.</param>
    /// <param name="place">Where it is.</param>
    /// <param name="scope">What the dashboard's variables select.</param>
    public JsonObject ToJson(int id, Place place, IReadOnlyList<string> scope)
    {
        var defaults = new JsonObject
        {
            ["unit"] = Unit,
            ["noValue"] = NoValue,
            ["color"] = new JsonObject { ["mode"] = ColourMode },
            ["mappings"] = Mappings?.DeepClone() ?? new JsonArray(),
            ["thresholds"] = Panels.Steps([.. Thresholds]),
        };
        Set(defaults, "min", Bounds.Least);
        Set(defaults, "max", Bounds.Greatest);
        Set(defaults, "decimals", Decimals);
        Set(defaults, "links", Links is [] ? null : Json.Array(Links.Select(static l => (JsonNode)l.ToJson())));
        Set(defaults, "custom", Custom?.DeepClone());
        var panel = new JsonObject
        {
            ["id"] = id,
            ["type"] = Type,
            ["title"] = Title,
            ["description"] = Description,
            ["gridPos"] = place.ToJson(),
            ["datasource"] = Variables.Prometheus(),
            ["targets"] = Json.Array(Queries.Select((q, i) => (JsonNode)Target(q, i, scope))),
            ["fieldConfig"] = new JsonObject { ["defaults"] = defaults, ["overrides"] = Json.Array(Overrides.Select(static o => (JsonNode)o.ToJson())) },
            ["options"] = Options.DeepClone(),
        };
        Set(panel, "interval", LeastInterval);
        Set(panel, "transformations", Transformations is [] ? null : Json.Array(Transformations.Select(static t => t.DeepClone())));
        return panel;
    }

    private JsonObject Target(Query query, int number, IReadOnlyList<string> scope)
    {
        var target = new JsonObject
        {
            ["refId"] = $"{(char)('A' + number)}",
            ["datasource"] = Variables.Prometheus(),
            ["editorMode"] = "code",
            ["expr"] = InstrumentQuery.Of(query.Expression, scope),
            ["instant"] = query.Now,
            ["range"] = !query.Now,
            ["format"] = Type == "table" ? "table" : "time_series",
        };
        Set(target, "legendFormat", query.Legend.Length > 0 ? query.Legend : null);
        Set(target, "exemplar", query.Exemplars ? true : null);
        return target;
    }

    private static void Set(JsonObject json, string name, JsonNode? value)
    {
        if (value is not null)
        {
            json[name] = value;
        }
    }
}
