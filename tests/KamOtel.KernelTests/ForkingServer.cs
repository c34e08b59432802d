using System.Diagnostics;
using System.Globalization;

namespace KamOtel.KernelTests;

/// <summary>The target <c>server</c>, running: its processes and what they hold are known.</summary>
internal sealed class ForkingServer : IDisposable
{
    private readonly Process _process;

    private ForkingServer(Process process, int root, uint key, ulong value)
    {
        _process = process;
        Root = root;
        Key = key;
        Value = value;
    }

    /// <summary>The root as the host counts it.</summary>
    public int Root { get; }

    /// <summary>The slot's key.</summary>
    public uint Key { get; }

    /// <summary>What root put into the slot; 0 for nothing.</summary>
    public ulong Value { get; }

    /// <summary>Compiles the program with a compiler of one's choice.</summary>
    public static string Compile(Scratch scratch, string name, string compiler = "gcc", params string[] options)
    {
        string program = Path.Combine(scratch.Path, name);
        _ = Machine.Run(compiler, ["-O2", "-o", program, Path.Combine(Machine.Repository, "tests", "targets", "server.c"), .. options]);
        return program;
    }

    /// <summary>Starts it and waits until its workers run.</summary>
    /// <param name="program">Where it is; it is watched by its file's name.</param>
    /// <param name="before">What runs it: for example a container.</param>
    public static ForkingServer Start(string program, string library, string scenario, int workers, params string[] before)
    {
        string[] command = [.. before, program, library, scenario, workers.ToString(CultureInfo.InvariantCulture)];
        Process process = Process.Start(new ProcessStartInfo(command[0], command[1..])
        {
            UseShellExecute = false,
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
        })!;
        try
        {
            string line = process.StandardOutput.ReadLineAsync().WaitAsync(TimeSpan.FromSeconds(60)).Result.ShouldNotBeNull("the server ended before it was ready");
            string[] words = line.Split(' ');
            words[0].ShouldBe("ready");
            // In a container it calls itself by another number.
            int root = before.Length == 0 ? int.Parse(words[1], CultureInfo.InvariantCulture) : Descendant(process.Id, Path.GetFileName(program));
            return new ForkingServer(process, root, uint.Parse(words[2], CultureInfo.InvariantCulture), ulong.Parse(words[3], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
        }
        catch
        {
            process.Kill(entireProcessTree: true);
            process.Dispose();
            throw;
        }
    }

    /// <summary>Root's children.</summary>
    public int[] Workers() =>
        [.. File.ReadAllText($"/proc/{Root}/task/{Root}/children").Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(static pid => int.Parse(pid, CultureInfo.InvariantCulture))];

    /// <summary>Ends it.</summary>
    public void Dispose()
    {
        _process.StandardInput.Close();
        if (!_process.WaitForExit(10_000))
        {
            _process.Kill(entireProcessTree: true);
        }
        _process.Dispose();
    }

    /// <summary>The first process of this name below a process.</summary>
    private static int Descendant(int pid, string name)
    {
        while (File.ReadAllText($"/proc/{pid}/comm").Trim() != name)
        {
            pid = int.Parse(File.ReadAllText($"/proc/{pid}/task/{pid}/children").Split(' ')[0], CultureInfo.InvariantCulture);
        }
        return pid;
    }
}
