using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>
/// The capabilities that a command works with; the others are given up before it begins. docs/security.md has the same list.
/// <c>kamotel check</c> gives nothing up: it starts a server, which may need anything.
/// </summary>
internal static class LeastPrivilege
{
    /// <summary>What the agent needs as long as it runs: a libcrypto that is mapped tomorrow is probed tomorrow.</summary>
    public static IReadOnlyList<string> Agent { get; } = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_CHECKPOINT_RESTORE"];

    /// <summary>This process is kamotel's own, and not a test's.</summary>
    public static bool OwnsProcess { get; set; }

    /// <summary>For <c>run</c>, <c>scan</c> and <c>doctor</c>.</summary>
    public static void ForAgent(RunOptions options) => Keep([.. Agent, .. OfOlderKernels(), .. ToListen(options)]);

    /// <summary>For <c>record</c>, which may write into a folder of another user.</summary>
    public static void ForRecord(RunOptions options) => Keep([.. Agent, .. OfOlderKernels(), .. ToListen(options), "CAP_DAC_OVERRIDE"]);

    /// <summary>For <c>replay</c>, which reads a file of whoever sent it.</summary>
    public static void ForReplay(RunOptions options) => Keep([.. ToListen(options), "CAP_DAC_READ_SEARCH"]);

    private static void Keep(IEnumerable<string> kept)
    {
        if (OwnsProcess)
        {
            CapabilityDrop.KeepOnly(kept);
        }
    }

    private static IEnumerable<string> OfOlderKernels()
    {
        if (!KernelSide.HasUprobeMulti)
        {
            yield return "CAP_SYS_ADMIN";
        }
        if (!OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 5, 11))
        {
            yield return "CAP_SYS_RESOURCE";
        }
    }

    private static string[] ToListen(RunOptions options) => options.Listen is { Port: > 0 and < 1024 } ? ["CAP_NET_BIND_SERVICE"] : [];
}
