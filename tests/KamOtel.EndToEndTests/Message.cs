namespace KamOtel.EndToEndTests;

/// <summary>What a program says when something is wrong: words for people.</summary>
internal static class Message
{
    /// <summary>It is short, and shows nothing of the program's inside.</summary>
    public static void IsOne(Ended ended)
    {
        ended.Errors.ShouldNotContain("   at ");
        ended.Errors.ShouldNotContain("Exception");
        ended.Errors.Trim().Split('\n').Length.ShouldBeLessThanOrEqualTo(20);
    }
}
