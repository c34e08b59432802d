using System.Text;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>Makes standard input, output and error safe to use, however the agent was started.</summary>
internal static class StandardStreams
{
    /// <summary>What stands in for those that are closed, for as long as the process lives.</summary>
    private static readonly List<SafeFileHandle> Kept = [];

    /// <summary>First of all: before anything else is opened.</summary>
    public static void Secure()
    {
        // Else the next file or socket would take a closed one's number, and the log would be written into it.
        while (true)
        {
            SafeFileHandle handle = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            if (handle.DangerousGetHandle() > 2)
            {
                handle.Dispose();
                break;
            }
            Kept.Add(handle);
        }
    }

    /// <summary>Standard output.</summary>
    public static TextWriter Output { get; } = Writer(1);

    /// <summary>Standard error, which loses what cannot be written.</summary>
    public static TextWriter Error { get; } = new LosingWriter(Writer(2));

    private static TextWriter Writer(int descriptor) =>
        TextWriter.Synchronized(new StreamWriter(new DescriptorStream(descriptor), new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)) { AutoFlush = true });
}

/// <summary>Loses what cannot be written: a full disk behind the log must not end the watching.</summary>
internal sealed class LosingWriter(TextWriter inner) : TextWriter
{
    public override Encoding Encoding => inner.Encoding;

    public override void Write(char value) => Try(() => inner.Write(value));

    public override void Write(char[] buffer, int index, int count) => Try(() => inner.Write(buffer, index, count));

    public override void Write(string? value) => Try(() => inner.Write(value));

    public override void Flush() => Try(inner.Flush);

    private static void Try(Action write)
    {
        try
        {
            write();
        }
        catch (IOException)
        {
        }
    }
}
