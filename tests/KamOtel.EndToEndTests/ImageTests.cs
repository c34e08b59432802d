using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Json.Schema;

namespace KamOtel.EndToEndTests;

/// <summary>
/// The image, run as an engine runs it: with a read-only root, the documented capabilities, no new privileges and the
/// default system calls, against servers in containers of their own.
/// </summary>
public sealed partial class ImageTests : IAsyncLifetime
{
    private const string Pod = "11111111-2222-3333-4444-555555555555";

    /// <summary>Who owns it may name it as he likes.</summary>
    private const string HostileName = "ed\"ge\\\n\u001b[31m";

    private readonly Scratch _scratch = new();
    private readonly string _name = ServerName.New();
    private readonly List<IAsyncDisposable> _running = [];
    private readonly List<string> _mounted = [];

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        foreach (IAsyncDisposable running in Enumerable.Reverse(_running))
        {
            await running.DisposeAsync();
        }
        foreach (string mounted in Enumerable.Reverse(_mounted))
        {
            (await RunningProgram.Run("umount", [mounted])).Code.ShouldBe(0);
        }
        // runc leaves the groups above a container's own.
        foreach (string hierarchy in Directory.EnumerateDirectories("/sys/fs/cgroup").Append("/sys/fs/cgroup"))
        {
            _ = await RunningProgram.Run("sh", ["-c", $"cd '{hierarchy}' && rmdir kubepods/burstable/pod{Pod} kubepods/burstable kubepods docker 2>/dev/null"]);
        }
        _scratch.Dispose();
    }

    [Fact]
    public async Task Other_programs_know_it()
    {
        RequireImage();
        Requirements.Program("skopeo");
        foreach (string transport in new[] { "oci-archive", "docker-archive" })
        {
            Ended ended = await RunningProgram.Run("skopeo", ["inspect", "--config", $"{transport}:{ContainerImage.Archive}"]);
            ended.Code.ShouldBe(0, ended.ToString());
            using JsonDocument told = JsonDocument.Parse(ended.Output);
            told.RootElement.GetProperty("config").GetProperty("Entrypoint")[0].GetString().ShouldBe("/usr/bin/kamotel");
        }
    }

    [Fact]
    public async Task Its_bill_of_materials_is_CycloneDX_and_names_all_that_is_in_it()
    {
        RequireImage();
        Requirements.Program("npm");
        string schemas = await Schemas();
        JsonSchema schema = JsonSchema.FromFile(Path.Combine(schemas, "bom-1.6.SNAPSHOT.schema.json"));
        foreach (string part in new[] { "spdx", "jsf-0.82", "cryptography-defs" })
        {
            string file = $"{part}.SNAPSHOT.schema.json";
            SchemaRegistry.Global.Register(new Uri($"http://cyclonedx.org/schema/{file}"), JsonSchema.FromFile(Path.Combine(schemas, file)));
        }
        bool Valid(JsonNode document) => schema.Evaluate(document.Deserialize<JsonElement>()).IsValid;
        ContainerImage image = ContainerImage.Unpack(_scratch["image"]);
        string text = await File.ReadAllTextAsync(Path.Combine(image.Root, "usr/share/kamotel/sbom.cdx.json"), TestContext.Current.CancellationToken);

        text.ShouldBe(await File.ReadAllTextAsync(Path.ChangeExtension(ContainerImage.Archive, ".sbom.json"), TestContext.Current.CancellationToken));
        JsonNode bill = JsonNode.Parse(text)!;
        Valid(bill).ShouldBeTrue(text);
        string[] named = [.. bill["components"]!.AsArray().Select(static c => c!["name"]!.GetValue<string>())];
        named.ShouldContain("Iced");
        named.ShouldContain(static name => name.StartsWith("Microsoft.NETCore.App.Runtime.NativeAOT.", StringComparison.Ordinal));
        // What Debian has brought is named by its licence's folder, and the other way round.
        Directory.EnumerateDirectories(Path.Combine(image.Root, "usr/share/doc")).Select(Path.GetFileName).Where(static name => name != "kamotel").ShouldBeSubsetOf(named);

        bill["components"]![0]!["type"] = "nonsense";
        Valid(bill).ShouldBeFalse();
    }

    [Fact]
    public async Task A_hazard_in_a_container_is_found_from_a_container_and_called_by_its_name()
    {
        RequireImage();
        Requirements.Bpf();
        Requirements.Kamailio("tls");
        ContainerImage image = ContainerImage.Unpack(_scratch["image"]);
        File.ReadAllBytes(Path.Combine(image.Root, "usr/bin/kamotel")).AsSpan().SequenceEqual(File.ReadAllBytes(Requirements.Binary)).ShouldBeTrue("the image is of another binary: make image");

        // A hostile one that is watched: the name of a server, a host name to break out with, and other things where its libcrypto was.
        string layers = await MountLayers();
        await StartHostile(layers);
        (string podId, string dockerId) = (RuncContainer.NewId(), RuncContainer.NewId());
        await StartServer(layers, "found", "edge-0", $"/kubepods/burstable/pod{Pod}/{podId}");

        int port = Scratch.FreePort();
        string[] capabilities = Capabilities();
        RuncContainer agent = Own(RuncContainer.Start(_scratch["agent"], Agent(image, capabilities, user: 0, port, ["run", "--follow", "--watch", _name])));
        using var client = new HttpClient { BaseAddress = new Uri($"http://127.0.0.1:{port}"), Timeout = TimeSpan.FromSeconds(10) };
        string State() => $"-- agent\n{agent.Program}\n{string.Join('\n', _running.OfType<RuncContainer>().Select(static c => $"{c.Program}"))}";
        await Until.True("the agent to be ready", async () => (await Get(client, "/readyz")) is not null, state: State);
        // One is there before the agent, one comes after it: of one image, so with one libcrypto.
        await StartServer(layers, "started", dockerId[..12], $"/docker/{dockerId}");
        // And one in no container, of the file below their layers.
        KamailioServer outside = Own(await KamailioServer.Prepare("tls"));
        _ = await outside.StartAs(_name);

        string pod = "pod:edge-0";
        string docker = $"container:{dockerId[..12]}";
        string text = "";
        Samples metrics = await Until.Found(
            "all hazards",
            async () => (text = await Get(client, "/metrics") ?? "") is { Length: > 0 } && Samples.Parse(text) is var s && s.Verdict(pod) == "hazard" && s.Verdict(docker) == "hazard" && s.Verdict(outside.Configuration) == "hazard"
                && s.Count("kamotel_instance_info", ("target", docker), ("kamailio", "")) == 0 ? s : null,
            state: () => $"{State()}\n{text}");

        metrics.Sum("kamotel_instance_info", ("target", pod), ("container_id", podId), ("k8s_pod_uid", Pod), ("k8s_pod_name", "edge-0")).ShouldBe(1, text);
        metrics.Sum("kamotel_instance_info", ("target", docker), ("container_id", dockerId), ("k8s_pod_uid", ""), ("k8s_pod_name", "")).ShouldBe(1, text);
        // Nobody is counted twice: three paths, one file below, one probe.
        double Calls(string target) => metrics.Sum("kamotel_thread_local_calls_total", ("target", target), ("call", "set_local"), ("thread", "main"), ("phase", "before_fork"), ("value", "pointer"));
        Calls(docker).ShouldBe(Calls(outside.Configuration), text);
        Calls(docker).ShouldBeInRange(1, 4, text); // what GDB counts at most
        metrics.Sum("kamotel_instance_info", ("target", outside.Configuration), ("container_id", ""), ("k8s_pod_uid", ""), ("k8s_pod_name", "")).ShouldBe(1, text);
        metrics.All.ShouldContain(sample => sample.Name == "kamotel_instances" && sample.Labels["target"] == "container:ed\"ge\\??[31m", text);
        text.ShouldNotContain("\u001b");

        // A user other than root, where the engine gives him capabilities.
        RuncContainer scan = Own(RuncContainer.Start(_scratch["scan"], Agent(image, capabilities, user: 65532, port: 0, ["scan", "--json", "--watch", _name])));
        Ended ended = await scan.Program.End();
        ended.Code.ShouldBe(1, ended.ToString());
        ScannedInstance[] servers = ScanReport.Parse(ended.Output).Instances;
        servers.Single(s => s.Target == pod).Container.ShouldBe(new ScannedContainer(podId, "edge-0", Pod, "edge-0"));
        servers.Single(s => s.Target == outside.Configuration).Container.ShouldBeNull();
        servers.Single(s => s.Target == docker).Container.ShouldBe(new ScannedContainer(dockerId, dockerId[..12], null, null));

        agent.Program.Send(Signal.Terminate);
        (await agent.Program.End()).Code.ShouldBe(0, State());
    }

    private static async Task<string?> Get(HttpClient client, string path)
    {
        try
        {
            using HttpResponseMessage response = await client.GetAsync(new Uri(path, UriKind.Relative));
            return response.IsSuccessStatusCode ? await response.Content.ReadAsStringAsync() : null;
        }
        catch (Exception e) when (e is HttpRequestException or TaskCanceledException)
        {
            return null;
        }
    }

    /// <summary>The folder with CycloneDX's schemas, from npm; kept between two runs.</summary>
    private static async Task<string> Schemas()
    {
        string folder = Path.Combine(Requirements.Repository, "out", "cyclonedx-schema");
        string schemas = Path.Combine(folder, "node_modules/@cyclonedx/cyclonedx-library/res/schema");
        if (!Directory.Exists(schemas))
        {
            _ = Directory.CreateDirectory(folder);
            foreach (string file in Directory.EnumerateFiles(Path.Combine(Requirements.Repository, "packaging/image/schema")))
            {
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
            }
            Ended ended = await RunningProgram.Run("npm", ["ci", "--prefix", folder, "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"], patience: TimeSpan.FromSeconds(180));
            ended.Code.ShouldBe(0, ended.ToString());
        }
        return schemas;
    }

    private static void RequireImage() => Requirements.Image(ContainerImage.Archive);

    /// <summary>The list of the security guide; until it is written, with what attaches uprobes one by one.</summary>
    private static string[] Capabilities()
    {
        string guide = Path.Combine(Requirements.Repository, "docs", "security.md");
        return File.Exists(guide)
            ? [.. CapabilityName().Matches(File.ReadLines(guide).First(static line => line.StartsWith("| Linux 6.6 and later |", StringComparison.Ordinal))).Select(static m => m.Value)]
            : ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE", "CAP_SYS_ADMIN"];
    }

    /// <summary>As the guide tells to run it: the host's processes and network, a root that cannot be written to.</summary>
    private static JsonObject Agent(ContainerImage image, string[] capabilities, int user, int port, string[] command)
    {
        string id = RuncContainer.NewId();
        JsonObject configuration = RuncContainer.Configuration(
            image.Root, id[..12], $"/docker/{id}", [.. image.Words("Entrypoint"), .. command], "mount", "uts", "ipc", "cgroup");
        configuration["root"]!["readonly"] = true;
        JsonNode process = configuration["process"]!;
        process["user"] = new JsonObject { ["uid"] = user, ["gid"] = user };
        process["env"] = RuncContainer.List([.. image.Words("Env"), $"KAMOTEL_LISTEN=127.0.0.1:{port}"]);
        process["noNewPrivileges"] = true;
        process["capabilities"] = new JsonObject(new[] { "bounding", "effective", "permitted", "inheritable", "ambient" }
            .Where(set => user != 0 || set is "bounding" or "effective" or "permitted")
            .Select(set => KeyValuePair.Create(set, (JsonNode?)RuncContainer.List(capabilities))));
        configuration["linux"]!["seccomp"] = SeccompProfile.For(capabilities);
        configuration["linux"]!["maskedPaths"] = RuncContainer.List(["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]);
        configuration["linux"]!["readonlyPaths"] = RuncContainer.List(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
        return configuration;
    }

    /// <summary>This machine's own root as an image: each container writes into a layer of its own.</summary>
    private async Task<string> MountLayers()
    {
        string layers = _scratch["layers"];
        _ = Directory.CreateDirectory(layers);
        (await RunningProgram.Run("mount", ["-t", "tmpfs", "layers", layers])).Code.ShouldBe(0);
        _mounted.Add(layers);
        return layers;
    }

    private async Task<string> MountRoot(string layers, string name)
    {
        string folder = Path.Combine(layers, name);
        foreach (string part in new[] { "upper", "work", "root" })
        {
            _ = Directory.CreateDirectory(Path.Combine(folder, part));
        }
        string root = Path.Combine(folder, "root");
        Ended ended = await RunningProgram.Run("mount", ["-t", "overlay", "overlay", "-o", $"lowerdir=/,upperdir={folder}/upper,workdir={folder}/work", root]);
        ended.Code.ShouldBe(0, ended.ToString());
        _mounted.Add(root);
        return root;
    }

    private async Task StartServer(string layers, string name, string hostName, string group)
    {
        KamailioServer server = Own(await KamailioServer.Prepare("tls"));
        JsonObject configuration = RuncContainer.Configuration(
            await MountRoot(layers, name), hostName, group, await server.CommandAs(_name), "pid", "network", "ipc", "uts", "mount");
        configuration["mounts"]!.AsArray().Add(RuncContainer.Mount(server.Folder, "bind", server.Folder, "rbind", "rw"));
        _ = Own(RuncContainer.Start(_scratch[name], configuration));
    }

    private async Task StartHostile(string layers)
    {
        string root = await MountRoot(layers, "hostile");
        string libcrypto = Directory.EnumerateDirectories("/usr/lib").Select(static folder => Path.Combine(folder, "libcrypto.so.3")).First(File.Exists);
        string[] plants = ["mkfifo /evil/libcrypto.so.3", "ln -s /dev/zero /evil/libcrypto.so.3", "truncate -s 8E /evil/libcrypto.so.3 2>/dev/null || truncate -s 7T /evil/libcrypto.so.3"];
        string script = $"mkdir /evil; cp /bin/sleep /evil/{_name}; "
            + string.Concat(plants.Select(plant => $"rm -f /evil/libcrypto.so.3; cp {libcrypto} /evil/libcrypto.so.3; LD_PRELOAD=/evil/libcrypto.so.3 /evil/{_name} 1000 & sleep 0.3; rm /evil/libcrypto.so.3; {plant}; "))
            + "echo planted; wait";
        string id = RuncContainer.NewId();
        RuncContainer hostile = Own(RuncContainer.Start(
            _scratch["hostile"], RuncContainer.Configuration(root, HostileName, $"/docker/{id}", ["sh", "-c", script], "pid", "network", "ipc", "uts", "mount")));
        await Until.True("the traps to be set", () => hostile.Program.Output.Contains("planted", StringComparison.Ordinal), state: hostile.Program.ToString);
    }

    private T Own<T>(T running)
        where T : IAsyncDisposable
    {
        _running.Add(running);
        return running;
    }

    [GeneratedRegex("CAP_[A-Z_]+")]
    private static partial Regex CapabilityName();
}
