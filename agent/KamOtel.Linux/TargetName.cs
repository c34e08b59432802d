using System.Buffers;
using System.Globalization;
using System.Text;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>
/// What a server is called outside: its container, else its systemd unit, else its configuration file, else its program's
/// path, else its task name. This name is all that leaves of what was read; a command line never does.
/// </summary>
public static class TargetName
{
    /// <summary>The most characters a name has.</summary>
    public const int MaxLength = 200;

    private const int MaxRead = 64 * 1024;
    private const int ContainerIdLength = 64;
    private const string Removed = " (deleted)";

    /// <summary>The options of Kamailio and OpenSIPS that are followed by a value.</summary>
    private static readonly SearchValues<char> OptionsWithValue = SearchValues.Create("fmMblLnNWwtugpPGQOaAxXYoks");

    private static readonly SearchValues<char> HexDigits = SearchValues.Create("0123456789abcdef");

    /// <summary>The name of the server that a process belongs to. Gone when the process is, or when its number is another's now.</summary>
    public static ProcOutcome<string> Of(ProcFs proc, ProcessId process)
    {
        ArgumentNullException.ThrowIfNull(proc);
        if (!IsStill(proc, process, out TaskName task, out ProcFailure failure))
        {
            return failure;
        }

        string? program = proc.ExecutablePath(process.Tgid).TryGet(out string? path) ? path : null;
        string name = FromControlGroups(proc, process.Tgid)
            ?? (IsSipServer(Path.GetFileName(program)) || IsSipServer(task.ToString()) ? FromConfiguration(proc, process.Tgid) : null)
            ?? program
            ?? task.ToString();

        // Asked again: had the number passed to another process meanwhile, the name could be that one's.
        return IsStill(proc, process, out _, out failure) ? Sanitise(name) : failure;
    }

    /// <summary>The configuration file of a SIP server alone, wherever it runs; null when it names none, or is gone.</summary>
    public static string? ConfigurationOf(ProcFs proc, ProcessId process)
    {
        ArgumentNullException.ThrowIfNull(proc);
        return IsStill(proc, process, out TaskName task, out _)
            && (IsSipServer(task.ToString()) || (proc.ExecutablePath(process.Tgid).TryGet(out string? path) && IsSipServer(Path.GetFileName(path))))
            && FromConfiguration(proc, process.Tgid) is { } file && IsStill(proc, process, out _, out _)
            ? Sanitise(file)
            : null;
    }

    /// <summary>The container or the unit that <c>/proc/PID/cgroup</c> tells of, or null.</summary>
    internal static string? ParseControlGroups(ReadOnlySpan<byte> text)
    {
        string? unit = null;
        foreach (string line in Encoding.UTF8.GetString(text).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            // hierarchy:controllers:path
            string[] fields = line.Split(':', 3);
            if (fields.Length != 3)
            {
                continue;
            }

            // The kernel marks a removed group; its processes are the same as before.
            string path = fields[2].EndsWith(Removed, StringComparison.Ordinal) ? fields[2][..^Removed.Length] : fields[2];

            // containerd writes "slice:cri-containerd:id" as one name when it misreads the driver.
            foreach (string part in path.Split(['/', ':'], StringSplitOptions.RemoveEmptyEntries).Reverse())
            {
                if (ContainerId(part) is { } id)
                {
                    return $"container:{id[..12]}";
                }

                // A user's service manager is not what runs in it.
                if (unit is null && part.EndsWith(".service", StringComparison.Ordinal) && !part.StartsWith("user@", StringComparison.Ordinal))
                {
                    unit = part;
                }
            }
        }

        return unit;
    }

    /// <summary>The value of <c>-f</c> in a command line (strings that each end with NUL), or null.</summary>
    internal static string? ParseConfigurationFile(ReadOnlySpan<byte> commandLine)
    {
        string[] words = Encoding.UTF8.GetString(commandLine).Split('\0');
        for (int i = 1; i < words.Length; i++)
        {
            string word = words[i];
            if (word == "--")
            {
                return null;
            }

            if (word is not ['-', not '-', ..])
            {
                continue;
            }

            // Letters may stand together (-DDEf FILE), and only the first with a value ends them.
            int option = word.AsSpan(1).IndexOfAny(OptionsWithValue) + 1;
            if (option == 0)
            {
                continue;
            }

            string? value = option + 1 < word.Length ? word[(option + 1)..] : i + 1 < words.Length ? words[++i] : null;
            if (word[option] == 'f')
            {
                return string.IsNullOrEmpty(value) ? null : value;
            }
        }

        return null;
    }

    /// <summary>No control or invisible characters, and at most <see cref="MaxLength"/>; of a longer name its end, which tells more.</summary>
    internal static string Sanitise(string name)
    {
        string plain = PlainText.Of(name);
        if (plain.Length <= MaxLength)
        {
            return plain;
        }

        int start = plain.Length - (MaxLength - 1);
        start += char.IsLowSurrogate(plain[start]) ? 1 : 0;
        return $"…{plain[start..]}";
    }

    private static bool IsStill(ProcFs proc, ProcessId process, out TaskName task, out ProcFailure failure)
    {
        task = default;
        if (!proc.ReadStat(process.Tgid).TryGet(out ProcessStat? stat, out failure))
        {
            return false;
        }

        task = stat.Name;
        failure = stat.Id == process ? default : new(ProcStatus.Gone, $"process {process} is gone, and its number is in use again");
        return stat.Id == process;
    }

    /// <summary>Only these programs' options are known: another's -f could be followed by anything, a secret too.</summary>
    private static bool IsSipServer(string? name) =>
        name is not null && (name.StartsWith("kamailio", StringComparison.Ordinal) || name.StartsWith("opensips", StringComparison.Ordinal));

    private static string? FromControlGroups(ProcFs proc, int pid)
    {
        Span<byte> buffer = stackalloc byte[16 * 1024];
        return proc.ReadFile(pid, "cgroup", buffer).TryGet(out int length) ? ParseControlGroups(buffer[..length]) : null;
    }

    private static string? FromConfiguration(ProcFs proc, int pid)
    {
        byte[] buffer = new byte[MaxRead];
        if (!proc.ReadFile(pid, "cmdline", buffer).TryGet(out int length) || ParseConfigurationFile(buffer.AsSpan(0, length)) is not { } file)
        {
            return null;
        }

        if (file.StartsWith('/'))
        {
            return Path.GetFullPath(file);
        }

        return proc.ReadLink(pid, "cwd").TryGet(out string? directory) && directory.StartsWith('/') ? Path.GetFullPath(file, directory) : file;
    }

    /// <summary>The 64 digits at the end of a name such as <c>docker-ID.scope</c> or <c>ID</c> alone.</summary>
    private static string? ContainerId(string part)
    {
        const string Scope = ".scope";
        string name = part.EndsWith(Scope, StringComparison.Ordinal) ? part[..^Scope.Length] : part;
        if (name.Length < ContainerIdLength || (name.Length > ContainerIdLength && name[^(ContainerIdLength + 1)] != '-'))
        {
            return null;
        }

        string id = name[^ContainerIdLength..];
        return id.AsSpan().ContainsAnyExcept(HexDigits) ? null : id;
    }
}
