using System.Globalization;
using System.Text;

namespace KamOtel.Diagnosis;

/// <summary>
/// Text of somebody else's: a process names itself, a container its files. Shown as it is it could move a terminal's cursor, begin
/// a line of its own in a log, or turn what stands beside it around.
/// </summary>
public static class PlainText
{
    /// <summary>The text with a '?' for each character that is not seen: controls, line ends, directions, what no font has.</summary>
    public static string Of(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (Ascii.IsValid(text) && !text.Any(char.IsControl))
        {
            return text;
        }
        var result = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            bool visible = Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format
                or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator or UnicodeCategory.OtherNotAssigned
                or UnicodeCategory.PrivateUse or UnicodeCategory.Surrogate);
            _ = result.Append(visible ? rune.ToString() : "?");
        }
        return result.ToString();
    }
}
