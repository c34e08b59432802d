using System.Globalization;

namespace KamOtel.Agent;

/// <summary>Quantities of the command line.</summary>
internal static class Quantity
{
    private const long LeastBytes = 64 << 10;
    private const long MostBytes = 1L << 40;

    private static readonly (string Suffix, double Factor)[] Times = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600), ("", 1)];
    private static readonly (string Suffix, double Factor)[] Sizes = [("KiB", 1L << 10), ("MiB", 1L << 20), ("GiB", 1L << 30), ("", 1)];

    /// <summary>A time such as <c>60s</c>; null for none.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static TimeSpan? Time(string option, string? text) =>
        text is null ? null
        : Of(text, Times) is { } seconds and >= 0.1 and <= 366 * 86400.0 ? TimeSpan.FromSeconds(seconds)
        : throw new UsageException($"{option}: '{text}' is no time of at least 100ms: give a number with ms, s, m or h, such as 500ms, 60s, 5m or 1h");

    /// <summary>A size such as <c>64MiB</c>; null for none.</summary>
    /// <exception cref="UsageException">It is none.</exception>
    public static long? Bytes(string option, string? text) =>
        text is null ? null
        : Of(text, Sizes) is { } bytes and >= LeastBytes and <= MostBytes ? (long)bytes
        : throw new UsageException($"{option}: '{text}' is no size from 64KiB to 1024GiB, such as 1048576, 512KiB or 64MiB");

    private static double? Of(string text, (string Suffix, double Factor)[] units)
    {
        foreach ((string suffix, double factor) in units)
        {
            if (text.EndsWith(suffix, StringComparison.Ordinal)
                && double.TryParse(text.AsSpan(0, text.Length - suffix.Length), NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number))
            {
                return number * factor;
            }
        }
        return null;
    }
}
