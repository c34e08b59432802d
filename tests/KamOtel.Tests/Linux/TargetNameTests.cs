using System.Text;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class TargetNameTests : IDisposable
{
    private const string Id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    private const string Pod = "11111111-2222-3333-4444-555555555555";
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
    [InlineData(null, null, null, null, null)]
    [InlineData(null, null, null, "kamailio.service", null)]
    [InlineData(Id, null, null, null, "container:0123456789ab")]
    [InlineData(Id, "0123456789ab", null, null, "container:0123456789ab")] // Docker and Podman name it so
    [InlineData(Id, "edge-1", null, null, "container:edge-1")]
    [InlineData(Id, "0123456789ab.example.com", null, null, "container:0123456789ab.example.com")]
    [InlineData(Id, null, null, "kamailio.service", "container:0123456789ab/kamailio.service")]
    [InlineData(null, "pbx", null, "kamailio@edge.service", "container:pbx/kamailio@edge.service")] // LXC
    [InlineData(Id, "edge-0", Pod, null, "pod:edge-0")]
    [InlineData(Id, null, Pod, null, $"pod:{Pod}")] // in the node's network
    public void What_stays_over_restarts_is_the_name(string? id, string? hostName, string? pod, string? unit, string? name) =>
        TargetName.OfContainer(id is null && hostName is null ? null : new Container(id, hostName, pod), unit).ShouldBe(name);

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

        TargetName.Of(_proc, Process).Value.Container.ShouldBeNull();
        _scratch.Write("7/cgroup", $"0::/system.slice/docker-{Id}.scope\n");
        TargetName.Of(_proc, Process).Value.ShouldBe(new ServerName("container:0123456789ab", new Container(Id, null, null)));
        TargetName.Of(_proc, Process, "ed\nge").Value.ShouldBe(new ServerName("container:ed?ge", new Container(Id, "ed?ge", null)));
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
        ProcOutcome<ServerName> outcome = TargetName.Of(_proc, new ProcessId(7, 499));

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
        TargetName.Of(proc, proc.ReadStat(Environment.ProcessId).Value.Id).Value.Target.ShouldNotBeNullOrEmpty();
    }

    private string Name() => TargetName.Of(_proc, Process).Value.Target;

    private void Stat(string task) => _scratch.Write("7/stat", $"7 ({task}) S 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 500 0 0\n");
}
