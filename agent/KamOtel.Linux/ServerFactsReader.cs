using System.Buffers;
using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Text;
using KamOtel.Diagnosis;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>Reads what a server is made of, from its root's files and memory. For one thread at a time.</summary>
/// <param name="proc">Where its processes are shown.</param>
public sealed class ServerFactsReader(ProcFs proc)
{
    private const int MaxText = 64;
    private const int MaxModules = 512;
    private const int MaxRemembered = 256;

    /// <summary>Bytes of a file that are looked through for OpenSSL's version: a libcrypto has 5 MB.</summary>
    private const long MaxScan = 64 << 20;

    private const string FullVersion = "full_version";
    private const string ThreadsMode = "ksr_tls_threads_mode";

    /// <summary>The modules that do TLS, the best answer first: OpenSIPS's tls_mgm needs one of those before it.</summary>
    private static readonly string[] TlsModules = ["tls", "tls_openssl", "tls_wolfssl", "tls_mgm", "proto_tls"];

    /// <summary>OpenSSL's versions by file; null where a file has none.</summary>
    private readonly Dictionary<FileKey, string?> _openSsl = [];

    /// <summary>
    /// What can be told of the server that <paramref name="root"/> is the root of. What could not be read is null or empty;
    /// everything is, when the process is gone.
    /// </summary>
    public ServerFacts Read(ProcessId root)
    {
        if (!IsStill(root) || !proc.ReadMaps(root.Tgid).TryGet(out ImmutableArray<Mapping> mappings))
        {
            return ServerFacts.Unknown;
        }

        ImmutableArray<Mapping> code = [.. mappings.Where(static mapping => mapping.IsCode)];

        ImmutableArray<string> modules = [.. code.Select(mapping => ModuleOf(root.Tgid, mapping)).OfType<string>().Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal).Take(MaxModules)];
        (string? kamailio, int? mode, SharedMemoryPool? pool) = ReadProgram(root.Tgid, mappings, code);
        var facts = new ServerFacts
        {
            Kamailio = kamailio,
            OpenSsl = ReadOpenSsl(root.Tgid, code),
            Modules = modules,
            TlsBackEnd = Array.Find(TlsModules, module => modules.Contains(module, StringComparer.Ordinal)),
            TlsThreadsMode = mode,
            SharedMemory = pool,
        };

        // Asked again: had the number passed to another process meanwhile, all this could be that one's.
        return IsStill(root) ? facts : ServerFacts.Unknown;
    }

    /// <summary>The version in a text such as <c>kamailio 5.6.3 (x86_64/linux)</c>, or null.</summary>
    internal static string? ParseKamailio(ReadOnlySpan<byte> text)
    {
        ReadOnlySpan<byte> prefix = "kamailio "u8;
        if (!text.StartsWith(prefix))
        {
            return null;
        }

        text = text[prefix.Length..];
        int end = text.IndexOfAny((byte)' ', (byte)0);
        text = end < 0 ? text : text[..end];
        return !text.IsEmpty && char.IsAsciiDigit((char)text[0]) ? Printable(text) : null;
    }

    /// <summary>The version where a text such as <c>OpenSSL 3.0.19 27 Jan 2026</c> begins in <paramref name="bytes"/>, or null.</summary>
    internal static string? FindOpenSsl(ReadOnlySpan<byte> bytes)
    {
        ReadOnlySpan<byte> prefix = "OpenSSL "u8;
        for (int hit; (hit = bytes.IndexOf(prefix)) >= 0;)
        {
            bytes = bytes[(hit + prefix.Length)..];
            int end = bytes.IndexOf((byte)' ');
            if (end is >= 5 and <= MaxText && IsNumber(bytes[..end]) && IsDate(bytes[(end + 1)..]))
            {
                return Printable(bytes[..end]);
            }
        }

        return null;

        // 3.0.19, 1.1.1w, 3.2.0-beta1
        static bool IsNumber(ReadOnlySpan<byte> text) =>
            char.IsAsciiDigit((char)text[0]) && text.Count((byte)'.') == 2 && !text.ContainsAnyExceptInRange((byte)'+', (byte)'z');

        // "27 Jan 2026", "1 Feb 2030": other texts that begin alike have none.
        static bool IsDate(ReadOnlySpan<byte> text)
        {
            int day = text.IndexOf((byte)' ');
            return day is 1 or 2
                && text.Length >= day + 9
                && !text[..day].ContainsAnyExceptInRange((byte)'0', (byte)'9')
                && !text.Slice(day + 1, 3).ContainsAnyExceptInRange((byte)'A', (byte)'z')
                && text[day + 4] == ' '
                && !text.Slice(day + 5, 4).ContainsAnyExceptInRange((byte)'0', (byte)'9');
        }
    }

    private static string Printable(ReadOnlySpan<byte> text)
    {
        text = text[..Math.Min(text.Length, MaxText)];
        return string.Create(text.Length, text, static (result, from) =>
        {
            for (int i = 0; i < result.Length; i++)
            {
                result[i] = from[i] is > 0x20 and < 0x7f ? (char)from[i] : '?';
            }
        });
    }

    private bool IsStill(ProcessId process) => proc.ReadStat(process.Tgid).TryGet(out ProcessStat? stat) && stat.Id == process;

    /// <summary>By the mapping it is the very file; by its path, for those who may not, perhaps a newer one.</summary>
    private bool TryOpen(int pid, Mapping mapping, [NotNullWhen(true)] out SafeFileHandle? file) =>
        proc.OpenMapping(pid, mapping.Start, mapping.End).TryGet(out file)
        || (mapping is { Deleted: false, Path: ['/', ..] path } && proc.OpenRooted(pid, path).TryGet(out file));

    private string? ModuleOf(int pid, Mapping mapping)
    {
        if (ServerModule.NameOf(mapping.Path) is { } known)
        {
            return known;
        }

        // Only what is named as modules are is opened.
        if (ServerModule.ExportedNameOf(mapping.Path) is null || !TryOpen(pid, mapping, out SafeFileHandle? file))
        {
            return null;
        }

        using (file)
        {
            return ServerModule.NameOf(mapping.Path, file);
        }
    }

    private (string? Kamailio, int? Mode, SharedMemoryPool? Pool) ReadProgram(int pid, ImmutableArray<Mapping> mappings, ImmutableArray<Mapping> code)
    {
        if (!proc.ExecutablePath(pid).TryGet(out string? path)
            || code.FirstOrDefault(mapping => string.Equals(mapping.Path, path, StringComparison.Ordinal)) is not { } program
            || !TryOpen(pid, program, out SafeFileHandle? file))
        {
            return default;
        }

        using (file)
        {
            if (!ElfFile.Open(file).TryGet(out ElfFile? elf, out _)
                || elf.Segments.LoadBias(program.Start, program.End - program.Start, program.Offset) is not { } bias
                || !elf.FindObjects([FullVersion, ThreadsMode, SharedMemoryPoolReader.Root, SharedMemoryPoolReader.AskedSize]).TryGet(out ElfObjects? objects, out _))
            {
                return default;
            }

            string? version = null;
            int? mode = null;
            ulong? poolRoot = null;
            ulong? poolSize = null;
            Span<byte> value = stackalloc byte[MaxText];
            foreach (ElfObject found in objects.Found)
            {
                if (found.Name is SharedMemoryPoolReader.Root or SharedMemoryPoolReader.AskedSize)
                {
                    ref ulong? place = ref found.Name == SharedMemoryPoolReader.Root ? ref poolRoot : ref poolSize;
                    place = unchecked(bias + found.Address);
                    continue;
                }

                Span<byte> here = value[..(int)Math.Min(found.Size, MaxText)];
                if (!ProcessMemory.TryRead(pid, unchecked(bias + found.Address), here, out _))
                {
                    continue;
                }

                if (string.Equals(found.Name, FullVersion, StringComparison.Ordinal))
                {
                    version = ParseKamailio(here);
                }
                else if (here.Length == sizeof(int))
                {
                    mode = BinaryPrimitives.ReadInt32LittleEndian(here);
                }
            }

            return (version, mode, SharedMemoryPoolReader.Read(pid, mappings, poolRoot, poolSize));
        }
    }

    private string? ReadOpenSsl(int pid, ImmutableArray<Mapping> code)
    {
        Mapping? library = code.FirstOrDefault(static mapping => Path.GetFileName(mapping.Path)?.StartsWith("libcrypto.", StringComparison.Ordinal) == true)
            ?? code.FirstOrDefault(static mapping => Path.GetFileName(mapping.Path)?.StartsWith("libcrypto-", StringComparison.Ordinal) == true);
        if (library is null || !TryOpen(pid, library, out SafeFileHandle? file))
        {
            return null;
        }

        using (file)
        {
            if (!FileKey.Of(file).TryGet(out FileKey key))
            {
                return null;
            }

            if (!_openSsl.TryGetValue(key, out string? version))
            {
                if (_openSsl.Count >= MaxRemembered)
                {
                    _openSsl.Clear();
                }

                _openSsl[key] = version = ScanForOpenSsl(file);
            }

            return version;
        }
    }

    /// <summary>The version of the OpenSSL that a file is or carries; null when it does not tell.</summary>
    public static string? ScanForOpenSsl(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);

        // What is carried over is longer than the text that is looked for.
        const int Overlap = 2 * MaxText;
        byte[] rented = ArrayPool<byte>.Shared.Rent(256 * 1024);
        try
        {
            int kept = 0;
            for (long at = 0; at < MaxScan;)
            {
                BoundedCall.Progress();
                int count = RandomAccess.Read(file, rented.AsSpan(kept), at);
                if (count == 0)
                {
                    return null;
                }

                ReadOnlySpan<byte> text = rented.AsSpan(0, kept + count);
                if (FindOpenSsl(text) is { } version)
                {
                    return version;
                }

                at += count;
                kept = Math.Min(Overlap, text.Length);
                text[^kept..].CopyTo(rented);
            }

            return null;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            return null;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }
}
