using System.Collections.Immutable;

namespace KamOtel.Agent;

/// <summary>How good a finding of the doctor's is.</summary>
internal enum FindingStatus
{
    /// <summary>As it should be.</summary>
    Ok,

    /// <summary>Worth knowing; nothing is lost by it.</summary>
    Note,

    /// <summary>Something may be missed, or could not be checked.</summary>
    Warning,

    /// <summary>A feature does not work for it.</summary>
    Failed,
}

/// <summary>What <c>kamotel doctor</c> found of one thing.</summary>
/// <param name="Id">What was looked at: the same name on every machine.</param>
/// <param name="Status">How good it is.</param>
/// <param name="Seen">What was seen, as it is.</param>
/// <param name="Means">What it means for kamotel.</param>
/// <param name="Remedy">What to do; null when nothing is to be done.</param>
internal sealed record Finding(string Id, FindingStatus Status, string Seen, string Means, string? Remedy = null)
{
    /// <summary>The features that do not work for it; of a failed one only.</summary>
    public ImmutableArray<string> Breaks { get; init; } = [];

    public static Finding Ok(string id, string seen, string means) => new(id, FindingStatus.Ok, seen, means);

    public static Finding Note(string id, string seen, string means, string? remedy = null) => new(id, FindingStatus.Note, seen, means, remedy);

    public static Finding Warning(string id, string seen, string means, string? remedy = null) => new(id, FindingStatus.Warning, seen, means, remedy);

    public static Finding Failed(string id, string seen, string means, string remedy, params ReadOnlySpan<string> breaks) =>
        new(id, FindingStatus.Failed, seen, means, remedy) { Breaks = [.. breaks] };
}
