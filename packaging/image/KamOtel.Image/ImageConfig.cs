namespace KamOtel.Image;

/// <summary>How the image is run. The Dockerfile says the same; a test compares both.</summary>
internal sealed record ImageConfig(string Name, string Architecture, IReadOnlyDictionary<string, string> Labels)
{
    /// <summary>The user <c>kamotel</c>, for those runtimes that give capabilities to one who is not root.</summary>
    public const int UserId = 65532;

    public static IReadOnlyList<string> EntryPoint { get; } = ["/usr/bin/kamotel"];

    public static IReadOnlyList<string> Command { get; } = ["run"];

    public static IReadOnlyList<string> Environment { get; } = ["PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"];

    public static string Port => "9464/tcp";

    public static string NameOf(Build build) => $"localhost/kamotel:{build.Version}";

    public static ImageConfig Of(Build build) => new(NameOf(build), build.Architecture, new SortedDictionary<string, string>(StringComparer.Ordinal)
    {
        ["org.opencontainers.image.title"] = "KamOtel",
        ["org.opencontainers.image.description"] = "Finds OpenSSL thread-local state that Kamailio's processes share",
        ["org.opencontainers.image.licenses"] = "Apache-2.0 AND GPL-2.0-only",
        ["org.opencontainers.image.version"] = build.Version,
        ["org.opencontainers.image.revision"] = build.Revision,
    });
}
