using System.Buffers;
using System.Text;

namespace KamOtel.Linux;

/// <summary>
/// What the names of a process's control groups tell, of version 1 and 2, whoever made them: containerd, CRI-O, Docker and
/// Podman, by systemd or by themselves. An agent in a control group namespace of its own sees paths that begin with
/// <c>/..</c>; what they end with is the same.
/// </summary>
/// <param name="ContainerId">64 hexadecimal digits; null when none is named.</param>
/// <param name="PodUid">Of the pod around that container; null when none is named.</param>
/// <param name="Unit">The innermost service of systemd that is not around the container; null when none is named.</param>
internal sealed record ControlGroups(string? ContainerId, string? PodUid, string? Unit)
{
    private const int IdLength = 64;
    private const string Removed = " (deleted)";

    private static readonly SearchValues<char> HexDigits = SearchValues.Create("0123456789abcdef");

    /// <summary>Reads the text of <c>/proc/PID/cgroup</c>.</summary>
    public static ControlGroups Parse(ReadOnlySpan<byte> text)
    {
        ControlGroups found = new(null, null, null);
        foreach (string line in Encoding.UTF8.GetString(text).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            // hierarchy:controllers:path
            string[] fields = line.Split(':', 3);
            ControlGroups groups = fields.Length == 3 ? OfPath(fields[2]) : found;
            if (groups.ContainerId is not null)
            {
                return groups;
            }
            found = found.Unit is null ? groups : found;
        }
        return found;
    }

    private static ControlGroups OfPath(string path)
    {
        // The kernel marks a removed group; its processes are the same as before.
        path = path.EndsWith(Removed, StringComparison.Ordinal) ? path[..^Removed.Length] : path;
        string? container = null;
        string? unit = null;
        // From the inside out. containerd writes "slice:cri-containerd:id" as one name when it misreads the driver.
        foreach (string part in path.Split(['/', ':'], StringSplitOptions.RemoveEmptyEntries).Reverse())
        {
            if (container is null)
            {
                container = ContainerIdIn(part);
                // A user's service manager is not what runs in it.
                unit ??= part.EndsWith(".service", StringComparison.Ordinal) && !part.StartsWith("user@", StringComparison.Ordinal) ? part : null;
            }
            else if (PodUidIn(part) is { } pod)
            {
                return new(container, pod, unit);
            }
        }
        return new(container, null, unit);
    }

    /// <summary>The digits at the end of a name such as <c>docker-ID.scope</c> or <c>ID</c> alone. Who watches a container (conmon) is not in it.</summary>
    private static string? ContainerIdIn(string part)
    {
        string name = WithoutEnd(part, ".scope");
        if (name.Length < IdLength || (name.Length > IdLength && name[^(IdLength + 1)] != '-') || name[..^IdLength].EndsWith("conmon-", StringComparison.Ordinal))
        {
            return null;
        }
        string id = name[^IdLength..];
        return id.AsSpan().ContainsAnyExcept(HexDigits) ? null : id;
    }

    /// <summary>Of <c>podUID</c>, or of <c>kubepods-burstable-podUID.slice</c>, in which systemd wants underscores. A static pod's is a hash.</summary>
    private static string? PodUidIn(string part)
    {
        string name = WithoutEnd(part, ".slice");
        int at = name.LastIndexOf("pod", StringComparison.Ordinal);
        if (at < 0 || (at > 0 && name[at - 1] != '-'))
        {
            return null;
        }
        string uid = name[(at + "pod".Length)..].Replace('_', '-');
        return Guid.TryParseExact(uid, "D", out _) || (uid.Length == 32 && !uid.AsSpan().ContainsAnyExcept(HexDigits)) ? uid : null;
    }

    private static string WithoutEnd(string name, string end) => name.EndsWith(end, StringComparison.Ordinal) ? name[..^end.Length] : name;
}
