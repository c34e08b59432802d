namespace KamOtel.Tests;

/// <summary>The checkout that the tests were built from.</summary>
internal static class Repository
{
    /// <summary>Its folder.</summary>
    public static string Root { get; } = Find();

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "KamOtel.sln")))
            {
                return folder.FullName;
            }
        }
        throw new DirectoryNotFoundException($"no KamOtel.sln above {AppContext.BaseDirectory}");
    }
}
