using KamOtel.Dashboards;

namespace KamOtel.Tests.Agent;

/// <summary>Dashboards and rules are committed as their source makes them.</summary>
public sealed class GeneratedFilesTests
{
    [Fact]
    public void Each_generated_file_is_committed_as_its_source_makes_it() =>
        Generated.Files.Where(static f => Path.Combine(Repository.Root, f.Path) is var path && (!File.Exists(path) || File.ReadAllText(path) != f.Text))
            .Select(static f => f.Path).ShouldBeEmpty("`make dashboards` writes them");
}
