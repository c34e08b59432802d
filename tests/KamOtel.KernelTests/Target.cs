using System.Diagnostics;
using System.Globalization;

namespace KamOtel.KernelTests;

/// <summary>One deed of a target, as it says itself.</summary>
internal sealed record Deed(string What, int Process, int Tid, uint Key, ulong Value)
{
    public static Deed Parse(string line)
    {
        string[] words = line.Split(' ');
        int Number(int index) => index < words.Length ? int.Parse(words[index], CultureInfo.InvariantCulture) : 0;
        return words[0] is "init" or "set" or "cleanup" or "set_ex" or "clean"
            ? new Deed(words[0], Number(1), Number(2), uint.Parse(words[3], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(words[4], NumberStyles.HexNumber, CultureInfo.InvariantCulture))
            : new Deed(words[0], words[0] == "at" ? 0 : Number(1), words[0] == "at" ? 0 : Number(2), 0, words[0] == "at" ? ulong.Parse(words[1], CultureInfo.InvariantCulture) : 0);
    }
}

/// <summary>A running target program, under a name of its own so that only it is watched.</summary>
internal sealed class Target : IDisposable
{
    private readonly Process _process;
    private readonly Task<string> _output;

    private Target(Process process)
    {
        _process = process;
        Pid = process.Id;
        _output = process.StandardOutput.ReadToEndAsync();
    }

    public int Pid { get; }

    public bool HasExited => _process.HasExited;

    /// <summary>Copies the program under <paramref name="name"/> and starts a scenario.</summary>
    public static Target Start(Scratch scratch, string name, string library, string scenario, int count = 0)
    {
        string program = Path.Combine(scratch.Path, name);
        if (!File.Exists(program))
        {
            File.Copy(Path.Combine(Machine.Targets, "target"), program);
        }
        return new Target(Process.Start(new ProcessStartInfo(program, [library, scenario, count.ToString(CultureInfo.InvariantCulture)])
        {
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
        })!);
    }

    /// <summary>Lets a waiting scenario go on.</summary>
    public void Go() => _process.StandardInput.Close();

    /// <summary>Waits for the end; what it did, in order. Fails when it failed.</summary>
    public IReadOnlyList<Deed> Finish()
    {
        _process.WaitForExit(60_000).ShouldBeTrue("the target did not end within a minute");
        _process.ExitCode.ShouldBe(0);
        return [.. _output.Result.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(Deed.Parse)];
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
        }
        _process.Dispose();
    }
}
