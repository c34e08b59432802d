using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace KamOtel.Diagnosis;

/// <summary>The version of a release: <c>5.7.5</c>, <c>6.0</c>, <c>1.1.1w</c>. What is no release yet (<c>6.1.0-dev2</c>) has none, for nobody knows what is in it.</summary>
/// <param name="Major">The first number.</param>
/// <param name="Minor">The second.</param>
/// <param name="Patch">The third; 0 where there is none.</param>
internal readonly record struct ReleaseVersion(int Major, int Minor, int Patch)
{
    public static bool TryParse(string? text, out ReleaseVersion version)
    {
        version = default;
        // The letter of OpenSSL's patch releases before 3.0.
        string[] numbers = (text is [.. var front, >= 'a' and <= 'z'] ? front : text ?? "").Split('.');
        if (numbers.Length is not (2 or 3))
        {
            return false;
        }
        Span<int> parsed = [0, 0, 0];
        for (int i = 0; i < numbers.Length; i++)
        {
            if (!int.TryParse(numbers[i], NumberStyles.None, CultureInfo.InvariantCulture, out parsed[i]))
            {
                return false;
            }
        }
        version = new ReleaseVersion(parsed[0], parsed[1], parsed[2]);
        return true;
    }

    public bool IsBefore(ReleaseVersion other) => (Major, Minor, Patch).CompareTo((other.Major, other.Minor, other.Patch)) < 0;
}

/// <summary>Releases from one on, up to another one.</summary>
/// <param name="From">The first; null for all the older ones, too.</param>
/// <param name="Before">The first that does not belong to them; null for all the newer ones, too.</param>
internal sealed record VersionRange(string? From = null, string? Before = null)
{
    /// <summary>The version is known and one of them.</summary>
    public bool Has([NotNullWhen(true)] string? text) =>
        ReleaseVersion.TryParse(text, out ReleaseVersion version)
        && (!ReleaseVersion.TryParse(From, out ReleaseVersion from) || !version.IsBefore(from))
        && (!ReleaseVersion.TryParse(Before, out ReleaseVersion before) || version.IsBefore(before));

    /// <summary>It has a bound, and can have a version.</summary>
    public bool MakesSense =>
        (From ?? Before) is not null
        && (From is null || ReleaseVersion.TryParse(From, out _))
        && (Before is null || ReleaseVersion.TryParse(Before, out _))
        && (From is null || Before is null || Has(From));
}
