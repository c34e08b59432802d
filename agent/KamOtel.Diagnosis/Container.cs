namespace KamOtel.Diagnosis;

/// <summary>The container that a server runs in, as far as the node's kernel tells: nobody's API is asked.</summary>
/// <param name="Id">What its runtime calls it, 64 hexadecimal digits; null when its control group does not tell.</param>
/// <param name="HostName">Its own host name; null when it has the node's.</param>
/// <param name="PodUid">The UID of its pod, as the kubelet writes it; null outside of Kubernetes.</param>
public sealed record Container(string? Id, string? HostName, string? PodUid)
{
    /// <summary>
    /// The name of its pod: the pod's host name, which the kubelet makes from it (the first 63 characters, unless the pod
    /// has a <c>hostname</c> of its own). Null for a pod in the node's network, which has the node's.
    /// </summary>
    public string? PodName => PodUid is null ? null : HostName;
}

/// <summary>What a server is called, and where it runs.</summary>
/// <param name="Target">What it is called outside.</param>
/// <param name="Container">Its container; null when it runs in none.</param>
public sealed record ServerName(string Target, Container? Container = null);
