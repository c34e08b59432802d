using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

/// <summary>What a container may lay out to hold the agent up, or to make it look elsewhere.</summary>
public sealed class PlantedFileTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly ProcFs _proc;

    public PlantedFileTests()
    {
        _proc = new ProcFs(_scratch.Folder);
        _scratch.Write("7/root/lib/real.so", "inside");
        Directory.CreateDirectory(_scratch["7/map_files"]);
    }

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public async Task A_fifo_is_not_opened_and_does_not_hold_anybody_up()
    {
        Tools.MakeFifo(_scratch["7/root/lib/fifo.so"]);
        File.CreateSymbolicLink(_scratch["7/map_files/1000-2000"], _scratch["7/root/lib/fifo.so"]);

        Task<(ProcFailure, ProcFailure)> both = Task.Run(() => (Refused(_proc.OpenRooted(7, "/lib/fifo.so")), Refused(_proc.OpenMapping(7, 0x1000, 0x2000))));
        (ProcFailure byPath, ProcFailure byMapping) = await both.WaitAsync(TimeSpan.FromSeconds(10), TestContext.Current.CancellationToken);

        byPath.Detail.ShouldContain("is a fifo");
        byMapping.Detail.ShouldContain("is a fifo");
    }

    [Fact]
    public void A_device_is_not_opened()
    {
        File.CreateSymbolicLink(_scratch["7/map_files/1000-2000"], "/dev/zero");
        Refused(_proc.OpenMapping(7, 0x1000, 0x2000)).Detail.ShouldContain("is a character device");

        Tools.Require(Environment.IsPrivilegedProcess, "root, to make a device");
        Tools.Run("mknod", _scratch["7/root/lib/zero.so"], "c", "1", "5");
        Refused(_proc.OpenRooted(7, "/lib/zero.so")).Detail.ShouldContain("is a character device");
    }

    [Fact]
    public void A_folder_and_a_socket_are_not_opened()
    {
        Refused(_proc.OpenRooted(7, "/lib")).Detail.ShouldContain("is a directory");
        using var socket = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix, System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Unspecified);
        socket.Bind(new System.Net.Sockets.UnixDomainSocketEndPoint(_scratch["7/root/s"]));
        Refused(_proc.OpenRooted(7, "/s")).Detail.ShouldContain("is a socket");
    }

    [Fact]
    public void Links_stay_inside_the_processs_root()
    {
        _scratch.Write("secret", "outside");
        File.CreateSymbolicLink(_scratch["7/root/lib/absolute.so"], "/lib/real.so");
        File.CreateSymbolicLink(_scratch["7/root/lib/climbing.so"], "../../../../../../../lib/real.so");
        File.CreateSymbolicLink(_scratch["7/root/lib/escaping.so"], _scratch["secret"]);
        File.CreateSymbolicLink(_scratch["7/root/lib/zero.so"], "/dev/zero");
        File.CreateSymbolicLink(_scratch["7/root/lib/circle.so"], "circle.so");
        File.CreateSymbolicLink(_scratch["7/root/up"], "..");

        foreach (string path in (string[])["/lib/real.so", "/lib/absolute.so", "/lib/climbing.so", "/../../lib/real.so", "/up/up/lib/real.so"])
        {
            ProcOutcome<SafeFileHandle> outcome = _proc.OpenRooted(7, path);
            outcome.Detail.ShouldBeEmpty(path);
            using SafeFileHandle file = outcome.Value;
            byte[] text = new byte[6];
            RandomAccess.Read(file, text, 0);
            text.ShouldBe("inside"u8.ToArray());
        }

        _proc.OpenRooted(7, "/lib/escaping.so").Status.ShouldBe(ProcStatus.Gone);
        _proc.OpenRooted(7, "/lib/zero.so").Status.ShouldBe(ProcStatus.Gone);
        _proc.OpenRooted(7, "/lib/circle.so").Status.ShouldBe(ProcStatus.Unavailable);
        _proc.OpenRooted(7, "/lib/real.so/x").Status.ShouldBe(ProcStatus.Gone);
        _proc.OpenRooted(7, "[heap]").Status.ShouldBe(ProcStatus.Unavailable);
        _proc.OpenRooted(7, "/lib/real.so\0").Status.ShouldBe(ProcStatus.Unavailable);
    }

    [Fact]
    public void A_file_without_a_path_still_has_one_by_its_handle()
    {
        string path = _scratch.Write("here", "text");
        using SafeFileHandle file = RegularFile.Open(path).Value;
        File.Delete(path);

        RegularFile.Open(path).Status.ShouldBe(ProcStatus.Gone);
        using SafeFileHandle again = RegularFile.Open(RegularFile.PathOf(file)).Value;
        FileIdentity.Of(again).Value.ShouldBe(FileIdentity.Of(file).Value);
        Refused(RegularFile.Open("/dev/zero")).Detail.ShouldContain("/dev/zero is a character device");
    }

    [Fact]
    public void What_was_opened_can_only_be_read()
    {
        using SafeFileHandle file = _proc.OpenRooted(7, "/lib/real.so").Value;

        Should.Throw<Exception>(() => RandomAccess.Write(file, "x"u8, 0)).ShouldBeAssignableTo<SystemException>();
        File.ReadAllText(_scratch["7/root/lib/real.so"]).ShouldBe("inside");
    }

    private static ProcFailure Refused(ProcOutcome<SafeFileHandle> outcome)
    {
        outcome.TryGet(out _, out ProcFailure failure).ShouldBeFalse();
        failure.Status.ShouldBe(ProcStatus.Unavailable);
        return failure;
    }
}
