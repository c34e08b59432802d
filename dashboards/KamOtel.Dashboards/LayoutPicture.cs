using System.Globalization;
using System.Net;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace KamOtel.Dashboards;

/// <summary>A dashboard's layout as a picture, to scale, for reviews: titles, types, units, and what is asked.</summary>
internal static partial class LayoutPicture
{
    private const int Column = 56;

    // Grafana's rows are 30 pixels high, with 8 between two.
    private const int RowHeight = 38;

    private const int Gap = 8;

    private const int Head = 112;

    private const int Margin = 10;

    public static string Of(Dashboard dashboard)
    {
        var placed = dashboard.Placed().ToList();
        int width = (2 * Margin) + (24 * Column);
        int height = Head + Margin + (RowHeight * placed.Max(static p => p.Place.Y + p.Place.Height));
        var svg = new StringBuilder();
        _ = svg.Append(CultureInfo.InvariantCulture, $"""
            <svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="Helvetica, Arial, sans-serif" font-size="12">
            <title>{Escaped(dashboard.Title)}: layout</title>
            <rect width="{width}" height="{height}" fill="#f4f5f5"/>

            """);
        Text(svg, Margin, 24, dashboard.Title, width, "font-size=\"18\" font-weight=\"bold\"");
        Text(svg, Margin, 44, dashboard.Description, width - Margin, "fill=\"#555\"");
        Text(svg, Margin, 62, $"Variables: {string.Join(", ", Names(Variables.Of(dashboard.Scope), "name"))}", width - Margin, "fill=\"#555\"");
        Text(svg, Margin, 80, $"Marks: {string.Join(", ", Names(dashboard.Marks(dashboard.Scope), "name"))}", width - Margin, "fill=\"#555\"");
        Text(svg, Margin, 98, $"Links: {string.Join(", ", Names(Links.Above(dashboard.Uid), "title"))}", width - Margin, "fill=\"#555\"");
        foreach ((string? heading, Panel? panel, Place place) in placed)
        {
            Draw(svg, heading, panel, place);
        }
        return svg.Append("</svg>\n").ToString();
    }

    private static void Draw(StringBuilder svg, string? heading, Panel? panel, Place place)
    {
        int x = Margin + (place.X * Column);
        int y = Head + (place.Y * RowHeight);
        int width = (place.Width * Column) - Gap;
        int height = (place.Height * RowHeight) - Gap;
        if (panel is null)
        {
            Text(svg, x, y + 20, $"⌄ {heading}", width, "font-size=\"14\" font-weight=\"bold\"");
            return;
        }
        _ = svg.Append(CultureInfo.InvariantCulture, $"""<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="3" fill="#fff" stroke="#c7c9cb"/>""").Append('\n');
        Text(svg, x + 8, y + 18, panel.Title, width - 16, "font-weight=\"bold\"");
        Text(svg, x + 8, y + 34, panel.Unit == "none" ? panel.Type : $"{panel.Type} · {panel.Unit}", width - 16, "fill=\"#2f6f9f\" font-size=\"11\"");
        int line = y + 50;
        foreach (string text in Lines(panel, (width - 16) / 6.1))
        {
            if (line > y + height - 6)
            {
                break;
            }
            Text(svg, x + 8, line, text, width, "fill=\"#555\" font-family=\"monospace\" font-size=\"10\"");
            line += 13;
        }
    }

    /// <summary>Each query, wrapped, its further lines indented.</summary>
    private static IEnumerable<string> Lines(Panel panel, double columns)
    {
        foreach (Query query in panel.Queries)
        {
            string rest = Growth().Replace(query.Expression, "growth(${counter}) by (${by})");
            string indent = "";
            while (rest.Length + indent.Length > columns)
            {
                int room = (int)columns - indent.Length;
                int cut = rest.LastIndexOf(' ', room);
                cut = cut < room / 2 ? room : cut;
                yield return indent + rest[..cut].TrimEnd();
                rest = rest[cut..].TrimStart();
                indent = "  ";
            }
            yield return indent + rest;
        }
    }

    private static void Text(StringBuilder svg, int x, int y, string text, int width, string style)
    {
        double letter = style.Contains("monospace", StringComparison.Ordinal) ? 6.1 : style.Contains("18", StringComparison.Ordinal) ? 10 : style.Contains("bold", StringComparison.Ordinal) ? 6.8 : 6.0;
        int room = (int)(width / letter);
        _ = svg.Append(CultureInfo.InvariantCulture, $"""<text x="{x}" y="{y}" {style} xml:space="preserve">{Escaped(text.Length <= room ? text : text[..(room - 1)] + "…")}</text>""").Append('\n');
    }

    private static IEnumerable<string> Names(JsonArray named, string name) => named.Select(n => n![name]!.GetValue<string>());

    // What InstrumentQuery.Grown makes, in short.
    [GeneratedRegex(@"sum by \((?<by>[^)]*)\) \(\n  (?<counter>.+?) - (?s:.*?)\n\)", RegexOptions.ExplicitCapture)]
    private static partial Regex Growth();

    private static string Escaped(string text) => WebUtility.HtmlEncode(text);
}
