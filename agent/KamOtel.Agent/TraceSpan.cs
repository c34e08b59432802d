namespace KamOtel.Agent;

/// <summary>Attributes in the order in which they were added, each name once.</summary>
internal sealed class TraceAttributes : List<KeyValuePair<string, object?>>
{
    /// <summary>Adds an attribute; a null is none.</summary>
    public void Set(string name, object? value)
    {
        if (value is not null)
        {
            Add(new KeyValuePair<string, object?>(name, value));
        }
    }

    /// <summary>The value of an attribute, or null.</summary>
    public object? Get(string name) => Find(a => a.Key == name).Value;
}

/// <summary>A point in time of a span.</summary>
/// <param name="Name">What happened.</param>
/// <param name="TimeNs">Boot time in nanoseconds.</param>
/// <param name="Attributes">More of it.</param>
internal sealed record TraceEvent(string Name, ulong TimeNs, TraceAttributes Attributes);

/// <summary>A span, as it is sent and as it is drawn. Times are boot times in nanoseconds.</summary>
internal sealed class TraceSpan(string name, ulong startNs, ulong endNs)
{
    public string Name { get; } = name;

    public ulong StartNs { get; } = startNs;

    public ulong EndNs { get; set; } = endNs;

    public TraceAttributes Attributes { get; } = [];

    public List<TraceEvent> Events { get; } = [];

    /// <summary>In the order of their beginnings.</summary>
    public List<TraceSpan> Children { get; } = [];

    /// <summary>Its status is error: why. Null: it went as it should.</summary>
    public string? Error { get; set; }

    /// <summary>This span, and all below it, parents first.</summary>
    public IEnumerable<TraceSpan> All() => Children.SelectMany(static c => c.All()).Prepend(this);
}
