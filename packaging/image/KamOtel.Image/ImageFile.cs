using System.Text;

namespace KamOtel.Image;

/// <summary>A file or folder of the image; all are root's.</summary>
/// <param name="Path">Its path, without the first slash.</param>
/// <param name="Mode">Its permissions.</param>
/// <param name="Content">What it holds; null for a folder.</param>
internal sealed record ImageFile(string Path, UnixFileMode Mode, byte[]? Content)
{
    private const UnixFileMode Readable = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead;
    private const UnixFileMode Runnable = Readable | UnixFileMode.UserExecute | UnixFileMode.GroupExecute | UnixFileMode.OtherExecute;

    public static ImageFile Folder(string path, UnixFileMode more = UnixFileMode.None) => new(path, Runnable | more, null);

    public static ImageFile Program(string path, byte[] content) => new(path, Runnable, content);

    public static ImageFile Plain(string path, byte[] content) => new(path, Readable, content);

    public static ImageFile Text(string path, string content) => Plain(path, Encoding.UTF8.GetBytes(content));
}
