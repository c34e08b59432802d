using System.Text.RegularExpressions;
using System.Xml.Linq;
using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

/// <summary>The files of the package say what the agent and its documentation do.</summary>
public sealed partial class PackageTests
{
    private static readonly string[] Unit = Lines("packaging/systemd/kamotel.service");

    [GeneratedRegex(@"^#?(?<name>[A-Z][A-Z_]+)=")]
    private static partial Regex Variable { get; }

    [GeneratedRegex(@"^(?<space> *)// (?<key>""[^""]+"":)", RegexOptions.Multiline)]
    private static partial Regex CommentedSetting { get; }

    [Fact]
    public void The_service_has_the_capabilities_of_the_security_guide_and_an_older_kernels_drop_in_the_rest()
    {
        string[] given = Words("AmbientCapabilities");
        Words("CapabilityBoundingSet").ShouldBe(given);
        given.ShouldBeSubsetOf(DoctorPrivileges.All);
        File("docs/operations.md").ShouldContain($"AmbientCapabilities='{string.Join(' ', given)}'");
        string[] more = [.. Lines("packaging/systemd/sys-admin.conf").Where(static line => line.StartsWith("AmbientCapabilities=", StringComparison.Ordinal)).SelectMany(static line => line.Split('=')[1].Split(' '))];
        Lines("packaging/systemd/sys-admin.conf").ShouldContain($"CapabilityBoundingSet={string.Join(' ', more)}");

        string guide = Path.Combine(Repository.Root, "docs", "security.md");
        Assert.SkipUnless(System.IO.File.Exists(guide), "there is no docs/security.md yet");
        Row(guide, "| Linux 6.6 and later |").ShouldBe(given);
        Row(guide, "| older |").ShouldBe([.. given, .. more]);
    }

    [Fact]
    public void The_operations_guide_says_what_is_in_the_unit()
    {
        string[] said = [.. Lines("docs/operations.md")
            .SkipWhile(static line => !line.StartsWith("| what the service may do |", StringComparison.Ordinal)).Skip(2)
            .TakeWhile(static line => line.StartsWith('|'))
            .SelectMany(static line => line.Split('|')[1].Split('`').Where(static (_, i) => i % 2 == 1))];
        said.ShouldBeSubsetOf(Unit);
        // Whatever limits it is told.
        Unit.Where(static line => line.StartsWith("Memory", StringComparison.Ordinal) || line.StartsWith("CPU", StringComparison.Ordinal) || line.StartsWith("Limit", StringComparison.Ordinal))
            .Where(static line => !line.StartsWith("MemoryDeny", StringComparison.Ordinal)).ShouldBeSubsetOf(said);
    }

    [Fact]
    public void It_starts_before_each_server_that_is_watched() =>
        Words("Before").ShouldBe(new RunOptions().Watch.Select(static name => $"{name}.service"));

    [Fact]
    public void What_trying_again_does_not_change_is_not_tried_again() =>
        Words("RestartPreventExitStatus").ShouldBe([$"{ExitCode.Usage}", $"{ExitCode.NoPermission}"]);

    [Fact]
    public void The_settings_of_the_package_change_nothing_until_a_line_is_taken_in_and_then_not_either()
    {
        string shipped = File("packaging/config/appsettings.json");
        string all = CommentedSetting.Replace(shipped, "${space}${key}");
        all.ShouldNotBe(shipped);
        Load(shipped).ShouldBe(Told(new RunOptions()));
        Load(all).ShouldBe(Told(new RunOptions()));
    }

    [Fact]
    public void The_environment_of_the_package_is_empty_and_names_what_there_is()
    {
        string[] lines = Lines("packaging/config/kamotel.env");
        lines.ShouldAllBe(static line => line.Length == 0 || line[0] == '#');
        string[] names = [.. lines.Select(static line => Variable.Match(line)).Where(static m => m.Success).Select(static m => m.Groups["name"].Value)];
        names.ShouldNotBeEmpty();
        string guide = File("docs/operations.md");
        names.ShouldAllBe(name => guide.Contains($"`{name}`", StringComparison.Ordinal));
    }

    [Fact]
    public void The_copyright_file_names_every_package_that_is_linked()
    {
        string[] linked = [.. Directory.EnumerateFiles(Path.Combine(Repository.Root, "agent"), "*.csproj", SearchOption.AllDirectories)
            .SelectMany(static project => XDocument.Load(project).Descendants("PackageReference"))
            .Select(static reference => reference.Attribute("Include")!.Value).Distinct(StringComparer.Ordinal)];
        linked.ShouldNotBeEmpty();
        string copyright = File("packaging/copyright");
        linked.ShouldAllBe(name => copyright.Contains(name, StringComparison.Ordinal));
    }

    private static string[] Words(string key) => Unit.Single(line => line.StartsWith($"{key}=", StringComparison.Ordinal))[(key.Length + 1)..].Split(' ');

    private static string[] Row(string guide, string head) =>
        [.. System.IO.File.ReadLines(guide).First(line => line.StartsWith(head, StringComparison.Ordinal)).Split('|')[2].Split('`').Where(static (_, i) => i % 2 == 1)];

    private static string File(string path) => System.IO.File.ReadAllText(Path.Combine(Repository.Root, path));

    private static string[] Lines(string path) => System.IO.File.ReadAllLines(Path.Combine(Repository.Root, path));

    private static string[] Told(RunOptions options) =>
        [.. typeof(RunOptions).GetProperties().Select(p => $"{p.Name}={(p.GetValue(options) is string[] list ? string.Join(',', list) : p.GetValue(options))}")];

    private static string[] Load(string text)
    {
        string file = Path.GetTempFileName();
        try
        {
            System.IO.File.WriteAllText(file, text);
            return Told(Configuration.Load(file, static _ => null, []));
        }
        finally
        {
            System.IO.File.Delete(file);
        }
    }
}
