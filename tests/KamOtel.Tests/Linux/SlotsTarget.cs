using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>How <c>tests/targets/slots.c</c> is built.</summary>
public enum CLibrary
{
    Glibc,
    GlibcStatic,
    Musl,
    MuslStatic,
}

/// <summary>A slot that the target says it holds.</summary>
internal readonly record struct ToldSlot(int Tid, uint Key, ulong Value, string Owner, bool Shared);

/// <summary><c>tests/targets/slots.c</c>, running: it holds values of known truth until it is disposed of.</summary>
internal sealed class SlotsTarget : IDisposable
{
    private readonly Process _process;
    private bool _disposed;

    private SlotsTarget(Process process) => _process = process;

    public ProcessId Id => IdOf(_process.Id);

    public List<ThreadPointer> Threads { get; } = [];

    public List<ToldSlot> Slots { get; } = [];

    public List<ProcessId> Children { get; } = [];

    public ulong SharedStart { get; private set; }

    public ulong SharedEnd { get; private set; }

    public IEnumerable<ToldSlot> MainSlots => Slots.Where(slot => slot.Tid == _process.Id).OrderBy(static slot => slot.Key);

    /// <summary>The thread pointers of a forked process: those of the thread that forked.</summary>
    public List<ThreadPointer> ThreadsOf(ProcessId child) => [new(child, child.Tgid, Threads[0].TlsBase)];

    public static string Compile(Scratch scratch, CLibrary library)
    {
        Tools.Require(RuntimeInformation.ProcessArchitecture == Architecture.X64, "x86-64, where pthread_self() is the thread pointer");
        string path = scratch[$"slots-{library}"];
        string compiler = library is CLibrary.Musl or CLibrary.MuslStatic ? "musl-gcc" : "gcc";
        string[] options = library is CLibrary.GlibcStatic or CLibrary.MuslStatic ? ["-static", "-DSTATIC"] : [];
        Tools.Run(compiler, ["-O1", "-o", path, $"{Tools.Targets}/slots.c", "-pthread", "-ldl", .. options]);
        return path;
    }

    public static SlotsTarget Start(string path, params string[] arguments)
    {
        var target = new SlotsTarget(Tools.Start(path, arguments));
        while (target._process.StandardOutput.ReadLine() is { } line)
        {
            if (line == "ready")
            {
                return target;
            }

            target.Take(line.Split(' '));
        }

        target.Dispose();
        throw new InvalidOperationException($"{path} ended with {target._process.ExitCode}");
    }

    public static ProcessId IdOf(int pid) => new ProcFs().ReadStat(pid).Value.Id;

    public void Dispose()
    {
        if (_disposed)
        {
            return;
        }

        _disposed = true;

        // Then it ends its children, and waits for them.
        _process.StandardInput.Close();
        _process.WaitForExit();
        _process.Dispose();
    }

    private static ulong Hex(string text) => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private void Take(string[] words)
    {
        switch (words)
        {
            case ["shared", var start, var end]:
                (SharedStart, SharedEnd) = (Hex(start), Hex(end));
                break;
            case ["thread", var pid, var tid, var pointer]:
                Threads.Add(new(IdOf(int.Parse(pid)), int.Parse(tid), Hex(pointer)));
                break;
            case ["slot", var tid, var key, var value, var owner, var memory]:
                Slots.Add(new(int.Parse(tid), (uint)Hex(key), Hex(value), owner, memory == "shared"));
                break;
            case ["child", var pid]:
                Children.Add(IdOf(int.Parse(pid)));
                break;
            default:
                throw new InvalidOperationException(string.Join(' ', words));
        }
    }
}
