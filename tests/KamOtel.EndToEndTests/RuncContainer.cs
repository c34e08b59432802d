using System.Security.Cryptography;
using System.Text.Json.Nodes;

namespace KamOtel.EndToEndTests;

/// <summary>A container that <c>runc</c> runs: what every engine does in the end, without one.</summary>
internal sealed class RuncContainer : IAsyncDisposable
{
    private readonly string _bundle;
    private readonly string _name;

    private RuncContainer(string bundle, string name, RunningProgram program)
    {
        _bundle = bundle;
        _name = name;
        Program = program;
    }

    /// <summary>runc itself, with what the container's process writes; a signal to it reaches the container.</summary>
    public RunningProgram Program { get; }

    /// <summary>64 hexadecimal digits that nobody has had before.</summary>
    public static string NewId() => Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(32));

    /// <summary>Runs a container in a folder of its own.</summary>
    /// <param name="bundle">That folder: it takes the configuration, and what runc keeps.</param>
    /// <param name="configuration">What <c>config.json</c> says, as the runtime specification has it.</param>
    public static RuncContainer Start(string bundle, JsonObject configuration)
    {
        Requirements.Program("runc");
        string name = Path.GetFileName(bundle);
        _ = Directory.CreateDirectory(bundle);
        File.WriteAllText(Path.Combine(bundle, "config.json"), configuration.ToJsonString());
        return new RuncContainer(bundle, name, RunningProgram.Start("runc", ["--root", Path.Combine(bundle, "state"), "run", "--bundle", bundle, name]));
    }

    /// <summary>The parts that all configurations have in common.</summary>
    /// <param name="root">The folder that is the container's root.</param>
    /// <param name="hostName">Its host name.</param>
    /// <param name="group">Its control group.</param>
    /// <param name="command">What it runs.</param>
    /// <param name="namespaces">What it has of its own: pid, network, …</param>
    public static JsonObject Configuration(string root, string hostName, string group, string[] command, params string[] namespaces) => new()
    {
        ["ociVersion"] = "1.0.2",
        ["hostname"] = hostName,
        ["root"] = new JsonObject { ["path"] = root },
        ["process"] = new JsonObject
        {
            ["cwd"] = "/",
            ["user"] = new JsonObject { ["uid"] = 0, ["gid"] = 0 },
            ["args"] = List(command),
            ["env"] = List(["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]),
        },
        ["mounts"] = new JsonArray(
            Mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
            Mount("/dev", "tmpfs", "tmpfs", "nosuid", "mode=755"),
            Mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", "ro")),
        ["linux"] = new JsonObject
        {
            ["cgroupsPath"] = group,
            ["namespaces"] = new JsonArray([.. namespaces.Select(static space => (JsonNode?)new JsonObject { ["type"] = space })]),
        },
    };

    public static JsonObject Mount(string at, string type, string source, params string[] options) =>
        new() { ["destination"] = at, ["type"] = type, ["source"] = source, ["options"] = List(options) };

    public static JsonArray List(IEnumerable<string> words) => new([.. words.Select(static w => (JsonNode?)w)]);

    /// <summary>Ends all that runs in it.</summary>
    public async ValueTask DisposeAsync()
    {
        // Kills it too, and takes its control groups away.
        _ = await RunningProgram.Run("runc", ["--root", Path.Combine(_bundle, "state"), "delete", "--force", _name]);
        await Program.DisposeAsync();
    }
}
