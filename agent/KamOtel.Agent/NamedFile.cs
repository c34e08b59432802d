using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>A file that a setting names.</summary>
/// <param name="Path">Where it is.</param>
/// <param name="Option">The setting, as an option: <c>--tls-key</c>.</param>
internal sealed record NamedFile(string Path, string Option)
{
    /// <summary>File and setting, for errors.</summary>
    public override string ToString() => $"{Path} ({Option})";

    /// <summary>All of it.</summary>
    /// <exception cref="IOException">It cannot be read; the message says why and what to do.</exception>
    public byte[] Read(int maxBytes)
    {
        try
        {
            using SafeFileHandle file = Open();
            long length = RandomAccess.GetLength(file);
            if (length > maxBytes)
            {
                throw new IOException($"{this} is larger than {maxBytes} bytes: name another file");
            }
            byte[] bytes = new byte[length];
            return bytes[..RandomAccess.Read(file, bytes, 0)];
        }
        catch (NotSupportedException e)
        {
            throw new IOException($"{this} is no file that can be read again: name another one", e);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new IOException($"{this} is not there: make it, or name another file", e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new IOException($"{this} cannot be read: {(Directory.Exists(Path) ? "it is a directory" : "let the user that kamotel runs as read it")}", e);
        }
    }

    /// <summary>Everybody on this machine can read it.</summary>
    public bool IsExposed()
    {
        try
        {
            using SafeFileHandle file = Open();
#pragma warning disable CA1416 // There is no KamOtel elsewhere.
            return File.GetUnixFileMode(file).HasFlag(UnixFileMode.OtherRead);
#pragma warning restore CA1416
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return false;
        }
    }

    /// <summary>Anew each time: in Kubernetes the path leads elsewhere after a renewal.</summary>
    private SafeFileHandle Open() => File.OpenHandle(Path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
}
