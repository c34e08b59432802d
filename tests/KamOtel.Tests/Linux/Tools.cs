using System.Diagnostics;
using System.Runtime.InteropServices;

namespace KamOtel.Tests.Linux;

/// <summary>A folder that is gone after the test.</summary>
internal sealed class Scratch : IDisposable
{
    public string Folder { get; } = Directory.CreateTempSubdirectory("kamotel-test-").FullName;

    public string this[string name] => Path.Combine(Folder, name);

    /// <summary>Writes a file, with the folders above it.</summary>
    public string Write(string name, string text)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(this[name])!);
        File.WriteAllText(this[name], text);
        return this[name];
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}

/// <summary>The programs that the tests lean on.</summary>
internal static partial class Tools
{
    /// <summary>The folder <c>tests/targets</c>.</summary>
    public static string Targets { get; } = FindTargets();

    /// <summary>Missing means: this test fails in CI, and is left out elsewhere.</summary>
    public static void Require(bool present, string what)
    {
        if (!present)
        {
            Assert.SkipUnless(Environment.GetEnvironmentVariable("CI") == "true", $"{what} is missing");
            Assert.Fail($"{what} is missing");
        }
    }

    /// <summary>Runs a program to its end and returns its output.</summary>
    public static string Run(string program, params string[] arguments)
    {
        Require(Array.Exists((Environment.GetEnvironmentVariable("PATH") ?? "/usr/bin").Split(':'), folder => File.Exists(Path.Combine(folder, program))), program);
        using Process process = Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardOutput = true })!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        process.ExitCode.ShouldBe(0, $"{program} {string.Join(' ', arguments)}");
        return output;
    }

    /// <summary>Compiles the library of <c>tests/targets</c>.</summary>
    public static string CompileLibrary(string output, params string[] options)
    {
        Run("gcc", ["-O1", "-fPIC", "-shared", $"-Wl,--version-script={Targets}/tiny_library.map", "-o", output, $"{Targets}/tiny_library.c", .. options]);
        return output;
    }

    /// <summary>Starts a program whose input stays open until the caller closes it.</summary>
    public static Process Start(string program, params string[] arguments) =>
        Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true })!;

    /// <summary>Runs on a thread that has given up root for good, if it had it. Other threads keep it.</summary>
    public static void WithoutPrivilege(Action action)
    {
        Exception? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                // The bare call: libc's would change every thread.
                nint setResUid = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 147 : 117;
                if (Environment.IsPrivilegedProcess)
                {
                    SystemCall(setResUid, 65534, 65534, 65534).ShouldBe(0);
                }

                action();
            }
            catch (Exception e)
            {
                failure = e;
            }
        });
        thread.Start();
        thread.Join();
        failure.ShouldBeNull();
    }

    public static void MakeFifo(string path) => Run("mkfifo", path);

    private static string FindTargets()
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (Directory.Exists(Path.Combine(folder, "tests", "targets")))
            {
                return Path.Combine(folder, "tests", "targets");
            }
        }

        throw new DirectoryNotFoundException("tests/targets is not above the test program");
    }

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint SystemCall(nint number, nint a, nint b, nint c);
}
