namespace KamOtel.Image;

/// <summary>The image's files in a folder, from where a Dockerfile copies them.</summary>
internal static class Folder
{
    public static void Write(IEnumerable<ImageFile> files, string folder, DateTimeOffset time)
    {
        if (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any())
        {
            throw new IOException($"{folder} is not empty");
        }
        ImageFile[] all = [.. files];
        foreach (ImageFile file in all)
        {
            string path = Path.Combine(folder, file.Path);
            if (file.Content is null)
            {
                _ = Directory.CreateDirectory(path);
            }
            else
            {
                File.WriteAllBytes(path, file.Content);
            }
            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, file.Mode);
            }
        }
        // Folders last: a file in one changes its time.
        foreach (ImageFile file in all.Reverse())
        {
            Directory.SetLastWriteTimeUtc(Path.Combine(folder, file.Path), time.UtcDateTime);
        }
    }
}
