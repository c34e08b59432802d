using System.Diagnostics;

namespace KamOtel.Benchmarks;

/// <summary>Another program that looks on until it is disposed of; what it says is thrown away.</summary>
internal sealed class Tracer : IDisposable
{
    private readonly Process _process;

    public Tracer(string program, string[] arguments, IEnumerable<KeyValuePair<string, string>> variables)
    {
        var start = new ProcessStartInfo("/bin/sh", ["-c", "exec \"$0\" \"$@\" </dev/null >/dev/null 2>&1", program, .. arguments]) { UseShellExecute = false };
        foreach ((string name, string value) in variables)
        {
            start.Environment[name] = value;
        }
        _process = Process.Start(start)!;
    }

    public void Dispose() => Build.End(_process);
}
