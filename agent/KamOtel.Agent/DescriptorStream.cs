using System.Runtime.InteropServices;

namespace KamOtel.Agent;

/// <summary>
/// Writes to a descriptor that the agent was started with, byte for byte. The runtime's stream for it takes hold of the terminal
/// first and sends it the sequences for an interactive program, which this is not; and a file stream would keep a position of
/// its own in a file that others write, too.
/// </summary>
internal sealed partial class DescriptorStream(int descriptor) : Stream
{
    private const int Interrupted = 4;
    private const int NotOpen = 9;
    private const int BrokenPipe = 32;

    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    /// <exception cref="IOException">It cannot be written. Nobody at the other end is no error: nobody wants to read.</exception>
    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            nint count = WriteOnce(descriptor, buffer);
            int errno = Marshal.GetLastPInvokeError();
            if (count >= 0)
            {
                buffer = buffer[(int)count..];
            }
            else if (errno is BrokenPipe or NotOpen)
            {
                return;
            }
            else if (errno != Interrupted)
            {
                throw new IOException(Marshal.GetPInvokeErrorMessage(errno));
            }
        }
    }

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    private static unsafe nint WriteOnce(int descriptor, ReadOnlySpan<byte> buffer)
    {
        fixed (byte* start = buffer)
        {
            return Write(descriptor, start, (nuint)buffer.Length);
        }
    }

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static unsafe partial nint Write(int descriptor, byte* buffer, nuint size);
}
