using System.IO.Compression;
using System.Text.Json;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Agent;

/// <summary>A file is no recording, or none that can be replayed; the message names it and says what was expected.</summary>
internal sealed class RecordingException(string message, int exitCode) : Exception(message)
{
    public int ExitCode { get; } = exitCode;
}

/// <summary>Reads a recording, which may come from anywhere: bounded, and never with another exception than its own.</summary>
internal sealed class RecordingReader : IDisposable
{
    private const int MaxHeaderBytes = 64 << 10;
    private const long MaxOffsetNs = 1L << 62;

    private readonly string _name;
    private readonly Stream _file;
    private readonly Stream _gzip;
    private byte[] _buffer = new byte[64 << 10];
    private int _start;
    private int _end;

    /// <summary>Reads the header.</summary>
    /// <exception cref="RecordingException">It is none.</exception>
    public RecordingReader(Stream file, string name)
    {
        _file = file;
        _name = name;
        _gzip = new GZipStream(file, CompressionMode.Decompress);
        try
        {
            Header = ReadHeader();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public RecordingHeader Header { get; }

    /// <summary>Whole lines read so far, the header among them.</summary>
    public long Lines { get; private set; }

    /// <summary>The last line, if it came.</summary>
    public EndLine? End { get; private set; }

    /// <summary>Inputs that were not recorded, just before the end.</summary>
    public long Lost { get; private set; }

    /// <summary>Why no more could be read, in a sentence for people; null when the recording has its end, or goes on.</summary>
    public string? Problem { get; private set; }

    /// <exception cref="RecordingException">It cannot be opened, or is no recording.</exception>
    public static RecordingReader Open(string path)
    {
        if (!File.Exists(path) && !Directory.Exists(path))
        {
            throw new RecordingException($"{path}: there is no such file; a recording, as 'kamotel record' writes it, is expected", Agent.ExitCode.NoInput);
        }
        return RegularFile.Open(path).TryGet(out SafeFileHandle? handle, out ProcFailure failure)
            ? new RecordingReader(new FileStream(handle, FileAccess.Read, bufferSize: 1), path)
            : throw new RecordingException(failure.Detail, Agent.ExitCode.NoInput);
    }

    /// <summary>The next line that belongs to a replay; null at the end, or where the rest cannot be read.</summary>
    public RecordingLine? Read()
    {
        while (Problem is null && End is null)
        {
            ReadOnlySpan<byte> text = ReadLine(RecordingWriter.MaxLineBytes);
            if (Problem is not null)
            {
                return null;
            }
            switch (Parse(text))
            {
                case EndLine end:
                    End = end;
                    Lines++;
                    if (HasMore())
                    {
                        Problem = "after its last line there is more, as of a second recording in the same file";
                    }
                    return null;
                case GapLine gap:
                    Lost = gap.Count;
                    Lines++;
                    break;
                case { } line:
                    Lines++;
                    return line;
                default:
                    return null;
            }
        }
        return null;
    }

    /// <summary>What was read last makes no sense to who replays it.</summary>
    public void Reject(string why)
    {
        Lines--;
        Fail($"line {Lines + 1} makes no sense: {why}");
    }

    public void Dispose()
    {
        _gzip.Dispose();
        _file.Dispose();
    }

    private RecordingLine? Parse(ReadOnlySpan<byte> text)
    {
        try
        {
            return JsonSerializer.Deserialize(text, RecordingJson.Default.RecordingLine) ?? throw new JsonException("null");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException or FormatException)
        {
            Fail($"line {Lines + 1} is damaged");
            return null;
        }
    }

    private RecordingHeader ReadHeader()
    {
        string expected = "a recording, as 'kamotel record' writes it, is expected";
        ReadOnlySpan<byte> text = ReadLine(MaxHeaderBytes);
        if (Problem is not null)
        {
            throw new RecordingException($"{_name} is no recording: it does not begin with a whole line in gzip; {expected}", Agent.ExitCode.DataError);
        }
        // The version first: a newer header may look different.
        int version;
        try
        {
            var reader = new Utf8JsonReader(text);
            using JsonDocument document = JsonDocument.ParseValue(ref reader);
            if (document.RootElement.ValueKind != JsonValueKind.Object
                || !document.RootElement.TryGetProperty("format", out JsonElement format) || format.ValueKind != JsonValueKind.String || format.GetString() != RecordingHeader.FormatName
                || !document.RootElement.TryGetProperty("version", out JsonElement number) || number.ValueKind != JsonValueKind.Number || !number.TryGetInt32(out version))
            {
                throw new RecordingException($"{_name} is no recording: its first line does not say \"format\": \"{RecordingHeader.FormatName}\" and a version; {expected}", Agent.ExitCode.DataError);
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new RecordingException($"{_name} is no recording: its first line is no JSON; {expected}", Agent.ExitCode.DataError);
        }
        if (version != RecordingHeader.CurrentVersion)
        {
            throw new RecordingException($"{_name} is a recording of version {version}, and this kamotel ({CommandLine.Build.Version}) reads version {RecordingHeader.CurrentVersion}; replay it with the kamotel that recorded it, or a newer one", Agent.ExitCode.DataError);
        }
        RecordingHeader? header;
        try
        {
            header = JsonSerializer.Deserialize(text, RecordingJson.Default.RecordingHeader);
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException or FormatException)
        {
            header = null;
        }
        if (header is not { BootToWallNs: > -MaxOffsetNs and < MaxOffsetNs } || header.Fleet.ToOptions() is null)
        {
            throw new RecordingException($"{_name}: the header of the recording is damaged; {expected}", Agent.ExitCode.DataError);
        }
        Lines = 1;
        return header;
    }

    /// <summary>The next whole line without its end, good until the next call; <see cref="Problem"/> when there is none.</summary>
    private ReadOnlySpan<byte> ReadLine(int most)
    {
        int searched = 0;
        while (true)
        {
            int length = _buffer.AsSpan(_start + searched, _end - _start - searched).IndexOf((byte)'\n');
            if (length >= 0)
            {
                length += searched;
                ReadOnlySpan<byte> line = _buffer.AsSpan(_start, length);
                _start += length + 1;
                return line;
            }
            searched = _end - _start;
            if (searched >= most)
            {
                Fail($"line {Lines + 1} has more than {most} bytes");
                return default;
            }
            if (_end == _buffer.Length)
            {
                if (_start > 0)
                {
                    _buffer.AsSpan(_start, searched).CopyTo(_buffer);
                    (_start, _end) = (0, searched);
                }
                else
                {
                    Array.Resize(ref _buffer, _buffer.Length * 2);
                }
            }
            int read = Fill();
            if (read == 0)
            {
                Fail(searched > 0 ? "it ends within a line" : "it ends without its last line");
                return default;
            }
            _end += read;
        }
    }

    private bool HasMore()
    {
        if (_start == _end)
        {
            (_start, _end) = (0, 0);
            _end = Fill();
        }
        return _start < _end;
    }

    /// <summary>Reads behind what is there already; 0 at the end.</summary>
    private int Fill()
    {
        try
        {
            return _gzip.Read(_buffer, _end, _buffer.Length - _end);
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            // Cut within a member, or damaged: either way the rest is not there.
            return 0;
        }
    }

    private void Fail(string what) =>
        Problem = $"{what} (byte {_file.Position} of {_file.Length}, after {Math.Max(0, Lines)} whole lines)";
}
