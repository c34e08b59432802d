using System.Globalization;

namespace KamOtel.EndToEndTests;

/// <summary>The figures of a real Kamailio's shared memory are its own, whichever manager it has.</summary>
public sealed class SharedMemoryTests
{
    /// <summary>A server that does nothing allocates little between two looks.</summary>
    private const long Tolerance = 64 << 10;

    [Theory]
    [InlineData("qm")]
    [InlineData("fm")]
    [InlineData("tlsf")]
    public async Task A_scan_tells_what_Kamailio_tells(string manager)
    {
        Requirements.Program("kamcmd");
        await using KamailioServer server = await KamailioServer.Prepare("none");
        string socket = Path.Combine(server.Folder, "ctl");
        string configuration = await File.ReadAllTextAsync(server.Configuration, TestContext.Current.CancellationToken);
        int modules = configuration.IndexOf("loadmodule", StringComparison.Ordinal);
        await File.WriteAllTextAsync(
            server.Configuration,
            configuration.Insert(modules, $"loadmodule \"ctl.so\"\nloadmodule \"kex.so\"\nmodparam(\"ctl\", \"binrpc\", \"unix:{socket}\")\n"),
            TestContext.Current.CancellationToken);
        string name = ServerName.New();
        _ = await server.StartAs(name, "-x", manager);

        ScannedMemory scanned = (await Scan.Json("--watch", name)).Of(server).SharedMemory;
        Dictionary<string, long> own = await Ask(socket);

        scanned.Manager.ShouldBe(manager);
        scanned.Size.ShouldBe(64 << 20);
        own["total"].ShouldBeInRange((64 << 20) - 80, 64 << 20);
        long used = scanned.Used.ShouldNotBeNull();
        used.ShouldBeInRange(own["real_used"] - Tolerance, own["real_used"] + Tolerance);
        scanned.MaxUsed.ShouldNotBeNull().ShouldBeInRange(own["max_used"] - Tolerance, own["max_used"]);
        scanned.Free.ShouldBe(own["total"] - used);
        own["real_used"].ShouldBeGreaterThan(8 * Tolerance, "else nothing is proved");
    }

    /// <summary><c>kamcmd core.shmmem</c>: <c>total: 67108864</c>, and so on.</summary>
    private static async Task<Dictionary<string, long>> Ask(string socket)
    {
        Ended ended = await RunningProgram.Run("kamcmd", ["-s", $"unix:{socket}", "core.shmmem"]);
        ended.Code.ShouldBe(0, ended.ToString());
        return ended.Output.Split('\n').Select(static line => line.Split(':')).Where(static pair => pair.Length == 2)
            .ToDictionary(static pair => pair[0].Trim(), static pair => long.Parse(pair[1], CultureInfo.InvariantCulture));
    }
}
