namespace KamOtel.EndToEndTests;

/// <summary>The machine's libcrypto.</summary>
internal static class Libcrypto
{
    /// <summary>Copies it into a new folder: to the kernel another file, without the probes that anybody has on the first.</summary>
    public static void CopyTo(string folder)
    {
        string library = Directory.EnumerateFiles("/usr/lib", "libcrypto.so.*", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 1 })
            .First();
        _ = Directory.CreateDirectory(folder);
        File.Copy(library, Path.Combine(folder, Path.GetFileName(library)));
    }
}
