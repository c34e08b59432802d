using System.Security.Cryptography;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Xml.Linq;

namespace KamOtel.Image;

/// <summary>
/// What the image is made of, as CycloneDX: the Debian packages that its files come from, those that are linked into the
/// executable, and the NuGet packages that are compiled into it.
/// </summary>
internal static class BillOfMaterials
{
    /// <summary>The static libraries of the isolated unwinder and of the guard.</summary>
    private static readonly string[] LinkedIn = ["libc6-dev", "libdw-dev", "libelf-dev", "liblzma-dev", "libbz2-dev", "zlib1g-dev"];

    private static readonly JsonSerializerOptions Readable = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static string Of(Build build, IEnumerable<SharedLibrary> libraries, string assets, DateTimeOffset time)
    {
        JsonObject[] components =
        [
            .. libraries.Select(static l => l.Package).Append(DebianPackage.Named("ca-certificates")).Distinct()
                .OrderBy(static p => p.Name, StringComparer.Ordinal).Select(static p => Debian(p, "file")),
            .. LinkedIn.Select(static name => Debian(DebianPackage.Named(name), "linked")),
            .. NuGet(assets),
        ];
        const string Self = "kamotel";
        var bill = new JsonObject
        {
            ["bomFormat"] = "CycloneDX",
            ["specVersion"] = "1.6",
            ["version"] = 1,
            ["metadata"] = new JsonObject
            {
                ["timestamp"] = time.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture),
                ["component"] = new JsonObject
                {
                    ["type"] = "container",
                    ["bom-ref"] = Self,
                    ["name"] = "kamotel",
                    ["version"] = build.Version,
                    ["licenses"] = new JsonArray(new JsonObject { ["expression"] = "Apache-2.0 AND GPL-2.0-only" }),
                    ["properties"] = new JsonArray(Property("kamotel:revision", build.Revision), Property("kamotel:architecture", build.Architecture)),
                },
            },
            ["components"] = new JsonArray([.. components]),
            ["dependencies"] = new JsonArray(new JsonObject
            {
                ["ref"] = Self,
                ["dependsOn"] = new JsonArray([.. components.Select(static c => (JsonNode?)c["bom-ref"]!.GetValue<string>())]),
            }),
        };
        bill["serialNumber"] = $"urn:uuid:{new Guid(SHA256.HashData(Encoding.UTF8.GetBytes(bill.ToJsonString())).AsSpan(0, 16))}";
        return bill.ToJsonString(Readable) + "\n";
    }

    private static JsonObject Debian(DebianPackage package, string how) => Component(
        "library", package.Name, package.Version, $"pkg:deb/debian/{package.Name}@{Uri.EscapeDataString(package.Version)}?arch={package.Architecture}", licence: null, how);

    /// <summary>Packages that have code of their own, and .NET's runtime.</summary>
    private static IEnumerable<JsonObject> NuGet(string assets)
    {
        using JsonDocument document = JsonDocument.Parse(File.ReadAllBytes(assets));
        JsonElement root = document.RootElement;
        string[] folders = [.. root.GetProperty("packageFolders").EnumerateObject().Select(static f => f.Name)];
        (string Name, string Version)[] compiled =
        [
            .. root.GetProperty("targets").EnumerateObject().First(static t => t.Name.Contains('/', StringComparison.Ordinal)).Value.EnumerateObject()
                .Where(static p => p.Value.GetProperty("type").GetString() == "package" && p.Value.TryGetProperty("runtime", out JsonElement files)
                    && files.EnumerateObject().Any(static f => f.Name.EndsWith(".dll", StringComparison.Ordinal)))
                .Select(static p => p.Name.Split('/') is [string name, string version] ? (name, version) : throw new InvalidDataException($"no package: {p.Name}")),
        ];
        (string, string)[] runtime =
        [
            .. root.GetProperty("project").GetProperty("frameworks").EnumerateObject().First().Value.GetProperty("downloadDependencies").EnumerateArray()
                .Select(static d => (Name: d.GetProperty("name").GetString()!, Version: d.GetProperty("version").GetString()!.Trim('[', ']').Split(',')[0]))
                .Where(static d => d.Name.StartsWith("Microsoft.AspNetCore.App.Runtime.", StringComparison.Ordinal) || d.Name.StartsWith("Microsoft.NETCore.App.Runtime.", StringComparison.Ordinal)),
        ];
        return compiled.Concat(runtime).OrderBy(static p => p.Item1, StringComparer.Ordinal)
            .Select(p => Component("library", p.Item1, p.Item2, $"pkg:nuget/{p.Item1}@{p.Item2}", LicenceOf(p.Item1, p.Item2, folders), "compiled"));
    }

    /// <summary>As the package's own description says; null where it does not by a name.</summary>
    private static string? LicenceOf(string name, string version, string[] folders)
    {
        string id = name.ToLowerInvariant();
        string? description = folders.Select(folder => Path.Combine(folder, id, version, $"{id}.nuspec")).FirstOrDefault(File.Exists);
        return description is null ? null : XDocument.Load(description).Descendants()
            .FirstOrDefault(static e => e.Name.LocalName == "license" && e.Attribute("type")?.Value == "expression")?.Value;
    }

    private static JsonObject Component(string type, string name, string version, string url, string? licence, string how)
    {
        var component = new JsonObject
        {
            ["type"] = type,
            ["bom-ref"] = how == "linked" ? $"{url}&linked" : url,
            ["name"] = name,
            ["version"] = version,
            ["purl"] = url,
            ["properties"] = new JsonArray(Property("kamotel:how", how)),
        };
        if (licence is not null)
        {
            component["licenses"] = new JsonArray(new JsonObject { ["expression"] = licence });
        }
        return component;
    }

    private static JsonObject Property(string name, string value) => new() { ["name"] = name, ["value"] = value };
}
