using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>What to do about a server, in a sentence or two for people.</summary>
/// <param name="Id">The entry of <c>advice.json</c> that it comes from.</param>
/// <param name="Text">What to do.</param>
/// <param name="Source">Where this is known from: an address, or a page of this repository.</param>
public sealed record Advice(string Id, string Text, string Source)
{
    /// <summary>With its source.</summary>
    public override string ToString() => $"{Text} ({Source})";
}

/// <summary>
/// Advises by what is known of Kamailio and OpenSSL, which is data (<c>advice.json</c>), and by what was observed of the
/// server; never by what was not.
/// </summary>
public static class Advisor
{
    private static readonly Lazy<AdviceFile> Knowledge = new(AdviceFile.Load);

    /// <summary>What to do about a server, most urgent first; empty when there is nothing to do, or nothing is known.</summary>
    public static ImmutableArray<Advice> For(InstanceSnapshot instance)
    {
        ArgumentNullException.ThrowIfNull(instance);
        return [.. Knowledge.Value.Advice.Select(entry => entry.For(instance)).OfType<Advice>()];
    }
}
