using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text.Json;

namespace KamOtel.EndToEndTests;

/// <summary>The image that <c>make image</c> wrote, unpacked as a runtime does it: from its index to its layers, each digest compared.</summary>
internal sealed class ContainerImage
{
    private ContainerImage(string root, JsonElement config) => (Root, Config) = (root, config);

    /// <summary>Where the archive is.</summary>
    public static string Archive { get; } = Path.Combine(Requirements.Repository, "out", "kamotel-image.tar");

    /// <summary>The folder with its files.</summary>
    public string Root { get; }

    /// <summary>What it says of how to run it.</summary>
    public JsonElement Config { get; }

    /// <summary>The words of a list in <see cref="Config"/>.</summary>
    public string[] Words(string name) => [.. Config.GetProperty(name).EnumerateArray().Select(static w => w.GetString()!)];

    /// <summary>Unpacks it into a folder.</summary>
    public static ContainerImage Unpack(string folder)
    {
        string layout = Path.Combine(folder, "layout");
        string root = Path.Combine(folder, "root");
        _ = Directory.CreateDirectory(layout);
        _ = Directory.CreateDirectory(root);
        TarFile.ExtractToDirectory(Archive, layout, overwriteFiles: false);
        JsonElement index = Json(File.ReadAllBytes(Path.Combine(layout, "index.json")));
        JsonElement manifest = Json(Blob(layout, index.GetProperty("manifests").EnumerateArray().ShouldHaveSingleItem()));
        foreach (JsonElement layer in manifest.GetProperty("layers").EnumerateArray())
        {
            using var unpacked = new GZipStream(new MemoryStream(Blob(layout, layer)), CompressionMode.Decompress);
            TarFile.ExtractToDirectory(unpacked, root, overwriteFiles: true);
        }
        return new ContainerImage(root, Json(Blob(layout, manifest.GetProperty("config"))).GetProperty("config"));
    }

    private static byte[] Blob(string layout, JsonElement descriptor)
    {
        string digest = descriptor.GetProperty("digest").GetString()!;
        byte[] content = File.ReadAllBytes(Path.Combine(layout, "blobs", digest.Replace(':', '/')));
        content.Length.ShouldBe(descriptor.GetProperty("size").GetInt32());
        $"sha256:{Convert.ToHexStringLower(SHA256.HashData(content))}".ShouldBe(digest);
        return content;
    }

    private static JsonElement Json(byte[] content)
    {
        using JsonDocument document = JsonDocument.Parse(content);
        return document.RootElement.Clone();
    }
}
