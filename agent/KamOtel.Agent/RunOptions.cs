namespace KamOtel.Agent;

/// <summary>
/// What <c>kamotel run</c> can be told: by <c>kamotel.json</c>, by <c>KAMOTEL_*</c> environment variables, by the
/// command line; the later wins.
/// </summary>
internal sealed class RunOptions
{
    /// <summary>Address and port of <c>/metrics</c>, <c>/healthz</c> and <c>/readyz</c>. Loopback unless told otherwise. Port 0 picks a free one.</summary>
    public string Listen { get; set; } = "127.0.0.1:9464";

    /// <summary>Names of the programs to watch, as the kernel knows them: the first 15 bytes count.</summary>
    public string[] Watch { get; set; } = ["kamailio", "opensips"];

    /// <summary>Size of the ring between kernel and agent, in bytes: a power of two and a multiple of the page size.</summary>
    public int RingBytes { get; set; } = 4 * 1024 * 1024;

    /// <summary>Quiet time after the last fork after which a server counts as started, in seconds.</summary>
    public double SettleSeconds { get; set; } = 1;

    /// <summary>More directories to search for libcrypto, beside the system's library paths.</summary>
    public string[] LibraryPath { get; set; } = [];

    /// <summary>Search the system's library paths for libcrypto at start. False: only <see cref="LibraryPath"/> and what watched processes map.</summary>
    public bool SystemLibraries { get; set; } = true;
}
