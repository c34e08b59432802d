using System.Globalization;
using System.Text;

namespace KamOtel.Agent;

/// <summary>Draws a trace as a tree: when each span began, how long it took, where that lies in the whole, and what tells the story.</summary>
internal static class TraceDrawing
{
    private const string Red = "31";
    private const string Yellow = "33";
    private const string Dim = "2";

    /// <summary>Characters of the bar that stands for the whole trace.</summary>
    private const int BarWidth = 24;

    /// <summary>A span shorter than this is a point.</summary>
    private const ulong PointNs = 10_000;

    /// <summary>Writes the trace, a line a span, and a line an event of it that is worth one.</summary>
    /// <param name="output">Where to.</param>
    /// <param name="root">The first span.</param>
    /// <param name="colored">With the sequences that colour a terminal.</param>
    public static void Write(TextWriter output, TraceSpan root, bool colored)
    {
        ArgumentNullException.ThrowIfNull(output);
        ArgumentNullException.ThrowIfNull(root);
        Line[] lines = [.. Lines(root, root, "", "")];
        int tree = lines.Max(static l => l.Tree.Length);
        foreach (Line line in lines)
        {
            string text = $"{Ms(line.StartNs - root.StartNs),10}  {line.Length,10}  {Bar(root, line)}  {line.Tree.PadRight(tree)}  {line.Story}".TrimEnd();
            output.WriteLine(colored && line.Style.Length > 0 ? $"\u001b[{line.Style}m{text}\u001b[0m" : text);
        }
    }

    private static IEnumerable<Line> Lines(TraceSpan root, TraceSpan span, string lead, string below)
    {
        bool isPoint = span.EndNs - span.StartNs < PointNs;
        string style = span.Error is not null ? Red : span.Attributes.Get("kamotel.key") is not null && span.Attributes.Get("kamotel.value.kind") is "pointer" ? Yellow : "";
        yield return new Line(span.StartNs, span.EndNs, isPoint ? "" : $"{Ms(span.EndNs - span.StartNs)} ms", lead + span.Name, Story(span), style);
        // Parts and events of the span, in the order of time.
        (ulong TimeNs, TraceSpan? Span, TraceEvent? Event)[] parts =
        [
            .. span.Children.Select(static c => (c.StartNs, (TraceSpan?)c, (TraceEvent?)null))
                .Concat(span.Events.Select(static e => (e.TimeNs, (TraceSpan?)null, (TraceEvent?)e))).OrderBy(static p => p.Item1),
        ];
        for (int i = 0; i < parts.Length; i++)
        {
            bool last = i == parts.Length - 1;
            string here = below + (last ? "└ " : "├ ");
            string under = below + (last ? "  " : "│ ");
            if (parts[i].Span is { } child)
            {
                foreach (Line line in Lines(root, child, here, under))
                {
                    yield return line;
                }
            }
            else if (parts[i].Event is { } e)
            {
                ulong time = Math.Max(e.TimeNs, root.StartNs);
                yield return new Line(time, time, "", here + e.Name, Story(e), Dim);
            }
        }
    }

    private static string Story(TraceSpan span)
    {
        TraceAttributes attributes = span.Attributes;
        return Join(
            Call(attributes),
            attributes.Get("kamotel.unfinished") is true ? "not over when this ends" : null,
            attributes.Get("kamotel.verdict") as string,
            span.Error ?? attributes.Get("kamotel.reason") as string);
    }

    private static string Story(TraceEvent e) => e.Name == "fork"
        ? $"{e.Attributes.Get("kamotel.role") ?? "child"} {e.Attributes.Get("process.pid")}"
        : Join(
            Call(e.Attributes),
            e.Attributes.Get("kamotel.thread.main") is null ? null : $"process {e.Attributes.Get("process.pid")}",
            e.Attributes.Get("kamotel.verdict") as string,
            e.Attributes.Get("kamotel.reason") as string);

    /// <summary>Of a thread-local call: the slot, what it was set to, and who did it.</summary>
    private static string? Call(TraceAttributes attributes)
    {
        if (attributes.Get("kamotel.value.kind") is not string value)
        {
            return null;
        }
        string slot = attributes.Get("kamotel.key") is { } key ? string.Create(CultureInfo.InvariantCulture, $"key {key}") : "a new key";
        slot += attributes.Get("kamotel.slot") is { } name ? $" ({name})" : "";
        slot += value == "none" ? "" : $" = {value}";
        return attributes.Get("kamotel.path") is { } path ? $"{slot}, {path}"
            : attributes.Get("kamotel.chain.end") is string end ? $"{slot}, author unknown ({attributes.Get("kamotel.chain.detail") ?? end})"
            : slot;
    }

    private static string Join(params string?[] parts) => string.Join(": ", parts.Where(static p => !string.IsNullOrEmpty(p)));

    private static string Ms(ulong ns) => (ns / 1e6).ToString("0.000", CultureInfo.InvariantCulture);

    private static string Bar(TraceSpan root, in Line line)
    {
        double whole = Math.Max(1, root.EndNs - root.StartNs);
        int from = Math.Clamp((int)((line.StartNs - root.StartNs) / whole * BarWidth), 0, BarWidth - 1);
        int to = Math.Clamp((int)Math.Ceiling((line.EndNs - root.StartNs) / whole * BarWidth), from + 1, BarWidth);
        return new StringBuilder().Append(' ', from).Append(line.Length.Length == 0 ? '·' : '█', line.Length.Length == 0 ? 1 : to - from).ToString().PadRight(BarWidth);
    }

    private readonly record struct Line(ulong StartNs, ulong EndNs, string Length, string Tree, string Story, string Style);
}
