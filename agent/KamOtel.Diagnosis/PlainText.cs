using System.Globalization;
using System.Text;

namespace KamOtel.Diagnosis;

/// <summary>
/// What is shown of a name that somebody else chose: nothing that steers a terminal, turns the direction of what follows or is not
/// seen at all.
/// </summary>
public static class PlainText
{
    /// <summary>The text with '?' in place of each such character; the same object when there is none.</summary>
    public static string Of(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        StringBuilder? changed = null;
        int at = 0;
        foreach (Rune rune in text.EnumerateRunes())
        {
            // Half of a pair is counted as the one character that it is.
            bool whole = Rune.TryGetRuneAt(text, at, out _);
            if (whole && IsVisible(rune))
            {
                _ = changed?.Append(rune.ToString());
            }
            else
            {
                changed ??= new StringBuilder(text, 0, at, text.Length);
                _ = changed.Append(whole ? '?' : '\uFFFD');
            }
            at += whole ? rune.Utf16SequenceLength : 1;
        }
        return changed?.ToString() ?? text;
    }

    private static bool IsVisible(Rune rune) =>
        Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator
            or UnicodeCategory.ParagraphSeparator or UnicodeCategory.OtherNotAssigned or UnicodeCategory.PrivateUse or UnicodeCategory.Surrogate);
}
