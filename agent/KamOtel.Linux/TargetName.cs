using System.Buffers;
using System.Globalization;
using System.Text;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>
/// What a server is called outside: its pod or container, else its systemd unit, else its configuration file, else its
/// program's path, else its task name. This name is all that leaves of what was read; a command line never does.
/// </summary>
public static class TargetName
{
    /// <summary>The most characters a name has.</summary>
    public const int MaxLength = 200;

    private const int MaxRead = 64 * 1024;
    private const int ShortIdLength = 12;

    /// <summary>The options of Kamailio and OpenSIPS that are followed by a value.</summary>
    private static readonly SearchValues<char> OptionsWithValue = SearchValues.Create("fmMblLnNWwtugpPGQOaAxXYoks");

    /// <summary>The name of the server that a process belongs to. Gone when the process is, or when its number is another's now.</summary>
    /// <param name="proc">Where to look.</param>
    /// <param name="process">A process of the server.</param>
    /// <param name="hostName">Its own host name; null when it has the node's, or none is known.</param>
    public static ProcOutcome<ServerName> Of(ProcFs proc, ProcessId process, string? hostName = null)
    {
        ArgumentNullException.ThrowIfNull(proc);
        if (!IsStill(proc, process, out TaskName task, out ProcFailure failure))
        {
            return failure;
        }

        ControlGroups groups = ReadControlGroups(proc, process.Tgid);
        Container? container = groups.ContainerId is null && hostName is null
            ? null
            : new Container(groups.ContainerId, hostName is null ? null : Sanitise(hostName), groups.PodUid);
        string? program = proc.ExecutablePath(process.Tgid).TryGet(out string? path) ? path : null;
        string name = OfContainer(container, groups.Unit)
            ?? groups.Unit
            ?? (IsSipServer(Path.GetFileName(program)) || IsSipServer(task.ToString()) ? FromConfiguration(proc, process.Tgid) : null)
            ?? program
            ?? task.ToString();

        // Asked again: had the number passed to another process meanwhile, the name could be that one's.
        return IsStill(proc, process, out _, out failure) ? new ServerName(Sanitise(name), container) : failure;
    }

    /// <summary>
    /// What stays the same over restarts, as far as something does: a pod's name, or its UID where its host name is the
    /// node's; else the container's host name, unless that was made from its id; else the id. Where systemd runs in the
    /// container, the unit tells its servers apart.
    /// </summary>
    internal static string? OfContainer(Container? container, string? unit)
    {
        string? name = container switch
        {
            null => null,
            { PodUid: { } pod } => $"pod:{container.PodName ?? pod}",
            { HostName: { } host } when container.Id?.StartsWith(host, StringComparison.Ordinal) != true => $"container:{host}",
            { Id: { } id } => $"container:{id[..ShortIdLength]}",
            _ => null,
        };
        return name is null || unit is null ? name : $"{name}/{unit}";
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

    private static ControlGroups ReadControlGroups(ProcFs proc, int pid)
    {
        Span<byte> buffer = stackalloc byte[16 * 1024];
        return ControlGroups.Parse(proc.ReadFile(pid, "cgroup", buffer).TryGet(out int length) ? buffer[..length] : []);
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
}
