using System.Text.RegularExpressions;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>The documentation is in the agent, whole, and each link in it leads somewhere.</summary>
public sealed partial class GuidesTests
{
    public static TheoryData<string> Guides { get; } = [.. KamOtel.Agent.Guides.Paths.Where(static p => p.EndsWith(".md", StringComparison.Ordinal)), "docs/"];

    [Fact]
    public void All_files_of_docs_are_there_as_they_are()
    {
        string[] files = [.. new[] { "*.md", "*.schema.json" }.SelectMany(static p => Directory.GetFiles(Path.Combine(Repository.Root, "docs"), p, SearchOption.AllDirectories)).Select(static f => Path.GetRelativePath(Repository.Root, f)).Order(StringComparer.Ordinal)];
        KamOtel.Agent.Guides.Paths.ShouldBe(files);
        foreach (string file in files)
        {
            KamOtel.Agent.Guides.Text(file).ShouldBe(File.ReadAllText(Path.Combine(Repository.Root, file)));
        }
    }

    [Theory]
    [MemberData(nameof(Guides))]
    public void Each_link_of_a_page_leads_to_a_page_and_a_place_on_it(string path)
    {
        string page = KamOtel.Agent.Guides.Page(path).ShouldNotBeNull();
        page.ShouldNotContain("<>");
        var here = new Uri("http://localhost/" + path);
        Uri[] links = [.. Link().Matches(page).Select(m => new Uri(here, m.Groups["url"].Value)).Where(static u => u is { Host: "localhost", AbsolutePath: not "/" } && !u.AbsolutePath.StartsWith("/page/", StringComparison.Ordinal))];
        links.ShouldNotBeEmpty();
        foreach (Uri link in links)
        {
            string to = link.AbsolutePath[1..];
            if (KamOtel.Agent.Guides.Page(to) is { } target)
            {
                (link.Fragment.Length == 0 || target.Contains($" id=\"{link.Fragment[1..]}\"", StringComparison.Ordinal)).ShouldBeTrue($"{path} leads to {link.PathAndQuery}{link.Fragment}");
            }
            else
            {
                KamOtel.Agent.Guides.Paths.ShouldContain(to);
            }
        }
    }

    [Fact]
    public void What_is_only_in_the_repository_is_no_link() =>
        KamOtel.Agent.Guides.Page("docs/advice.md")!.ShouldNotContain("../agent");

    [Theory]
    [InlineData("docs/missing.md")]
    [InlineData("docs/../README.md")]
    [InlineData("docs/scan.schema.json")]
    [InlineData("page/guide.css")]
    public void Nothing_else_is_a_guide(string path) => KamOtel.Agent.Guides.Page(path).ShouldBeNull();

    /// <summary>A runbook and a piece of advice name the page where it says more: it is there.</summary>
    [Fact]
    public void What_is_named_as_a_source_is_there()
    {
        string[] named = [.. Enum.GetValues<Verdict>().Select(Words.RunbookOf).OfType<string>(), Words.CrashRunbook, .. AdviceFile.Load().Advice.Select(static a => a.Source).Where(static s => s.StartsWith("docs/", StringComparison.Ordinal))];
        named.Length.ShouldBeGreaterThan(5);
        foreach (string source in named)
        {
            string[] parts = source.Split('#');
            KamOtel.Agent.Guides.Page(parts[0]).ShouldNotBeNull(source);
            (parts.Length == 1 || KamOtel.Agent.Guides.Page(parts[0])!.Contains($" id=\"{parts[1]}\"", StringComparison.Ordinal)).ShouldBeTrue(source);
        }
    }

    [GeneratedRegex("href=\"(?<url>[^\"]+)\"", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Link();
}
