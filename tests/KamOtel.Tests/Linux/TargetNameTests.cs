using System.Text;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class TargetNameTests : IDisposable
{
    private const string Id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    private const string Other = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    private const string Container = "container:0123456789ab";
    private static readonly ProcessId Process = new(7, 500);
    private readonly Scratch _scratch = new();
    private readonly ProcFs _proc;

    public TargetNameTests()
    {
        _proc = new ProcFs(_scratch.Folder);
        Stat("kamailio");
        Directory.CreateDirectory(_scratch["etc/kamailio"]);
    }

    public void Dispose() => _scratch.Dispose();

    [Theory]
    [InlineData($"0::/system.slice/docker-{Id}.scope", Container)]
    [InlineData($"0::/docker/{Id}", Container)]
    [InlineData($"12:memory:/docker/{Id}\n1:name=systemd:/docker/{Id}\n0::/", Container)]
    [InlineData($"12:cpuset:/\n2:pids:/docker/{Id}\n0::/", Container)]
    [InlineData($"0::/docker/{Other}/docker/{Id}", Container)]
    [InlineData($"0::/kubepods/burstable/pod11111111-2222-3333-4444-555555555555/{Id}", Container)]
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod11111111_2222_3333_4444_555555555555.slice/cri-containerd-{Id}.scope", Container)]
    [InlineData($"0::/system.slice/containerd.service/kubepods-besteffort-pod1111.slice:cri-containerd:{Id}", Container)]
    [InlineData($"0::/kubepods.slice/kubepods-pod1111.slice/crio-{Id}.scope/container", Container)]
    [InlineData($"0::/machine.slice/libpod-{Id}.scope/container", Container)]
    [InlineData($"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{Id}.scope", Container)]
    [InlineData($"0::/system.slice/kamailio.service/libpod-payload-{Id}", Container)]
    [InlineData($"0::/../../docker-{Id}.scope (deleted)", Container)]
    [InlineData("0::/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/system.slice/kamailio.service (deleted)", "kamailio.service")]
    [InlineData("0::/system.slice/system-kamailio.slice/kamailio@edge.service/workers", "kamailio@edge.service")]
    [InlineData("13:pids:/system.slice/kamailio.service\n1:name=systemd:/system.slice/kamailio.service\n0::/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/user.slice/user-1000.slice/user@1000.service/app.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope", null)]
    [InlineData("0::/user.slice/user-1000.slice/session-3.scope", null)]
    [InlineData("0::/", null)]
    [InlineData("", null)]
    [InlineData("nonsense\n:::\n::", null)]
    [InlineData($"0::/docker/{Id}0", null)]
    [InlineData($"0::/docker/x{Id}", null)]
    [InlineData("0::/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", null)]
    public void The_control_group_tells_the_container_or_the_unit(string text, string? name) =>
        TargetName.ParseControlGroups(Encoding.UTF8.GetBytes(text + "\n")).ShouldBe(name);

    [Theory]
    [InlineData("kamailio -f /etc/k.cfg", "/etc/k.cfg")]
    [InlineData("kamailio -f/etc/k.cfg", "/etc/k.cfg")]
    [InlineData("kamailio -DDEf /etc/k.cfg -m 64", "/etc/k.cfg")]
    [InlineData("kamailio -P -f -f /etc/k.cfg", "/etc/k.cfg")]
    [InlineData("kamailio -A -fake -f /etc/k.cfg", "/etc/k.cfg")]
    [InlineData("kamailio --debug=3 -m64 -f k.cfg", "k.cfg")]
    [InlineData("opensips -F -p secret -f k.cfg", "k.cfg")]
    [InlineData("kamailio -DD", null)]
    [InlineData("kamailio -f", null)]
    [InlineData("kamailio -- -f k.cfg", null)]
    [InlineData("-f k.cfg", null)]
    [InlineData("", null)]
    public void The_command_line_tells_the_configuration_file(string words, string? file) =>
        TargetName.ParseConfigurationFile(Encoding.UTF8.GetBytes(words.Length == 0 ? words : words.Replace(' ', '\0') + '\0')).ShouldBe(file);

    [Fact]
    public void The_first_that_is_known_wins()
    {
        Name().ShouldBe("kamailio");

        File.CreateSymbolicLink(_scratch["7/exe"], "/usr/sbin/kamailio (deleted)");
        Name().ShouldBe("/usr/sbin/kamailio");

        _scratch.Write("7/cmdline", "/usr/sbin/kamailio\0-f\0../kamailio.cfg\0-A\0PASSWORD=hunter2\0");
        File.CreateSymbolicLink(_scratch["7/cwd"], "/etc/kamailio");
        Name().ShouldBe("/etc/kamailio.cfg");

        _scratch.Write("7/cmdline", "/usr/sbin/kamailio\0-f\0/etc/kamailio/./edge.cfg\0");
        Name().ShouldBe("/etc/kamailio/edge.cfg");

        _scratch.Write("7/cgroup", "0::/system.slice/kamailio.service\n");
        Name().ShouldBe("kamailio.service");

        _scratch.Write("7/cgroup", $"0::/system.slice/docker-{Id}.scope\n");
        Name().ShouldBe(Container);
        TargetName.ConfigurationOf(_proc, Process).ShouldBe("/etc/kamailio/edge.cfg");
    }

    [Fact]
    public void Another_programs_command_line_is_left_alone()
    {
        Stat("openssl");
        File.CreateSymbolicLink(_scratch["7/exe"], "/usr/bin/openssl");
        _scratch.Write("7/cmdline", "openssl\0-f\0secret\0");

        Name().ShouldBe("/usr/bin/openssl");
    }

    [Fact]
    public void A_number_in_use_again_is_another_process()
    {
        ProcOutcome<string> outcome = TargetName.Of(_proc, new ProcessId(7, 499));

        outcome.Status.ShouldBe(ProcStatus.Gone);
        outcome.Detail.ShouldContain("in use again");
    }

    [Fact]
    public void Nothing_unprintable_leaves()
    {
        TargetName.Sanitise("a\nb\u001b[31m\u202e\u2028\ud800c d/ü").ShouldBe("a?b?[31m??\ufffdc d/ü");
        string kept = TargetName.Sanitise("/" + new string('x', 300) + "/kamailio.cfg");
        kept.Length.ShouldBe(TargetName.MaxLength);
        kept.ShouldStartWith("…");
        kept.ShouldEndWith("/kamailio.cfg");
        string pairs = TargetName.Sanitise(string.Concat(Enumerable.Repeat("😀", 150)));
        pairs.Length.ShouldBeLessThanOrEqualTo(TargetName.MaxLength);
        pairs.EnumerateRunes().ShouldNotContain(Rune.ReplacementChar);
    }

    [Fact]
    public void A_real_process_has_a_name()
    {
        var proc = new ProcFs();
        TargetName.Of(proc, proc.ReadStat(Environment.ProcessId).Value.Id).Value.ShouldNotBeNullOrEmpty();
    }

    private string Name() => TargetName.Of(_proc, Process).Value;

    private void Stat(string task) => _scratch.Write("7/stat", $"7 ({task}) S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n");
}
