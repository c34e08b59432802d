using System.Runtime.InteropServices;
using System.Text.Json.Nodes;

namespace KamOtel.EndToEndTests;

/// <summary>
/// The system calls that an engine allows a container by default: Podman's list, which comes with skopeo, made into what
/// runc takes. As in Docker's and containerd's own, CAP_BPF and CAP_PERFMON open theirs; Podman's of 2022 knows neither.
/// </summary>
internal static class SeccompProfile
{
    private const string Source = "/usr/share/containers/seccomp.json";

    public static JsonObject For(IReadOnlyCollection<string> capabilities)
    {
        JsonNode profile = JsonNode.Parse(File.ReadAllText(Source))!;
        (string call, string capability)[] newer = [("bpf", "CAP_BPF"), ("perf_event_open", "CAP_PERFMON")];
        string[] opened = [.. newer.Where(n => capabilities.Contains(n.capability)).Select(static n => n.call)];
        var calls = new JsonArray();
        foreach (JsonNode? rule in profile["syscalls"]!.AsArray())
        {
            if (!Applies(rule!, capabilities))
            {
                continue;
            }
            string[] names = [.. rule!["names"]!.AsArray().Select(static n => n!.GetValue<string>()).Except(opened)];
            var call = new JsonObject { ["names"] = RuncContainer.List(names), ["action"] = rule["action"]!.GetValue<string>() };
            foreach (string more in new[] { "args", "errnoRet" })
            {
                if (rule[more] is { } value)
                {
                    call[more] = value.DeepClone();
                }
            }
            if (names.Length > 0)
            {
                calls.Add(call);
            }
        }
        if (opened.Length > 0)
        {
            calls.Add(new JsonObject { ["names"] = RuncContainer.List(opened), ["action"] = "SCMP_ACT_ALLOW" });
        }
        return new JsonObject
        {
            ["defaultAction"] = profile["defaultAction"]!.GetValue<string>(),
            ["defaultErrnoRet"] = profile["defaultErrnoRet"]!.GetValue<int>(),
            ["architectures"] = RuncContainer.List([RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "SCMP_ARCH_AARCH64" : "SCMP_ARCH_X86_64"]),
            ["syscalls"] = calls,
        };
    }

    private static bool Applies(JsonNode rule, IReadOnlyCollection<string> capabilities)
    {
        string architecture = RuntimeInformation.OSArchitecture == Architecture.Arm64 ? "arm64" : "amd64";
        string[] Words(string part, string of) => [.. rule[part]?[of]?.AsArray().Select(static w => w!.GetValue<string>()) ?? []];
        return Words("includes", "caps").All(capabilities.Contains)
            && !Words("excludes", "caps").Any(capabilities.Contains)
            && (Words("includes", "arches") is not { Length: > 0 } only || only.Contains(architecture, StringComparer.Ordinal))
            && !Words("excludes", "arches").Contains(architecture, StringComparer.Ordinal);
    }
}
