using System.Globalization;
using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Linux;

namespace KamOtel.Agent;

/// <summary>A function that carries a probe, and where.</summary>
/// <param name="Name">The function.</param>
/// <param name="Site">The instruction that the probe stands on: one that costs one trap a call, or <c>entry</c>. Empty where it is not known.</param>
/// <param name="Reason">Why it is the entry; empty where it is not.</param>
internal sealed record ProbedFunction(string Name, string Site, string Reason);

/// <summary>Places the probes of libcrypto's functions where they cost least.</summary>
internal static class ProbeSites
{
    private static readonly Lazy<bool> CallsAreSafe = new(static () => EmulatedCalls.AreSafe(Environment.OSVersion.Version, ReadProcessors()));

    /// <summary>The best place for a function's probe.</summary>
    /// <param name="elf">The file, still open.</param>
    /// <param name="function">One of <see cref="KernelSide.Functions"/>, or <see cref="KernelSide.ConfirmedFunction"/>.</param>
    public static ProbeSite Of(ElfFile elf, in ElfFunction function)
    {
        WantedArguments arguments = KernelSide.ArgumentsOf(function.Name);
        return ProbeSite.In(elf, function, arguments.Count, arguments.KeyByPointer, CallsAreSafe.Value);
    }

    /// <summary>Attaches there; at the function's first instruction if the kernel does not like the place.</summary>
    /// <param name="function">The function.</param>
    /// <param name="site">Where.</param>
    /// <param name="attach">Attaches at an offset in the file; the second argument tells that the key is loaded there.</param>
    /// <param name="placed">Where it stands.</param>
    /// <exception cref="BpfException">The kernel likes neither.</exception>
    public static SafeHandle Attach(in ElfFunction function, in ProbeSite site, Func<ulong, bool, SafeHandle> attach, out ProbedFunction placed)
    {
        try
        {
            SafeHandle link = attach(function.FileOffset + site.Offset, site.KeyLoaded);
            placed = new ProbedFunction(function.Name, Words.Of(site), Words.ReasonOf(site));
            return link;
        }
        catch (BpfException e) when (site.Offset > 0 && !e.Denied)
        {
            SafeHandle link = attach(function.FileOffset, false);
            placed = new ProbedFunction(function.Name, Words.SiteEntry, Words.SiteRefused);
            return link;
        }
    }

    /// <summary><c>CRYPTO_THREAD_set_local (call)</c>, <c>CRYPTO_THREAD_init_local (entry: argument_moved)</c>.</summary>
    public static string Describe(ProbedFunction function) => function switch
    {
        { Site: "" } => function.Name,
        { Reason: "" } => string.Create(CultureInfo.InvariantCulture, $"{function.Name} ({function.Site})"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{function.Name} ({function.Site}: {function.Reason})"),
    };

    private static string ReadProcessors()
    {
        try
        {
            return File.ReadAllText("/proc/cpuinfo");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return ""; // In doubt it is not safe.
        }
    }
}
