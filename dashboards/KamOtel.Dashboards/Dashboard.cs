using System.Text.Json.Nodes;

namespace KamOtel.Dashboards;

/// <summary>Where a panel is: columns and rows of Grafana's grid of 24 columns.</summary>
internal sealed record Place(int X, int Y, int Width, int Height)
{
    internal JsonObject ToJson() => new() { ["x"] = X, ["y"] = Y, ["w"] = Width, ["h"] = Height };
}

/// <summary>Panels side by side, all of one height, over the whole width.</summary>
/// <param name="Title">The heading above, or none.</param>
/// <param name="Height">In the grid's rows, of which one is 30 pixels.</param>
/// <param name="Panels">From left to right.</param>
internal sealed record Row(string? Title, int Height, params Panel[] Panels);

/// <summary>A dashboard.</summary>
/// <param name="Uid">Its identity in Grafana, for ever.</param>
/// <param name="Title">What it is called.</param>
/// <param name="Tooltip">What a link to it says.</param>
/// <param name="Description">What it is for.</param>
/// <param name="From">How far back it looks.</param>
/// <param name="Scope">What its variables select.</param>
/// <param name="Marks">What is marked on the time axis.</param>
/// <param name="Rows">From top to bottom.</param>
internal sealed record Dashboard(
    string Uid, string Title, string Tooltip, string Description, string From, IReadOnlyList<string> Scope, Func<IReadOnlyList<string>, JsonArray> Marks, IReadOnlyList<Row> Rows)
{
    /// <summary>What Grafana 12 and 13 write in classic dashboards: @grafana/schema's <c>defaultDashboard.schemaVersion</c>.</summary>
    public const int SchemaVersion = 42;

    private const int Columns = 24;

    /// <summary>The files that are made of it.</summary>
    public IReadOnlyList<GeneratedFile> Files =>
    [
        new($"dashboards/grafana/{Uid}.json", Json.Text(ToJson())),
        new($"dashboards/layout/{Uid}.svg", LayoutPicture.Of(this)),
    ];

    /// <summary>Headings and panels in their places; a heading has no panel.</summary>
    public IEnumerable<(string? Heading, Panel? Panel, Place Place)> Placed()
    {
        int y = 0;
        foreach (Row row in Rows)
        {
            if (row.Panels.Sum(static p => p.Width) != Columns)
            {
                throw new InvalidOperationException($"{Uid}: the panels {string.Join(", ", row.Panels.Select(static p => p.Title))} are {row.Panels.Sum(static p => p.Width)} wide, not {Columns}");
            }
            if (row.Title is not null)
            {
                yield return (row.Title, null, new Place(0, y++, Columns, 1));
            }
            int x = 0;
            foreach (Panel panel in row.Panels)
            {
                yield return (null, panel, new Place(x, y, panel.Width, row.Height));
                x += panel.Width;
            }
            y += row.Height;
        }
    }

    private JsonObject ToJson() => new()
    {
        ["uid"] = Uid,
        ["title"] = Title,
        ["description"] = Description,
        ["tags"] = Json.Array("kamotel", "kamailio"),
        ["schemaVersion"] = SchemaVersion,
        ["editable"] = true,
        ["graphTooltip"] = 1,
        ["timezone"] = "browser",
        ["refresh"] = "30s",
        ["time"] = new JsonObject { ["from"] = From, ["to"] = "now" },
        ["timepicker"] = new JsonObject(),
        ["links"] = Links.Above(Uid),
        ["templating"] = new JsonObject { ["list"] = Variables.Of(Scope) },
        ["annotations"] = new JsonObject { ["list"] = Marks(Scope) },
        ["panels"] = Json.Array(Placed().Select((p, i) => (JsonNode)(p.Panel?.ToJson(i + 1, p.Place, Scope) ?? Heading(i + 1, p.Heading!, p.Place)))),
    };

    private static JsonObject Heading(int id, string title, Place place) => new()
    {
        ["id"] = id,
        ["type"] = "row",
        ["title"] = title,
        ["collapsed"] = false,
        ["gridPos"] = place.ToJson(),
        ["panels"] = new JsonArray(),
    };
}
