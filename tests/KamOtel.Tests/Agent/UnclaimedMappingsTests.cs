using System.Text;
using KamOtel.Agent;
using KamOtel.Bpf;

namespace KamOtel.Tests.Agent;

public sealed class UnclaimedMappingsTests
{
    private readonly UnclaimedMappings _mappings = new();

    [Fact]
    public void A_program_is_its_executable_its_interpreter_and_what_came_since()
    {
        Keep(7, 10, "/bin/sh");
        Keep(7, 11, "/lib/ld-linux-x86-64.so.2");
        Keep(7, 12, "/lib/libc.so.6");
        Keep(8, 13, "/bin/true");
        Keep(7, 20, "/usr/sbin/kamailio");
        Keep(7, 21, "/lib/ld-linux-x86-64.so.2");
        Keep(7, 23, "/lib/libcrypto.so.3");

        UnclaimedMapping[] claimed = [.. _mappings.Claim(7, execNs: 22)];
        claimed.Select(static m => $"{m.TimeNs} {m.Path}").ShouldBe(["20 /usr/sbin/kamailio", "21 /lib/ld-linux-x86-64.so.2", "23 /lib/libcrypto.so.3"]);
        claimed[0].ShouldBe(new UnclaimedMapping("/usr/sbin/kamailio", 20000, 100, 4096, new MappedInode(8, 1, 20), 20));
        _mappings.Claim(7, execNs: 30).ShouldBeEmpty();
        _mappings.Claim(8, execNs: 30).ShouldHaveSingleItem().Path.ShouldBe("/bin/true");
    }

    [Fact]
    public void A_static_program_has_no_interpreter()
    {
        Keep(7, 10, "/bin/sh");
        Keep(7, 11, "/lib/ld-musl-x86_64.so.1");
        Keep(7, 20, "/opt/sip/static");
        _mappings.Claim(7, execNs: 22).Select(static m => m.Path).ShouldBe(["/opt/sip/static"]);
    }

    [Fact]
    public void It_keeps_the_latest_and_no_very_long_path()
    {
        Keep(7, 1, "/bin/old");
        for (int i = 0; i < 256; i++)
        {
            Keep(8, (ulong)(2 + i), $"/lib/{i}");
        }
        _mappings.Claim(7, execNs: 5).ShouldBeEmpty();
        Keep(9, 1, "/" + new string('x', 256));
        _mappings.Claim(9, execNs: 5).ShouldBeEmpty();
        _mappings.Claim(8, execNs: 0).Count.ShouldBe(256);
    }

    private void Keep(int tgid, ulong timeNs, string path) => _mappings.Keep(new ExecutableMapping
    {
        Tgid = tgid,
        TimeNs = timeNs,
        Path = Encoding.UTF8.GetBytes(path),
        Start = timeNs * 1000,
        Length = 100,
        Offset = 4096,
        DeviceMajor = 8,
        DeviceMinor = 1,
        Inode = timeNs,
    });
}
