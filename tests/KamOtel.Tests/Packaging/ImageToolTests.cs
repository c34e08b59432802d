using System.Formats.Tar;
using System.IO.Compression;
using System.Text.RegularExpressions;
using KamOtel.Image;
using KamOtel.Tests.Linux;

namespace KamOtel.Tests.Packaging;

/// <summary>How the container image is written. That it runs is shown end to end.</summary>
public sealed partial class ImageToolTests : IDisposable
{
    private static readonly Build Build = new("1.2.3", "0123456789ab", "amd64");
    private static readonly DateTimeOffset Time = DateTimeOffset.FromUnixTimeSeconds(1_700_000_000);
    private static readonly ImageFile[] Files =
    [
        ImageFile.Folder("tmp", UnixFileMode.StickyBit), ImageFile.Folder("usr"), ImageFile.Program("usr/kamotel", [1, 2, 3]), ImageFile.Text("usr/text", "text"),
    ];

    private readonly Scratch _scratch = new();

    [Fact]
    public void The_same_files_make_the_same_image()
    {
        string digest = Write("first", Files, Time);

        digest.ShouldStartWith("sha256:");
        Write("second", Files, Time).ShouldBe(digest);
        File.ReadAllBytes(_scratch["second"]).ShouldBe(File.ReadAllBytes(_scratch["first"]));
        Write("third", [.. Files, ImageFile.Text("usr/zzz", "")], Time).ShouldNotBe(digest);
        Write("fourth", Files, Time.AddSeconds(1)).ShouldNotBe(digest);
    }

    [Fact]
    public void All_is_roots_and_as_old_as_the_sources()
    {
        _ = Write("image", Files, Time);
        using var archive = new TarReader(File.OpenRead(_scratch["image"]));
        var largest = new MemoryStream();
        while (archive.GetNextEntry(copyData: true) is { } part)
        {
            part.ModificationTime.ShouldBe(Time, part.Name);
            // The layer is the only part that is compressed.
            if (part.DataStream is { } content && content.ReadByte() == 0x1f)
            {
                content.Position = 0;
                new GZipStream(content, CompressionMode.Decompress).CopyTo(largest);
            }
        }
        largest.Position = 0;
        using var layer = new TarReader(largest);
        var found = new List<string>();
        while (layer.GetNextEntry() is { } entry)
        {
            (entry.Uid, entry.Gid, entry.ModificationTime).ShouldBe((0, 0, Time));
            found.Add($"{entry.Name} {Convert.ToString((int)entry.Mode, 8)}");
        }
        found.ShouldBe(["tmp/ 1755", "usr/ 755", "usr/kamotel 755", "usr/text 644"]);
    }

    [Fact]
    public void A_folder_for_the_Dockerfile_has_the_same_files()
    {
        Folder.Write(Files, _scratch["root"], Time);

        File.ReadAllBytes(_scratch["root/usr/kamotel"]).ShouldBe([1, 2, 3]);
#pragma warning disable CA1416 // There is no KamOtel elsewhere.
        File.GetUnixFileMode(_scratch["root/usr/text"]).ShouldBe(Files[3].Mode);
#pragma warning restore CA1416
        Directory.GetLastWriteTimeUtc(_scratch["root/usr"]).ShouldBe(Time.UtcDateTime);
        Should.Throw<IOException>(() => Folder.Write(Files, _scratch["root"], Time)).Message.ShouldContain("not empty");
    }

    [Fact]
    public void The_Dockerfile_says_the_same_of_how_to_run_it()
    {
        string text = File.ReadAllText(Path.Combine(Repository.Root, "packaging/image/Dockerfile")).Replace("\\\n", "", StringComparison.Ordinal);
        ILookup<string, string> last = text[text.LastIndexOf("\nFROM ", StringComparison.Ordinal)..].Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(static line => line.Split(' ', 2)).ToLookup(static words => words[0], static words => words[1]);

        string Only(string instruction) => last[instruction].ShouldHaveSingleItem(instruction);
        Only("FROM").ShouldBe("scratch");
        Only("ENTRYPOINT").ShouldBe(JsonList(ImageConfig.EntryPoint));
        Only("CMD").ShouldBe(JsonList(ImageConfig.Command));
        Only("EXPOSE").ShouldBe(ImageConfig.Port);
        Only("ENV").Split(' ').ShouldBe(ImageConfig.Environment);
        Label().Matches(Only("LABEL")).ToDictionary(static m => m.Groups[1].Value, static m => m.Groups[2].Value, StringComparer.Ordinal).ShouldBe(
            ImageConfig.Of(Build with { Version = "${VERSION}", Revision = "${REVISION}" }).Labels, ignoreOrder: true);
        last["USER"].ShouldBeEmpty();
    }

    public void Dispose() => _scratch.Dispose();

    private static string JsonList(IEnumerable<string> words) => $"[{string.Join(", ", words.Select(static w => $"\"{w}\""))}]";

    private string Write(string name, ImageFile[] files, DateTimeOffset time) => Archive.Write(files, ImageConfig.Of(Build), _scratch[name], time);

    [GeneratedRegex("(\\S+)=\"([^\"]*)\"")]
    private static partial Regex Label();
}
