using System.Diagnostics;
using System.Runtime.CompilerServices;

[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace KamOtel.KernelTests;

/// <summary>A descriptor of this process: its number, what it is, what the kernel says of it.</summary>
internal sealed record Descriptor(string Name, string Kind, string Info);

/// <summary>The machine that the tests run on: what it must have, and where things are.</summary>
internal static class Machine
{
    private static readonly Lazy<string> Compiled = new(Compile);

    /// <summary>The library that the scenarios use: Debian's own.</summary>
    public static string Libcrypto => "/usr/lib/" + (Environment.Is64BitProcess && System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.Arm64 ? "aarch64" : "x86_64") + "-linux-gnu/libcrypto.so.3";

    /// <summary>This kernel has links to uprobes, by its version: whether the agent finds them is what tests tell.</summary>
    public static bool HasUprobeLinks => OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 6, 6);

    /// <summary>Folder with the compiled targets.</summary>
    public static string Targets => Compiled.Value;

    /// <summary>Root of the repository.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>Skips where the machine cannot run BPF; in CI that is a failure.</summary>
    public static void MustRunBpf()
    {
        Need(Environment.IsPrivilegedProcess, "root");
        Need(File.Exists("/sys/kernel/btf/vmlinux"), "a kernel with BTF");
        Need(File.Exists(Libcrypto), $"{Libcrypto} (package libssl3)");
    }

    /// <summary>Skips where nothing can be built against musl; in CI that is a failure.</summary>
    public static void MustHaveMusl() => Need(MuslLoader is not null, "musl-gcc (package musl-tools)");

    /// <summary>musl, which is its own loader; null where it is not.</summary>
    public static string? MuslLoader { get; } = Directory.GetFiles("/lib", "ld-musl-*.so.1").SingleOrDefault();

    /// <summary>Runs a tool to its end; its output. Fails the test when it fails.</summary>
    public static string Run(string tool, params string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo(tool, arguments)
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        Task<string> error = process.StandardError.ReadToEndAsync();
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, $"{tool} {string.Join(' ', arguments)}: {error.Result}");
        return output;
    }

    /// <summary>The descriptors of this process.</summary>
    public static IEnumerable<Descriptor> Descriptors()
    {
        foreach (string path in Directory.GetFiles("/proc/self/fd"))
        {
            string name = Path.GetFileName(path);
            string? kind = new FileInfo(path).LinkTarget;
            string info = $"/proc/self/fdinfo/{name}";
            string? said = null;
            try
            {
                said = File.ReadAllText(info);
            }
            catch (FileNotFoundException)
            {
                // Another thread has closed it meanwhile.
            }
            if (kind is not null && said is not null)
            {
                yield return new Descriptor(name, kind, said);
            }
        }
    }

    /// <summary>The kernel's numbers of the BPF programs ("prog") or maps ("map") among <paramref name="descriptors"/>.</summary>
    public static string[] ObjectIds(IEnumerable<Descriptor> descriptors, string what) =>
        [.. descriptors.Where(d => d.Kind == $"anon_inode:bpf-{what}")
            .Select(d => d.Info.Split('\n').Single(line => line.StartsWith($"{what}_id:", StringComparison.Ordinal)).Split('\t')[^1])];

    private static void Need(bool condition, string what)
    {
        if (!condition)
        {
            string message = $"this test needs {what}";
            if (Environment.GetEnvironmentVariable("CI") == "true")
            {
                throw new InvalidOperationException(message);
            }
            Assert.Skip(message);
        }
    }

    private static string Compile()
    {
        string folder = Directory.CreateTempSubdirectory("kamotel-targets-").FullName;
        AppDomain.CurrentDomain.ProcessExit += (_, _) => Directory.Delete(folder, recursive: true);
        string source = Path.Combine(Repository, "tests", "targets");
        _ = Run("gcc", "-O2", "-o", Path.Combine(folder, "target"), Path.Combine(source, "target.c"), "-ldl", "-lpthread");
        _ = Run("gcc", "-O2", "-fPIC", "-shared", "-o", Path.Combine(folder, "libcrypto36.so"), Path.Combine(source, "libcrypto36.c"));
        if (MuslLoader is not null)
        {
            _ = Run("musl-gcc", "-O2", "-o", Path.Combine(folder, "target-musl"), Path.Combine(source, "target.c"), "-ldl", "-lpthread");
            _ = Run("musl-gcc", "-O2", "-fPIC", "-shared", "-o", Path.Combine(folder, "libcrypto-musl.so"), Path.Combine(source, "libcrypto_pthread.c"));
        }
        return folder;
    }

    private static string FindRepository([CallerFilePath] string self = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(self)!, "..", ".."));
}

/// <summary>A folder that goes when the test ends.</summary>
internal sealed class Scratch : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("kamotel-test-").FullName;

    public string Copy(string file, string name)
    {
        string to = System.IO.Path.Combine(Path, name);
        File.Copy(file, to);
        return to;
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
