using YamlDotNet.RepresentationModel;

namespace KamOtel.EndToEndTests;

/// <summary>The chart rendered once for every combination of values.</summary>
public sealed class HelmChart : IAsyncLifetime
{
    private readonly Scratch _scratch = new();
    private IReadOnlyList<HelmRendering> _renderings = [];

    /// <summary>The chart's folder.</summary>
    internal static string Folder { get; } = Path.Combine(Requirements.Repository, "helm", "kamotel");

    /// <summary>Every combination, rendered.</summary>
    internal IReadOnlyList<HelmRendering> Renderings => _renderings;

    /// <summary>A place for a test's own files.</summary>
    internal string this[string name] => _scratch[name];

    /// <summary>One of them.</summary>
    internal HelmRendering this[HelmValues values] => _renderings.Single(r => r.Values == values);

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        Requirements.Program("node");
        Requirements.Program("npm");
        // The first call fetches helm; the others find it.
        (await Helm("version")).Code.ShouldBe(0);
        // All in one turn of helm each, two at a time: most of the time is the start of a process.
        using var turns = new SemaphoreSlim(2);
        _renderings = await Task.WhenAll(HelmValues.All.Select(async (values, number) =>
        {
            string file = _scratch[$"{number}.values.yaml"];
            await File.WriteAllTextAsync(file, values.Yaml);
            await turns.WaitAsync();
            try
            {
                Ended ended = await Helm(["template", values.Release, Folder, "--namespace", HelmValues.Namespace, "--values", file, .. values.KubeVersion is { } version ? new[] { "--kube-version", version } : []]);
                ended.Code.ShouldBe(0, $"{values.Name}: {ended}");
                string rendered = _scratch[$"{number}.rendered.yaml"];
                await File.WriteAllTextAsync(rendered, ended.Output);
                return new HelmRendering(values, file, rendered, HelmRendering.Parse(ended.Output));
            }
            finally
            {
                turns.Release();
            }
        }));
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        _scratch.Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>Runs helm.</summary>
    internal static Task<Ended> Helm(params string[] arguments) =>
        RunningProgram.Run(Path.Combine(Requirements.Repository, "scripts", "helm"), arguments, patience: TimeSpan.FromSeconds(120));

    /// <summary>Holds manifests against the published schemas and types.</summary>
    internal static Task<Ended> Check(params string[] files) =>
        RunningProgram.Run("node", [Path.Combine(Requirements.Repository, "helm", "tools", "check.mjs"), Path.Combine(Requirements.Repository, "out", "helm-tools"), .. files], patience: TimeSpan.FromSeconds(120));
}

/// <summary>What helm made of some values.</summary>
/// <param name="Values">The values.</param>
/// <param name="ValuesFile">The file with them.</param>
/// <param name="File">The file with all manifests.</param>
/// <param name="Manifests">The manifests.</param>
internal sealed record HelmRendering(HelmValues Values, string ValuesFile, string File, IReadOnlyList<YamlMappingNode> Manifests)
{
    /// <summary>The one manifest of a kind.</summary>
    public YamlMappingNode The(string kind) => OfKind(kind).ShouldHaveSingleItem();

    /// <summary>All manifests of a kind.</summary>
    public IEnumerable<YamlMappingNode> OfKind(string kind) => Manifests.Where(m => m.Text("kind") == kind);

    /// <summary>The agent's container.</summary>
    public YamlMappingNode Agent() => The("DaemonSet").At("spec/template/spec/containers/0").ShouldBeOfType<YamlMappingNode>();

    /// <summary>Pod templates and pods, with the name of what they belong to.</summary>
    public IEnumerable<(string Owner, YamlMappingNode Pod)> Pods() => Manifests.SelectMany(static m =>
        m.At("spec/template/spec/containers") is not null ? [($"{m.Text("kind")}/{m.Text("metadata/name")}", (YamlMappingNode)m.At("spec/template/spec")!)]
        : m.At("spec/containers") is not null ? [($"{m.Text("kind")}/{m.Text("metadata/name")}", (YamlMappingNode)m.At("spec")!)]
        : Array.Empty<(string, YamlMappingNode)>());

    /// <summary>The documents of a stream that are not empty.</summary>
    public static IReadOnlyList<YamlMappingNode> Parse(string yaml)
    {
        var stream = new YamlStream();
        stream.Load(new StringReader(yaml));
        return [.. stream.Documents.Select(static d => d.RootNode).OfType<YamlMappingNode>()];
    }
}

/// <summary>Finding one's way in YAML.</summary>
internal static class YamlPaths
{
    /// <summary>What is at a path of keys and numbers, or null.</summary>
    public static YamlNode? At(this YamlNode node, string path)
    {
        YamlNode? at = node;
        foreach (string step in path.Split('/'))
        {
            at = at switch
            {
                YamlMappingNode mapping => mapping.Children.TryGetValue(step, out YamlNode? child) ? child : null,
                YamlSequenceNode sequence when int.TryParse(step, out int index) && index < sequence.Children.Count => sequence[index],
                _ => null,
            };
        }
        return at;
    }

    /// <summary>The text at a path, or null.</summary>
    public static string? Text(this YamlNode node, string path) => (node.At(path) as YamlScalarNode)?.Value;

    /// <summary>The items of a list at a path; none when there is no list.</summary>
    public static IEnumerable<YamlNode> Items(this YamlNode node, string path) => node.At(path) as YamlSequenceNode ?? Enumerable.Empty<YamlNode>();

    /// <summary>The entries of a mapping at a path; none when there is no mapping.</summary>
    public static Dictionary<string, string> Texts(this YamlNode node, string path) =>
        (node.At(path) as YamlMappingNode)?.Children.ToDictionary(static c => ((YamlScalarNode)c.Key).Value!, static c => (c.Value as YamlScalarNode)?.Value ?? "") ?? [];

    /// <summary>A container's variables; of one that comes from elsewhere, an empty text.</summary>
    public static Dictionary<string, string> Variables(this YamlNode container) =>
        container.Items("env").ToDictionary(static e => e.Text("name")!, static e => e.Text("value") ?? "");

    /// <summary>Every mapping inside, itself included.</summary>
    public static IEnumerable<YamlMappingNode> Mappings(this YamlNode node) => node.AllNodes.OfType<YamlMappingNode>();
}
