using System.ComponentModel;
using System.Diagnostics;
using System.Globalization;

namespace KamOtel.Agent;

/// <summary>The server of a drill (agent/drill), running under a name that the agent watches, out of a folder of its own.</summary>
internal sealed class DrillServer : IDisposable
{
    private const string Resource = "kamotel-drill";

    private readonly DirectoryInfo _folder;
    private readonly Process _process;

    private DrillServer(DirectoryInfo folder, Process process, string value) => (_folder, _process, Value) = (folder, process, value);

    /// <summary>Its main process, as this process sees it.</summary>
    public int Pid => _process.Id;

    /// <summary>Its program: tells which server of the agent's it is, and people that it is a drill.</summary>
    public string Program => Path.Combine(_folder.FullName, _process.StartInfo.FileName.Split('/')[^1]);

    /// <summary>The pointer that its processes share, as the agent writes it. Nobody else has the same: addresses are random.</summary>
    public string Value { get; }

    /// <summary>Starts it, and returns when its workers run.</summary>
    /// <param name="name">What its program is called.</param>
    /// <param name="lifetime">When it ends by itself, should nobody end it.</param>
    /// <exception cref="IOException">It cannot be started here; the message says why and what helps.</exception>
    public static DrillServer Start(string name, TimeSpan lifetime)
    {
        DirectoryInfo folder;
        try
        {
            folder = Directory.CreateTempSubdirectory("kamotel-drill-");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            string why = Directory.Exists(Path.GetTempPath()) ? e.Message.TrimEnd('.') : "it is not there";
            throw new IOException($"no folder can be made in {Path.GetTempPath()}: {why}; name another one with TMPDIR=DIRECTORY", e);
        }
        string program = Path.Combine(folder.FullName, name);
        try
        {
            Unpack(program);
            string seconds = Math.Ceiling(lifetime.TotalSeconds).ToString(CultureInfo.InvariantCulture);
            Process process = Process.Start(new ProcessStartInfo(program, [seconds]) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true })!;
            // ready PID KEY VALUE
            if (process.StandardOutput.ReadLine()?.Split(' ') is ["ready", _, _, var value])
            {
                return new DrillServer(folder, process, value);
            }
            process.WaitForExit();
            throw new IOException($"the drill's server ended at once with code {process.ExitCode}: memory or processes are short");
        }
        catch (Exception e) when (e is Win32Exception or IOException or UnauthorizedAccessException)
        {
            folder.Delete(recursive: true);
            const int PermissionDenied = 13;
            throw e is Win32Exception { NativeErrorCode: PermissionDenied }
                ? new IOException($"{Path.GetTempPath()} lets nobody run a program (noexec?); name another folder with TMPDIR=DIRECTORY", e)
                : new IOException($"the drill's server cannot be started: {e.Message}", e);
        }
    }

    /// <summary>Ends it, if it still runs, and removes its folder.</summary>
    public void Dispose()
    {
        _process.StandardInput.Close();
        _process.WaitForExit();
        _process.Dispose();
        _folder.Delete(recursive: true);
    }

    private static void Unpack(string program)
    {
        using Stream resource = typeof(DrillServer).Assembly.GetManifestResourceStream(Resource)!;
#pragma warning disable CA1416 // There is no KamOtel elsewhere.
        using var file = new FileStream(program, new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute,
        });
#pragma warning restore CA1416
        resource.CopyTo(file);
    }
}
