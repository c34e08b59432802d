using KamOtel.Bpf;

namespace KamOtel.Tests.Bpf;

/// <summary>The advice names what is missing, and nothing that is there.</summary>
public sealed class CapabilitiesTests
{
    private const ulong None = 0;
    private const ulong Bpf = 1UL << Capabilities.Bpf;
    private const ulong Perfmon = 1UL << Capabilities.Perfmon;
    private const ulong SysAdmin = 1UL << Capabilities.SysAdmin;

    [Theory]
    [InlineData(None, "CAP_BPF and CAP_PERFMON")]
    [InlineData(Perfmon, "CAP_BPF")]
    [InlineData(Bpf, "CAP_PERFMON")]
    [InlineData(Bpf | Perfmon, "")]
    [InlineData(SysAdmin, "")]
    public void To_load_takes_both_or_the_one_that_includes_them(ulong effective, string missing) =>
        new Capabilities(effective, IsRoot: false).Missing(Capabilities.ForLoad).ShouldBe(missing);

    [Fact]
    public void A_uprobe_takes_more_than_perfmon()
    {
        new Capabilities(Bpf | Perfmon, IsRoot: false).Missing(Capabilities.ForUprobe).ShouldBe("CAP_SYS_ADMIN");
        new Capabilities(SysAdmin, IsRoot: false).Missing(Capabilities.ForUprobe).ShouldBeEmpty();
    }

    [Fact]
    public void Root_is_not_told_to_become_root()
    {
        new Capabilities(None, IsRoot: false).Remedy(Capabilities.ForLoad).ShouldContain("run as root");
        new Capabilities(None, IsRoot: true).Remedy(Capabilities.ForLoad).ShouldNotContain("run as root");
    }

    [Fact]
    public void Who_has_everything_is_not_told_to_get_it()
    {
        string remedy = new Capabilities(ulong.MaxValue, IsRoot: true).Remedy(Capabilities.ForUprobe);
        remedy.ShouldNotContain("CAP_");
        remedy.ShouldContain("lockdown");
    }
}
