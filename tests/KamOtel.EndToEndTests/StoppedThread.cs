using System.ComponentModel;
using System.Runtime.InteropServices;

namespace KamOtel.EndToEndTests;

/// <summary>Holds one thread of a process, as a debugger does; the others run on.</summary>
internal sealed partial class StoppedThread : IDisposable
{
    private const int Seize = 0x4206;
    private const int Interrupt = 0x4207;
    private const int NoHang = 1;
    private const int All = 0x40000000;

    private readonly ManualResetEventSlim _release = new();
    private readonly Thread _tracer;

    /// <summary>Stops it.</summary>
    /// <param name="pid">The process.</param>
    /// <param name="name">The thread's name.</param>
    public StoppedThread(int pid, string name)
    {
        int thread = Directory.EnumerateDirectories($"/proc/{pid}/task")
            .Where(task => File.ReadAllText($"{task}/comm").TrimEnd('\n') == name)
            .Select(static task => int.Parse(Path.GetFileName(task), System.Globalization.CultureInfo.InvariantCulture)).Single();
        int error = -1;
        // It is held for as long as the thread lives that asked for it.
        _tracer = new Thread(() =>
        {
            error = Trace(Seize, thread) == 0 && Trace(Interrupt, thread) == 0 ? 0 : Marshal.GetLastPInvokeError();
            // Without a look at it, its process could not end.
            while (error == 0 && !_release.Wait(20) && Wait(thread, out _, All | NoHang) >= 0)
            {
            }
        });
        _tracer.Start();
        SpinWait.SpinUntil(() => Volatile.Read(ref error) >= 0);
        if (error > 0)
        {
            Dispose();
            throw new Win32Exception(error);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _release.Set();
        _tracer.Join();
        _release.Dispose();
    }

    private static nint Trace(int request, int thread) => Trace(request, thread, 0, 0);

    [LibraryImport("libc", EntryPoint = "waitpid")]
    private static partial int Wait(int pid, out int status, int options);

    [LibraryImport("libc", EntryPoint = "ptrace", SetLastError = true)]
    private static partial nint Trace(int request, int pid, nint address, nint data);
}
