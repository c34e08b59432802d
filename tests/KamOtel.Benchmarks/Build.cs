using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace KamOtel.Benchmarks;

/// <summary>The programs that are measured, compiled into a folder that goes with the run.</summary>
internal sealed class Build : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kamotel-bench-").FullName;

    /// <summary>Root of the repository.</summary>
    public static string Repository { get; } = FindRepository();

    /// <summary>The library that they load.</summary>
    public static string Libcrypto => "libcrypto.so.3";

    /// <summary>Compiles a target under a name of its own, by which it is watched.</summary>
    /// <param name="options">Further options of the compiler.</param>
    public string Compile(string target, string name, params string[] options)
    {
        string program = Path.Combine(_folder, name);
        using Process compiler = Process.Start("gcc", ["-O2", "-o", program, Path.Combine(Repository, "tests", "targets", target), "-ldl", "-lpthread", .. options]);
        compiler.WaitForExit();
        return compiler.ExitCode == 0 ? program : throw new InvalidOperationException($"{target} cannot be compiled");
    }

    /// <summary>Compiles a BPF object.</summary>
    public byte[] CompileBpf(string target)
    {
        string compiled = Path.Combine(_folder, target + ".o");
        using Process compiler = Process.Start("clang", ["-O2", "-g", "-target", "bpf", "-mcpu=v2", "-c", Path.Combine(Repository, "tests", "targets", target), "-o", compiled]);
        compiler.WaitForExit();
        return compiler.ExitCode == 0 ? File.ReadAllBytes(compiled) : throw new InvalidOperationException($"{target} cannot be compiled");
    }

    /// <summary>A file of that name in the folder, which need not be there yet.</summary>
    public string PathOf(string name) => Path.Combine(_folder, name);

    /// <summary>Copies a file into the folder.</summary>
    public string Copy(string file, string name)
    {
        string copy = Path.Combine(_folder, name);
        File.Copy(file, copy);
        return copy;
    }

    /// <summary>Where the loader finds that library.</summary>
    public static string FindLibrary()
    {
        using Process linker = Process.Start(new ProcessStartInfo("ldconfig", ["-p"]) { UseShellExecute = false, RedirectStandardOutput = true })!;
        string line = linker.StandardOutput.ReadToEnd().Split('\n').First(static l => l.TrimStart().StartsWith(Libcrypto + " ", StringComparison.Ordinal));
        linker.WaitForExit();
        return line.Split("=> ")[1].Trim();
    }

    /// <summary>Starts a program whose input and output are spoken to.</summary>
    public static Process Start(string program, params string[] arguments) =>
        Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true })!;

    /// <summary>Starts a program and returns when it says that it is ready; what else it says is thrown away.</summary>
    public static Process StartAndWait(string program, string[] arguments, Func<string, bool> ready, bool onError)
    {
        var process = Process.Start(new ProcessStartInfo(program, arguments) { UseShellExecute = false, RedirectStandardOutput = true, RedirectStandardError = true })!;
        var said = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        void Heard(object sender, DataReceivedEventArgs line)
        {
            if (line.Data is null || ready(line.Data))
            {
                _ = said.TrySetResult();
            }
        }
        process.OutputDataReceived += onError ? static (_, _) => { } : Heard;
        process.ErrorDataReceived += onError ? Heard : static (_, _) => { };
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        said.Task.Wait();
        return !process.HasExited ? process : throw new InvalidOperationException($"{program} ended with {process.ExitCode}");
    }

    /// <summary>Ends it by SIGINT, as a terminal would. GDB overhears one now and then.</summary>
    public static void End(Process process)
    {
        do
        {
            using Process kill = Process.Start("kill", ["-INT", $"{process.Id}"]);
            kill.WaitForExit();
        }
        while (!process.WaitForExit(TimeSpan.FromSeconds(2)));
        process.Dispose();
    }

    /// <summary>The middle of some figures.</summary>
    public static double Median(IEnumerable<double> figures)
    {
        double[] sorted = [.. figures.Order()];
        return sorted[sorted.Length / 2];
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static string FindRepository([CallerFilePath] string self = "") =>
        Path.GetFullPath(Path.Combine(Path.GetDirectoryName(self)!, "..", ".."));
}
