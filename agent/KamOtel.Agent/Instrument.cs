namespace KamOtel.Agent;

/// <summary>How an instrument behaves.</summary>
internal enum InstrumentKind
{
    /// <summary>Only grows.</summary>
    Counter,

    /// <summary>A value of now.</summary>
    Gauge,

    /// <summary>A distribution, recorded value by value.</summary>
    Histogram,
}

/// <summary>A value with its attributes, in the order of the instrument's attribute names.</summary>
internal readonly record struct Sample(double Value, params string[] Attributes);

/// <summary>One line of the instrument table.</summary>
/// <param name="Name">Its OpenTelemetry name.</param>
/// <param name="Kind">How it behaves.</param>
/// <param name="Unit">Its unit in UCUM: <c>s</c>, <c>By</c>, <c>1</c>, or an annotation such as <c>{call}</c>.</param>
/// <param name="Help">What it tells.</param>
/// <param name="Attributes">The names of its attributes.</param>
/// <param name="Read">Reads its samples; a histogram has none to read.</param>
internal sealed record Instrument(
    string Name, InstrumentKind Kind, string Unit, string Help, string[] Attributes, Func<AgentSnapshot, TelemetryCounters, IEnumerable<Sample>> Read)
{
    /// <summary>The name that Prometheus knows it by.</summary>
    public string PrometheusName
    {
        get
        {
            string name = Name.Replace('.', '_');
            string unit = Unit switch { "s" => "_seconds", "By" => "_bytes", _ => "" };
            return (name.EndsWith(unit, StringComparison.Ordinal) ? name : name + unit) + (Kind == InstrumentKind.Counter ? "_total" : "");
        }
    }
}
