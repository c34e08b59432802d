using System.Buffers;
using System.IO.Compression;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace KamOtel.Agent;

/// <summary>
/// Writes a recording: lines of JSON in members of gzip. What was flushed can be read, whatever becomes of the rest. One
/// thread.
/// </summary>
internal sealed class RecordingWriter : IDisposable
{
    /// <summary>A line that a reader still takes.</summary>
    public const int MaxLineBytes = 8 << 20;

    /// <summary>A member is ended when it has so much, however young it is.</summary>
    private const int MaxMemberBytes = 256 << 10;

    /// <summary>For the last lines, which must find room.</summary>
    private const int Reserve = 4096;

    private readonly FileStream? _file;
    private readonly Stream _stream;
    private readonly long _maxBytes;
    private readonly ArrayBufferWriter<byte> _member = new();
    private readonly ArrayBufferWriter<byte> _line = new();
    private readonly Utf8JsonWriter _json;

    /// <summary>Writes the header at once.</summary>
    /// <param name="stream">A file, or whatever a test has.</param>
    /// <param name="header">The first line.</param>
    /// <param name="maxBytes">More is never written.</param>
    /// <exception cref="IOException">It cannot be written.</exception>
    public RecordingWriter(Stream stream, RecordingHeader header, long maxBytes = long.MaxValue)
    {
        _stream = stream;
        _file = stream as FileStream;
        _maxBytes = maxBytes;
        // It is to be read by people, and nothing here goes into a web page as it is.
        _json = new Utf8JsonWriter(_line, new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
        JsonSerializer.Serialize(_json, header, RecordingJson.Default.RecordingHeader);
        _json.Flush();
        Append();
        Flush();
    }

    /// <summary>Bytes in the file.</summary>
    public long Bytes { get; private set; }

    /// <summary>Inputs that were written or wait for <see cref="Flush"/>.</summary>
    public long Inputs { get; private set; }

    /// <summary>Something waits for <see cref="Flush"/>.</summary>
    public bool IsDirty => _member.WrittenCount > 0;

    /// <summary>Takes a line; false when the file would become too large: then only <see cref="End"/> may follow.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public bool TryWrite(RecordingLine line)
    {
        Serialize(line);
        if (_line.WrittenCount >= MaxLineBytes)
        {
            throw new IOException($"one record has {_line.WrittenCount} bytes, which is more than a recording can have");
        }
        // Text that cannot be compressed grows a little, and never by more than this.
        if (Bytes + _member.WrittenCount + _line.WrittenCount + Reserve > _maxBytes)
        {
            Flush();
            if (Bytes + _line.WrittenCount + Reserve > _maxBytes)
            {
                return false;
            }
        }
        Append();
        Inputs += line is InputLine ? 1 : 0;
        if (_member.WrittenCount >= MaxMemberBytes)
        {
            Flush();
        }
        return true;
    }

    /// <summary>Ends the member: what was taken so far is in the file.</summary>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void Flush()
    {
        if (!IsDirty)
        {
            return;
        }
        using var compressed = new MemoryStream();
        using (var gzip = new GZipStream(compressed, CompressionLevel.Optimal, leaveOpen: true))
        {
            gzip.Write(_member.WrittenSpan);
        }
        _member.ResetWrittenCount();
        _stream.Write(compressed.GetBuffer(), 0, (int)compressed.Length);
        _stream.Flush();
        Bytes += compressed.Length;
    }

    /// <summary>Writes the last lines, and sees to it that they are on the disk.</summary>
    /// <param name="lost">Inputs that came too fast to be written.</param>
    /// <param name="why">Why it ends.</param>
    /// <param name="atNs">Boot time in nanoseconds.</param>
    /// <exception cref="IOException">It cannot be written.</exception>
    public void End(RecordingEnd why, long lost, ulong atNs)
    {
        if (lost > 0)
        {
            Serialize(new GapLine { Count = lost });
            Append();
        }
        Serialize(new EndLine { Why = why, At = atNs, Inputs = Inputs });
        Append();
        Flush();
        _file?.Flush(flushToDisk: true);
    }

    public void Dispose()
    {
        _json.Dispose();
        try
        {
            _stream.Dispose();
        }
        catch (IOException)
        {
            // It was told when it was written.
        }
    }

    private void Serialize(RecordingLine line)
    {
        _line.ResetWrittenCount();
        _json.Reset();
        JsonSerializer.Serialize(_json, line, RecordingJson.Default.RecordingLine);
        _json.Flush();
    }

    private void Append()
    {
        _member.Write(_line.WrittenSpan);
        _member.Write("\n"u8);
    }
}
