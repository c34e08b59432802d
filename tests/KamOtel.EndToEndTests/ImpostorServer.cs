namespace KamOtel.EndToEndTests;

/// <summary>
/// OpenSSL's own command under the name of Kamailio: starts and ends in milliseconds and makes thread-local calls, so
/// many events come cheaply.
/// </summary>
internal sealed class ImpostorServer : IDisposable
{
    private readonly Scratch _scratch = new();

    public ImpostorServer()
    {
        Requirements.Program("openssl");
        File.Copy("/usr/bin/openssl", _scratch["kamailio"]);
    }

    /// <summary>Runs it so many times, one after the other.</summary>
    /// <param name="times">How many.</param>
    /// <param name="libraryFolder">Where it shall look for its libraries first.</param>
    public async Task Run(int times, string? libraryFolder = null)
    {
        Ended ended = await RunningProgram.Run(
            "bash",
            ["-c", $"for ((i = 0; i < {times}; i++)); do \"$0\" rand -hex 4 >/dev/null || exit; done", _scratch["kamailio"]],
            libraryFolder is null ? null : new Dictionary<string, string?> { ["LD_LIBRARY_PATH"] = libraryFolder },
            patience: TimeSpan.FromSeconds(300));
        ended.Code.ShouldBe(0, ended.ToString());
    }

    /// <summary>Puts a copy of libcrypto into a folder where the agent has not looked.</summary>
    /// <returns>The folder.</returns>
    public string HideLibcrypto()
    {
        string folder = _scratch["hidden"];
        Libcrypto.CopyTo(folder);
        return folder;
    }

    /// <inheritdoc/>
    public void Dispose() => _scratch.Dispose();
}
