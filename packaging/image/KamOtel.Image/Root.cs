namespace KamOtel.Image;

/// <summary>What is in the image: the executable, what it takes at run time, and what the law asks for. No shell.</summary>
internal static class Root
{
    private const string Certificates = "/etc/ssl/certs/ca-certificates.crt";

    /// <summary>All files, each after its folder, ordered by path.</summary>
    public static IEnumerable<ImageFile> Of(string binary, IReadOnlyList<SharedLibrary> libraries, string bill, string repository)
    {
        var files = new SortedDictionary<string, ImageFile>(StringComparer.Ordinal);
        void Add(ImageFile file) => files[file.Path] = file;

        Add(ImageFile.Program("usr/bin/kamotel", File.ReadAllBytes(binary)));
        foreach (SharedLibrary library in libraries)
        {
            // The dynamic linker is a program too; nothing is lost if all are.
            Add(ImageFile.Program(library.Path[1..], File.ReadAllBytes(library.Path)));
        }
        Add(ImageFile.Plain(Certificates[1..], File.ReadAllBytes(Certificates)));
        Add(ImageFile.Text("etc/passwd", $"root:x:0:0:root:/:\nkamotel:x:{ImageConfig.UserId}:{ImageConfig.UserId}:KamOtel:/:\n"));
        Add(ImageFile.Text("etc/group", $"root:x:0:\nkamotel:x:{ImageConfig.UserId}:\n"));
        Add(ImageFile.Text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"));

        Add(ImageFile.Text("usr/share/kamotel/sbom.cdx.json", bill));
        Add(ImageFile.Plain("usr/share/doc/kamotel/LICENSE", File.ReadAllBytes(Path.Combine(repository, "LICENSE"))));
        Add(ImageFile.Plain("usr/share/doc/kamotel/GPL-2.0.txt", File.ReadAllBytes(Path.Combine(repository, "LICENSES/GPL-2.0.txt"))));
        foreach (string package in libraries.Select(static l => l.Package.Name).Append("ca-certificates").Distinct(StringComparer.Ordinal))
        {
            string copyright = $"usr/share/doc/{package}/copyright";
            Add(ImageFile.Plain(copyright, File.ReadAllBytes($"/{copyright}")));
        }

        // Where the runtime mounts something: it cannot make them where the root is read only from the beginning.
        foreach (string folder in new[] { "dev", "proc", "sys", "run" })
        {
            Add(ImageFile.Folder(folder));
        }
        Add(ImageFile.Folder("tmp", UnixFileMode.StickyBit | UnixFileMode.GroupWrite | UnixFileMode.OtherWrite));
        foreach (string path in files.Keys.ToArray())
        {
            for (string? folder = Path.GetDirectoryName(path); !string.IsNullOrEmpty(folder); folder = Path.GetDirectoryName(folder))
            {
                files.TryAdd(folder, ImageFile.Folder(folder));
            }
        }
        return files.Values;
    }
}
