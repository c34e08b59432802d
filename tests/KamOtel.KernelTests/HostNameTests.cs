using System.Diagnostics;
using System.Globalization;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>What the host of a process is called in its own namespace.</summary>
public sealed class HostNameTests
{
    /// <summary>The kernel's own process, which is in no container.</summary>
    private const int Kthreadd = 2;

    /// <summary>The longest that the kernel takes.</summary>
    private static readonly string Longest = new('x', 64);

    public HostNameTests() => Machine.MustRunBpf();

    [Fact]
    public void Each_process_has_the_name_of_its_own_namespace()
    {
        using KernelSide kernel = KernelSide.LoadForInspection(NullLogger.Instance);
        HostName node = kernel.ReadHostName(Kthreadd).ShouldNotBeNull();
        node.Name.ShouldBe(File.ReadAllText("/proc/sys/kernel/hostname").TrimEnd());
        node.Namespace.ShouldBe(NamespaceOf(Kthreadd));
        kernel.ReadHostName(Environment.ProcessId).ShouldNotBeNull().Namespace.ShouldBe(NamespaceOf(Environment.ProcessId));

        // It calls itself otherwise when it is told to, as a container may that has the privilege.
        using Process other = Process.Start(new ProcessStartInfo("unshare", ["--uts", "sh", "-c", $"echo edge-0 >/proc/sys/kernel/hostname; echo set; read go; echo {Longest} >/proc/sys/kernel/hostname; echo set; read go"])
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        other.StandardOutput.ReadLine().ShouldBe("set");
        HostName own = kernel.ReadHostName(other.Id).ShouldNotBeNull();
        own.ShouldBe(new HostName(new ProcFs().ReadStat(other.Id).Value.Id, NamespaceOf(other.Id), "edge-0"));
        own.Namespace.ShouldNotBe(node.Namespace);
        kernel.ReadHostName(Kthreadd).ShouldBe(node);

        other.StandardInput.WriteLine();
        other.StandardOutput.ReadLine().ShouldBe("set");
        kernel.ReadHostName(other.Id).ShouldBe(own with { Name = Longest });

        other.StandardInput.Close();
        other.WaitForExit();
        kernel.ReadHostName(other.Id).ShouldBeNull();
    }

    private static uint NamespaceOf(int pid)
    {
        string link = File.ResolveLinkTarget($"/proc/{pid}/ns/uts", returnFinalTarget: false)!.Name; // uts:[NUMBER]
        return uint.Parse(link.AsSpan(5, link.Length - 6), CultureInfo.InvariantCulture);
    }
}
