using System.Formats.Tar;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace KamOtel.Image;

/// <summary>
/// The image as one file: an OCI image layout in a tar, for podman, skopeo, containerd and Docker from 25 on, with the
/// manifest beside it that older Dockers load. Written in a fixed order and with one time, so that equal content has an
/// equal digest.
/// </summary>
internal static class Archive
{
    private const string ManifestType = "application/vnd.oci.image.manifest.v1+json";
    private const string ConfigType = "application/vnd.oci.image.config.v1+json";
    private const string LayerType = "application/vnd.oci.image.layer.v1.tar+gzip";
    private static readonly JsonSerializerOptions Plain = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <returns>The digest of the manifest, by which the image is known.</returns>
    public static string Write(IEnumerable<ImageFile> files, ImageConfig config, string output, DateTimeOffset time)
    {
        byte[] layer = Tar(files, time);
        byte[] packed = Gzip(layer);
        string created = time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture);
        byte[] configuration = Json(new JsonObject
        {
            ["created"] = created,
            ["architecture"] = config.Architecture,
            ["os"] = "linux",
            ["config"] = new JsonObject
            {
                ["ExposedPorts"] = new JsonObject { [ImageConfig.Port] = new JsonObject() },
                ["Env"] = List(ImageConfig.Environment),
                ["Entrypoint"] = List(ImageConfig.EntryPoint),
                ["Cmd"] = List(ImageConfig.Command),
                ["Labels"] = new JsonObject(config.Labels.Select(static l => KeyValuePair.Create(l.Key, (JsonNode?)l.Value))),
            },
            ["rootfs"] = new JsonObject { ["type"] = "layers", ["diff_ids"] = List([Digest(layer)]) },
            ["history"] = new JsonArray(new JsonObject { ["created"] = created, ["created_by"] = "packaging/image" }),
        });
        byte[] manifest = Json(new JsonObject
        {
            ["schemaVersion"] = 2,
            ["mediaType"] = ManifestType,
            ["config"] = Descriptor(ConfigType, configuration),
            ["layers"] = new JsonArray(Descriptor(LayerType, packed)),
        });
        JsonObject described = Descriptor(ManifestType, manifest);
        described["annotations"] = new JsonObject { ["io.containerd.image.name"] = config.Name, ["org.opencontainers.image.ref.name"] = config.Name };
        described["platform"] = new JsonObject { ["architecture"] = config.Architecture, ["os"] = "linux" };
        byte[] index = Json(new JsonObject
        {
            ["schemaVersion"] = 2,
            ["mediaType"] = "application/vnd.oci.image.index.v1+json",
            ["manifests"] = new JsonArray(described),
        });
        byte[] forDocker = Json(new JsonArray(new JsonObject
        {
            ["Config"] = PathOf(configuration),
            ["RepoTags"] = List([config.Name]),
            ["Layers"] = List([PathOf(packed)]),
        }));
        ImageFile[] parts =
        [
            ImageFile.Text("oci-layout", """{"imageLayoutVersion":"1.0.0"}"""),
            ImageFile.Plain("index.json", index),
            ImageFile.Plain("manifest.json", forDocker),
            ImageFile.Folder("blobs"),
            ImageFile.Folder("blobs/sha256"),
            .. new[] { manifest, configuration, packed }.Select(static blob => ImageFile.Plain(PathOf(blob), blob)),
        ];
        string unfinished = $"{output}.new";
        File.WriteAllBytes(unfinished, Tar(parts, time));
        File.Move(unfinished, output, overwrite: true);
        return Digest(manifest);
    }

    private static byte[] Tar(IEnumerable<ImageFile> files, DateTimeOffset time)
    {
        using var bytes = new MemoryStream();
        using (var writer = new TarWriter(bytes, TarEntryFormat.Ustar, leaveOpen: true))
        {
            foreach (ImageFile file in files)
            {
                var entry = new UstarTarEntry(file.Content is null ? TarEntryType.Directory : TarEntryType.RegularFile, file.Content is null ? $"{file.Path}/" : file.Path)
                {
                    Mode = file.Mode,
                    ModificationTime = time,
                };
                if (file.Content is not null)
                {
                    entry.DataStream = new MemoryStream(file.Content);
                }
                writer.WriteEntry(entry);
            }
        }
        return bytes.ToArray();
    }

    private static byte[] Gzip(byte[] content)
    {
        using var bytes = new MemoryStream();
        using (var gzip = new GZipStream(bytes, CompressionLevel.SmallestSize, leaveOpen: true))
        {
            gzip.Write(content);
        }
        return bytes.ToArray();
    }

    private static JsonObject Descriptor(string type, byte[] content) =>
        new() { ["mediaType"] = type, ["digest"] = Digest(content), ["size"] = content.Length };

    private static JsonArray List(IEnumerable<string> words) => new([.. words.Select(static w => (JsonNode?)w)]);

    private static byte[] Json(JsonNode node) => Encoding.UTF8.GetBytes(node.ToJsonString(Plain));

    private static string PathOf(byte[] content) => $"blobs/sha256/{Convert.ToHexStringLower(SHA256.HashData(content))}";

    private static string Digest(byte[] content) => $"sha256:{Convert.ToHexStringLower(SHA256.HashData(content))}";
}
