using System.Globalization;
using KamOtel.Image;

// archive BINARY FILE  writes the image as FILE, and its bill of materials beside it
// root BINARY FOLDER   writes what is in the image into an empty folder: for the Dockerfile
//
// Nothing but the inputs decides what is written: the time is that of SOURCE_DATE_EPOCH, or 1970.
if (args is not [("archive" or "root") and string command, string binary, string output])
{
    Console.Error.WriteLine("usage: KamOtel.Image archive|root BINARY OUTPUT");
    return 64;
}
try
{
    DateTimeOffset time = DateTimeOffset.FromUnixTimeSeconds(
        Environment.GetEnvironmentVariable("SOURCE_DATE_EPOCH") is { Length: > 0 } epoch ? long.Parse(epoch, CultureInfo.InvariantCulture) : 0);
    Build build = Build.Of(binary);
    IReadOnlyList<SharedLibrary> libraries = SharedLibraries.Of(binary);
    string bill = BillOfMaterials.Of(build, libraries, Path.Combine(FindRepository(), "agent/KamOtel.Agent/obj/project.assets.json"), time);
    ImageFile[] files = [.. Root.Of(binary, libraries, bill, FindRepository())];
    if (command == "root")
    {
        Folder.Write(files, output, time);
        return 0;
    }
    string digest = Archive.Write(files, ImageConfig.Of(build), output, time);
    File.WriteAllText(Path.ChangeExtension(output, ".sbom.json"), bill);
    Console.WriteLine($"{output}: {ImageConfig.NameOf(build)}, {new FileInfo(output).Length / 1e6:0.0} MB, {digest}");
    return 0;
}
catch (Exception e) when (e is IOException or UnauthorizedAccessException or InvalidDataException or FormatException)
{
    Console.Error.WriteLine($"KamOtel.Image: error: {e.Message}");
    return 1;
}

static string FindRepository()
{
    DirectoryInfo? folder = new(AppContext.BaseDirectory);
    while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "KamOtel.sln")))
    {
        folder = folder.Parent;
    }
    return folder?.FullName ?? throw new DirectoryNotFoundException($"no KamOtel.sln above {AppContext.BaseDirectory}");
}
