using System.Text;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>Texts of /proc/PID/cgroup in the forms that runtimes, the kubelet and systemd give them.</summary>
public sealed class ControlGroupsTests
{
    private const string Id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    private const string Other = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
    private const string Pod = "11111111-2222-3333-4444-555555555555";
    private const string PodOfSystemd = "11111111_2222_3333_4444_555555555555";
    private const string StaticPod = "9b2a4cb8b5a7a3c6d0d3d1b6bb5a2d5c";

    [Theory]
    // Docker: by systemd, by itself, on version 1, in Docker.
    [InlineData($"0::/system.slice/docker-{Id}.scope")]
    [InlineData($"0::/docker/{Id}")]
    [InlineData($"12:memory:/docker/{Id}\n1:name=systemd:/docker/{Id}\n0::/")]
    [InlineData($"12:cpuset:/\n2:pids:/docker/{Id}\n0::/")]
    [InlineData($"10:devices:/system.slice/docker-{Id}.scope\n1:name=systemd:/system.slice/docker-{Id}.scope")]
    [InlineData($"9:perf_event:/{Id}\n8:blkio:/{Id}")]
    [InlineData($"0::/docker/{Other}/docker/{Id}")]
    [InlineData($"0::/docker.service/docker/{Id}")]
    // Podman: as root, as a user, by systemd or itself, in a pod, with its process in a group of its own.
    [InlineData($"0::/machine.slice/libpod-{Id}.scope/container")]
    [InlineData($"0::/machine.slice/machine-libpod_pod_{Other}.slice/libpod-{Id}.scope/container")]
    [InlineData($"0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{Id}.scope")]
    [InlineData($"0::/user.slice/user-1000.slice/user@1000.service/app.slice/edge.service/libpod-payload-{Id}")]
    [InlineData($"0::/system.slice/kamailio.service/libpod-payload-{Id}")]
    [InlineData($"0::/libpod_parent/libpod-{Id}")]
    [InlineData($"0::/libpod_parent/{Other}/libpod-{Id}")]
    // containerd alone.
    [InlineData($"0::/system.slice/nerdctl-{Id}.scope")]
    [InlineData($"0::/default/{Id}")]
    // The kernel marks a group that was removed; a namespace hides what is above.
    [InlineData($"0::/../../docker-{Id}.scope (deleted)")]
    [InlineData($"0::/../docker-{Id}.scope")]
    public void The_container_is_found(string text) => ShouldBe(text, new ControlGroups(Id, null, null));

    [Theory]
    // containerd and CRI-O, by systemd.
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{PodOfSystemd}.slice/cri-containerd-{Id}.scope", Pod)]
    [InlineData($"0::/kubepods.slice/kubepods-pod{PodOfSystemd}.slice/cri-containerd-{Id}.scope", Pod)]
    [InlineData($"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{PodOfSystemd}.slice/crio-{Id}.scope", Pod)]
    [InlineData($"0::/kubepods.slice/kubepods-pod{PodOfSystemd}.slice/crio-{Id}.scope/container", Pod)]
    [InlineData($"11:memory:/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{PodOfSystemd}.slice/docker-{Id}.scope\n0::/", Pod)]
    // By the kubelet's own driver.
    [InlineData($"0::/kubepods/burstable/pod{Pod}/{Id}", Pod)]
    [InlineData($"0::/kubepods/pod{Pod}/{Id}", Pod)]
    [InlineData($"0::/kubepods/besteffort/pod{Pod}/crio-{Id}", Pod)]
    [InlineData($"11:cpu,cpuacct:/kubepods/besteffort/pod{Pod}/{Id}\n1:name=systemd:/kubepods/besteffort/pod{Pod}/{Id}", Pod)]
    // The driver misread: one name with colons.
    [InlineData($"0::/system.slice/containerd.service/kubepods-besteffort-pod{PodOfSystemd}.slice:cri-containerd:{Id}", Pod)]
    [InlineData($"0::/kubepods-burstable-pod{PodOfSystemd}.slice:cri-containerd:{Id}", Pod)]
    // A static pod has a hash.
    [InlineData($"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{StaticPod}.slice/cri-containerd-{Id}.scope", StaticPod)]
    // kind: a node is a container. k3s: below its own service.
    [InlineData($"0::/docker/{Other}/kubelet/kubepods/burstable/pod{Pod}/{Id}", Pod)]
    [InlineData($"0::/system.slice/docker-{Other}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{PodOfSystemd}.slice/cri-containerd-{Id}.scope", Pod)]
    [InlineData($"0::/system.slice/k3s.service/kubepods/burstable/pod{Pod}/{Id}", Pod)]
    // A container in a pod's container.
    [InlineData($"0::/kubepods/burstable/pod{Pod}/{Other}/docker/{Id}", Pod)]
    // Seen from another pod's control group namespace: of another class, of the same, of the same pod.
    [InlineData($"0::/../../../burstable/pod{Pod}/{Id}", Pod)]
    [InlineData($"0::/../../kubepods-burstable-pod{PodOfSystemd}.slice/cri-containerd-{Id}.scope", Pod)]
    [InlineData($"0::/../cri-containerd-{Id}.scope", null)]
    // No pods.
    [InlineData($"0::/kubepods/burstable/podracer/{Id}", null)]
    [InlineData($"0::/kubepods/burstable/tripod{Pod}/{Id}", null)]
    [InlineData($"0::/kubepods/burstable/pod{Pod}0/{Id}", null)]
    public void The_pod_around_the_container_is_found(string text, string? pod) => ShouldBe(text, new ControlGroups(Id, pod, null));

    [Theory]
    [InlineData("0::/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/system.slice/kamailio.service (deleted)", "kamailio.service")]
    [InlineData("0::/system.slice/system-kamailio.slice/kamailio@edge.service/workers", "kamailio@edge.service")]
    [InlineData("13:pids:/system.slice/kamailio.service\n1:name=systemd:/system.slice/kamailio.service\n0::/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("5:cpu:/\n1:name=systemd:/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/user.slice/user-1000.slice/user@1000.service/app.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/lxc.payload.pbx/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/machine.slice/machine-pbx.scope/payload/system.slice/kamailio.service", "kamailio.service")]
    [InlineData("0::/user.slice/user-1000.slice/user@1000.service/app.slice/terminal.scope", null)]
    [InlineData("0::/user.slice/user-1000.slice/session-3.scope", null)]
    [InlineData($"0::/machine.slice/libpod-conmon-{Id}.scope", null)]
    [InlineData($"0::/kubepods.slice/kubepods-pod{PodOfSystemd}.slice/crio-conmon-{Id}.scope", null)]
    [InlineData("0::/", null)]
    [InlineData("0::/../../..", null)]
    [InlineData("", null)]
    [InlineData("nonsense\n:::\n::", null)]
    [InlineData($"0::/docker/{Id}0", null)]
    [InlineData($"0::/docker/x{Id}", null)]
    [InlineData("0::/docker/0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", null)]
    public void Without_a_container_the_unit_is_found(string text, string? unit) => ShouldBe(text, new ControlGroups(null, null, unit));

    [Fact]
    public void A_unit_in_the_container_counts_and_one_around_it_does_not() =>
        ShouldBe($"0::/system.slice/docker.service/docker/{Id}/system.slice/kamailio.service", new ControlGroups(Id, null, "kamailio.service"));

    private static void ShouldBe(string text, ControlGroups groups) => ControlGroups.Parse(Encoding.UTF8.GetBytes(text + "\n")).ShouldBe(groups);
}
