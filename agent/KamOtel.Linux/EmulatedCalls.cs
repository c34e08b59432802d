namespace KamOtel.Linux;

/// <summary>May a uprobe stand on a <c>call</c>?</summary>
/// <remarks>
/// Before 6.18 the kernel that emulates a call pushes the return address on the stack and not on the shadow stack, and a process that
/// has one dies at the return. User space has them since 6.6, where the processor does.
/// </remarks>
public static class EmulatedCalls
{
    /// <summary>No process here can have a shadow stack that the kernel forgets. In doubt false.</summary>
    /// <param name="kernel">Version of the kernel.</param>
    /// <param name="processors">Text of <c>/proc/cpuinfo</c>.</param>
    public static bool AreSafe(Version kernel, string processors)
    {
        ArgumentNullException.ThrowIfNull(kernel);
        ArgumentNullException.ThrowIfNull(processors);
        const string Flags = "flags";
        return kernel >= new Version(6, 18) || kernel < new Version(6, 6)
            || (processors.Contains(Flags, StringComparison.Ordinal)
                && !processors.Split('\n').Any(static line => line.StartsWith(Flags, StringComparison.Ordinal) && line.Split(' ').Contains("user_shstk", StringComparer.Ordinal)));
    }
}
