using System.Collections.Immutable;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace KamOtel.Diagnosis;

/// <summary>The file of knowledge, <c>advice.json</c>.</summary>
/// <param name="Advice">Its entries.</param>
internal sealed record AdviceFile(ImmutableArray<AdviceEntry> Advice)
{
    /// <summary>What is in this assembly.</summary>
    public static AdviceFile Load()
    {
        using Stream stream = typeof(AdviceFile).Assembly.GetManifestResourceStream("advice.json") ?? throw new InvalidDataException("advice.json is not in the assembly");
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return Parse(copy.ToArray());
    }

    /// <summary>The entries in the order of their priority.</summary>
    /// <exception cref="InvalidDataException">An entry makes no sense; the message names it.</exception>
    public static AdviceFile Parse(ReadOnlySpan<byte> json)
    {
        AdviceFile file;
        try
        {
            file = JsonSerializer.Deserialize(json, AdviceJson.Default.AdviceFile) ?? throw new InvalidDataException("advice.json is empty");
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"advice.json: {e.Message}", e);
        }
        foreach (AdviceEntry entry in file.Advice)
        {
            if (entry.Problem is { } problem)
            {
                throw new InvalidDataException($"advice.json: the entry '{entry.Id}' {problem}");
            }
        }
        if (file.Advice.GroupBy(static e => e.Id, StringComparer.Ordinal).FirstOrDefault(static g => g.Count() > 1) is { } twice)
        {
            throw new InvalidDataException($"advice.json: the entry '{twice.Key}' is there twice");
        }
        // Stable: among equals the order of the file.
        return new AdviceFile([.. file.Advice.OrderBy(static e => e.Priority)]);
    }
}

/// <summary>One piece of knowledge.</summary>
internal sealed record AdviceEntry
{
    /// <summary>Its name, for tests and documentation.</summary>
    public required string Id { get; init; }

    /// <summary>What is advised first has the least.</summary>
    public required int Priority { get; init; }

    /// <summary>When it is given.</summary>
    public required AdviceCondition When { get; init; }

    /// <summary>The advice; <c>{kamailio}</c> and so on stand for what was observed.</summary>
    public required string Text { get; init; }

    /// <summary>Where this is known from: an address, or a page of this repository.</summary>
    public required string Source { get; init; }

    /// <summary>The server of the tests that it is given to: a recording, or one that is derived from it.</summary>
    public required string Test { get; init; }

    /// <summary>Why the entry makes no sense, as a predicate; null when it does.</summary>
    public string? Problem =>
        Id.Length == 0 ? "has no id"
        : Text.Length == 0 || Source.Length == 0 || Test.Length == 0 ? "has no text, source or test"
        : When.Verdict.IsDefaultOrEmpty ? "is for no verdict"
        : When.Kamailio is { MakesSense: false } || When.OpenSsl is { MakesSense: false } ? "has a range of versions that no version is in"
        : When.IsAboutSlots && When.Verdict.Any(static v => v < Verdict.Hazard) ? "is about shared slots, and for verdicts that go without"
        : When.Gaps.Contains(CoverageGaps.None) ? "asks for a gap that is none"
        : Placeholders.Except(When.Names, StringComparer.Ordinal).FirstOrDefault() is { } name ? $"names {{{name}}}, which its condition does not make sure of"
        : null;

    private IEnumerable<string> Placeholders => Text.Split('{').Skip(1).Select(static part => part.Split('}')[0]);

    /// <summary>The advice for a server; null when the condition does not hold of it.</summary>
    public Advice? For(InstanceSnapshot instance) =>
        When.Match(instance) is not { } values ? null
        : new Advice(Id, When.Names.Aggregate(Text, (text, name) => text.Replace($"{{{name}}}", values[name], StringComparison.Ordinal)), Source);
}

/// <summary>Names of enumerations, in snake case; never numbers.</summary>
internal sealed class AdviceWord<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false)
    where T : struct, Enum;

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true,
    Converters = [typeof(AdviceWord<Verdict>), typeof(AdviceWord<CallPhase>), typeof(AdviceWord<CoverageGaps>), typeof(AdviceWord<InspectionStatus>)])]
[JsonSerializable(typeof(AdviceFile))]
internal sealed partial class AdviceJson : JsonSerializerContext;
