using System.Text;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>Makes standard input, output and error safe to use, however the agent was started.</summary>
internal static class StandardStreams
{
    /// <summary>What stands in for those that are closed, for as long as the process lives.</summary>
    private static readonly List<SafeFileHandle> Kept = [];

    // Opened when they are asked for: after they are secured.
    private static readonly Lazy<TextWriter> Outputs = new(static () => Writer(Console.OpenStandardOutput()));
    private static readonly Lazy<TextWriter> Errors = new(static () => new LosingWriter(Writer(Console.OpenStandardError())));

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

    /// <summary>
    /// Standard output as it is: the runtime's own writer would first send a terminal the sequences for an interactive
    /// program, which this is not.
    /// </summary>
    public static TextWriter Output => Outputs.Value;

    /// <summary>Standard error, which loses what cannot be written.</summary>
    public static TextWriter Error => Errors.Value;

    private static TextWriter Writer(Stream stream) =>
        TextWriter.Synchronized(new StreamWriter(stream, new UTF8Encoding(encoderShouldEmitUTF8Identifier: false)) { AutoFlush = true });
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
