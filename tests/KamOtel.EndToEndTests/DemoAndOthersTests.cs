namespace KamOtel.EndToEndTests;

/// <summary>The demo on a host that is not empty, and where it cannot run.</summary>
public sealed class DemoAndOthersTests
{
    private static readonly string Script = Path.Combine(Requirements.Repository, "demo", "run");

    [Fact]
    public async Task Another_server_of_the_host_is_not_told_as_the_demos_own()
    {
        Requirements.Bpf();
        Requirements.Program("curl");
        Requirements.Program("setsid");
        await using KamailioServer other = await KamailioServer.Prepare("tls");
        _ = await other.Start();
        using var scratch = new Scratch();
        Ended ended = await RunningProgram.Run(Script, ["--once", "--with", "tls"], Environment(scratch.Folder), patience: TimeSpan.FromSeconds(180));

        ended.Code.ShouldBe(0, ended.ToString());
        string[] told = ended.Output[ended.Output.IndexOf("== The same facts as metrics", StringComparison.Ordinal)..].Split('\n');
        told.Where(static line => line.StartsWith("kamotel_", StringComparison.Ordinal)).ShouldNotBeEmpty();
        told.ShouldNotContain(line => line.Contains(other.Configuration, StringComparison.Ordinal));
        told.Where(static line => line.StartsWith("kamotel_", StringComparison.Ordinal))
            .ShouldAllBe(line => line.Contains($"target=\"{scratch.Folder}/", StringComparison.Ordinal));
        told.Where(static line => line.Contains(" verdict ", StringComparison.Ordinal)).ShouldHaveSingleItem()
            .ShouldNotContain($" {other.Process!.Pid}/");
    }

    [Fact]
    public async Task A_folder_that_kamailio_could_not_name_is_refused()
    {
        Requirements.Bpf();
        using var scratch = new Scratch();
        string folder = Directory.CreateDirectory(scratch["with a blank"]).FullName;
        Ended ended = await RunningProgram.Run(Script, ["--once", "--with", "tls"], Environment(folder));

        ended.Code.ShouldBe(64, ended.ToString());
        ended.Errors.ShouldContain("TMPDIR");
        ended.Errors.ShouldContain(folder);
        Directory.EnumerateFileSystemEntries(folder).ShouldBeEmpty();
    }

    private static Dictionary<string, string?> Environment(string folder) => new()
    {
        ["TMPDIR"] = folder,
        ["KAMOTEL_BINARY"] = Requirements.Binary,
    };
}
