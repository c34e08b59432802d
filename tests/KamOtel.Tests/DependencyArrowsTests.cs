using System.Reflection;
using System.Xml.Linq;

namespace KamOtel.Tests;

/// <summary>
/// Who may know whom. The project files say what may be used; the assemblies say what is used. (A compiled assembly
/// drops references it does not use, and a project file can be bypassed by what flows through another project: so both.)
/// </summary>
public sealed class DependencyArrowsTests
{
    private const string Logging = "Microsoft.Extensions.Logging.Abstractions";

    private static readonly Dictionary<string, (string[] Projects, string[]? Packages)> Allowed = new(StringComparer.Ordinal)
    {
        ["KamOtel.Diagnosis"] = ([], []),
        ["KamOtel.Linux"] = (["KamOtel.Diagnosis"], [Logging, "Iced"]),
        ["KamOtel.Bpf"] = (["KamOtel.Diagnosis"], [Logging]),
        ["KamOtel.Agent"] = (["KamOtel.Bpf", "KamOtel.Diagnosis", "KamOtel.Linux"], null),
    };

    public static TheoryData<string> Projects => [.. Allowed.Keys];

    [Theory, MemberData(nameof(Projects))]
    public void A_project_file_refers_to_what_it_may_know_and_to_nothing_else(string project)
    {
        XDocument file = XDocument.Load(Path.Combine(Repository.Root, "agent", project, project + ".csproj"));
        (string[] projects, string[]? packages) = Allowed[project];

        References(file, "ProjectReference").Select(path => Path.GetFileNameWithoutExtension(path.Replace('\\', '/')))
            .Order(StringComparer.Ordinal).ShouldBe(projects);
        if (packages is not null)
        {
            References(file, "PackageReference").ShouldBeSubsetOf(packages);
            References(file, "FrameworkReference").ShouldBeEmpty();
            References(file, "Reference").ShouldBeEmpty();
        }
    }

    [Theory, MemberData(nameof(Projects))]
    public void An_assembly_uses_what_it_may_know_and_nothing_else(string project)
    {
        (string[] projects, string[]? packages) = Allowed[project];
        string[] used = [.. AssemblyOf(project).GetReferencedAssemblies().Select(name => name.Name!)];

        used.ShouldContain("System.Runtime");
        used.Where(name => name.StartsWith("KamOtel.", StringComparison.Ordinal)).ShouldBeSubsetOf(projects);
        if (packages is not null)
        {
            used.Where(name => !name.StartsWith("KamOtel.", StringComparison.Ordinal) && !IsBaseLibrary(name)).ShouldBeSubsetOf(packages);
        }
    }

    [Fact]
    public void Every_project_of_the_agent_is_held_by_these_tests() =>
        Directory.EnumerateFiles(Path.Combine(Repository.Root, "agent"), "*.csproj", SearchOption.AllDirectories)
            .Select(path => Path.GetFileNameWithoutExtension(path)).Order(StringComparer.Ordinal)
            .ShouldBe(Allowed.Keys.Order(StringComparer.Ordinal));

    [Fact]
    public void The_base_library_is_told_from_packages()
    {
        IsBaseLibrary("System.Collections.Immutable").ShouldBeTrue();
        IsBaseLibrary("System.CommandLine").ShouldBeFalse();
        IsBaseLibrary("OpenTelemetry").ShouldBeFalse();
    }

    private static IEnumerable<string> References(XDocument file, string item) =>
        file.Descendants(item).Select(element => (string?)element.Attribute("Include")).OfType<string>();

    private static Assembly AssemblyOf(string project) =>
        Assembly.Load(project == "KamOtel.Agent" ? "kamotel" : project);

    // What lies beside the runtime's own core library; the web framework lies elsewhere.
    private static bool IsBaseLibrary(string name) =>
        File.Exists(Path.Combine(Path.GetDirectoryName(typeof(object).Assembly.Location)!, name + ".dll"));
}
