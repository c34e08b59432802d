using System.Text;

namespace KamOtel.Linux;

/// <summary>Paths below a prefix that is taken for the root: absolute links stay below it.</summary>
/// <param name="root">The prefix; <c>/</c> for the machine itself.</param>
internal sealed class RootedPaths(string root)
{
    /// <summary>Linux's own limit.</summary>
    private const int MaxLinks = 40;

    private readonly string _prefix = root.TrimEnd('/');

    /// <summary>The path as this process can open it, links not resolved.</summary>
    public string Outside(string inside) => _prefix + inside;

    /// <summary>The path below the root without links, or null when there is nothing or the links lead in a circle.</summary>
    public string? Resolve(string inside)
    {
        var waiting = new Stack<string>();
        Push(waiting, inside);
        var done = new List<string>();
        int links = 0;
        Span<byte> buffer = stackalloc byte[4096];
        while (waiting.TryPop(out string? name))
        {
            if (name == "..")
            {
                done.RemoveRange(Math.Max(done.Count - 1, 0), Math.Min(done.Count, 1));
                continue;
            }

            done.Add(name);
            string path = "/" + string.Join('/', done);
            int length = Native.ReadLink(Outside(path), buffer);
            if (length < 0 && Native.LastError == Native.InvalidArgument)
            {
                continue;
            }

            if (length < 0 || ++links > MaxLinks)
            {
                return null;
            }

            string target = Encoding.UTF8.GetString(buffer[..length]);
            done.RemoveAt(done.Count - 1);
            if (target.StartsWith('/'))
            {
                done.Clear();
            }

            Push(waiting, target);
        }

        return "/" + string.Join('/', done);
    }

    private static void Push(Stack<string> waiting, string path)
    {
        string[] names = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        for (int i = names.Length - 1; i >= 0; i--)
        {
            if (names[i] != ".")
            {
                waiting.Push(names[i]);
            }
        }
    }
}
