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
        if (words[0] == "thread")
        {
            return new Deed(words[0], Number(1), Number(2), 0, ulong.Parse(words[3], NumberStyles.HexNumber, CultureInfo.InvariantCulture));
        }
        return words[0] is "init" or "set" or "get" or "cleanup" or "set_ex" or "clean"
            ? new Deed(words[0], Number(1), Number(2), uint.Parse(words[3], NumberStyles.HexNumber, CultureInfo.InvariantCulture), ulong.Parse(words[4], NumberStyles.HexNumber, CultureInfo.InvariantCulture))
            : new Deed(words[0], words[0] == "at" ? 0 : Number(1), words[0] == "at" ? 0 : Number(2), 0, words[0] == "at" ? ulong.Parse(words[1], CultureInfo.InvariantCulture) : 0);
    }
}

/// <summary>A running target program, under a name of its own so that only it is watched.</summary>
internal sealed class Target : IDisposable
{
    private readonly Process _process;
    private readonly List<Deed> _deeds = [];

    private Target(Process process)
    {
        _process = process;
        Pid = process.Id;
        process.OutputDataReceived += (_, line) =>
        {
            if (line.Data is { Length: > 0 } text)
            {
                lock (_deeds)
                {
                    _deeds.Add(Deed.Parse(text));
                }
            }
        };
        process.BeginOutputReadLine();
    }

    public int Pid { get; }

    public bool HasExited => _process.HasExited;

    /// <summary>What it did so far, in order.</summary>
    public IReadOnlyList<Deed> Deeds
    {
        get
        {
            lock (_deeds)
            {
                return [.. _deeds];
            }
        }
    }

    /// <summary>Copies the program under <paramref name="name"/> and starts a scenario.</summary>
    public static Target Start(Scratch scratch, string name, string library, string scenario, int count = 0, string program = "target")
    {
        string copy = Path.Combine(scratch.Path, name);
        if (!File.Exists(copy))
        {
            File.Copy(Path.Combine(Machine.Targets, program), copy);
        }
        return new Target(Process.Start(new ProcessStartInfo(copy, [library, scenario, count.ToString(CultureInfo.InvariantCulture)])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
        })!);
    }

    /// <summary>Lets a waiting scenario go on, to its end.</summary>
    public void Go() => _process.StandardInput.Close();

    /// <summary>Lets a waiting scenario go on, to where it waits again.</summary>
    public void Step()
    {
        _process.StandardInput.Write('.');
        _process.StandardInput.Flush();
    }

    /// <summary>Waits until it did so many things of a kind.</summary>
    public void WaitFor(string what, int count = 1) =>
        SpinWait.SpinUntil(() => Deeds.Count(d => d.What == what) >= count, TimeSpan.FromSeconds(60))
            .ShouldBeTrue($"the target did not say \"{what}\" {count} times within a minute");

    /// <summary>Waits for the end; what it did, in order. Fails when it failed.</summary>
    public IReadOnlyList<Deed> Finish()
    {
        _process.WaitForExit(60_000).ShouldBeTrue("the target did not end within a minute");
        _process.WaitForExit(); // The output, too.
        _process.ExitCode.ShouldBe(0);
        return Deeds;
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
