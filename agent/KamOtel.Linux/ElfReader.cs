using System.Diagnostics.CodeAnalysis;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>Reads stretches of a file, each one checked against the file's length first.</summary>
internal sealed class ElfReader
{
    private readonly SafeFileHandle _file;

    private ElfReader(SafeFileHandle file, ulong length) => (_file, Length) = (file, length);

    /// <summary>The file's length when it was opened, in bytes.</summary>
    public ulong Length { get; }

    /// <summary>Bytes asked for so far: what a file can make us do.</summary>
    public ulong BytesRead { get; private set; }

    public static bool TryCreate(SafeFileHandle file, [NotNullWhen(true)] out ElfReader? reader, [NotNullWhen(false)] out ElfError? error)
    {
        reader = null;
        try
        {
            reader = new ElfReader(file, (ulong)RandomAccess.GetLength(file));
            error = null;
            return true;
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            error = new(ElfErrorKind.Unreadable, 0, $"the file cannot be read: {failure.Message}");
            return false;
        }
    }

    /// <summary>An error when <c>offset .. offset + size</c> is not inside the file.</summary>
    public ElfError? Check(ulong offset, ulong size, string what)
    {
        if (offset > ulong.MaxValue - size)
        {
            return new(ElfErrorKind.Malformed, offset, $"{what} ends beyond the largest offset there is ({size} bytes)");
        }

        return offset + size > Length
            ? new(ElfErrorKind.Truncated, offset, $"the file ends at {Length} bytes, before the end of {what} ({size} bytes)")
            : null;
    }

    /// <summary>Fills <paramref name="buffer"/> from <paramref name="offset"/>, or tells why it cannot.</summary>
    public ElfError? Read(ulong offset, Span<byte> buffer, string what)
    {
        if (Check(offset, (ulong)buffer.Length, what) is { } outside)
        {
            return outside;
        }

        BytesRead += (ulong)buffer.Length;
        try
        {
            for (long at = (long)offset; !buffer.IsEmpty;)
            {
                BoundedCall.Progress();
                int count = RandomAccess.Read(_file, buffer, at);
                if (count == 0)
                {
                    return new(ElfErrorKind.Truncated, (ulong)at, $"the file was cut while {what} was read");
                }

                buffer = buffer[count..];
                at += count;
            }
        }
        catch (Exception failure) when (failure is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            return new(ElfErrorKind.Unreadable, offset, $"{what} cannot be read: {failure.Message}");
        }

        return null;
    }
}

/// <summary>A run of entries of one size, read a buffer at a time.</summary>
internal ref struct ElfTable
{
    /// <summary>A good size for the buffer: one that a stack bears.</summary>
    public const int BufferSize = 16 * 1024;

    private readonly ElfReader _reader;
    private readonly Span<byte> _buffer;
    private readonly int _entrySize;
    private readonly string _what;
    private ulong _next;
    private ulong _left;
    private Span<byte> _loaded;
    private int _at;

    public ElfTable(ElfReader reader, ulong offset, ulong count, int entrySize, Span<byte> buffer, string what)
    {
        _reader = reader;
        _buffer = buffer[..(buffer.Length / entrySize * entrySize)];
        _entrySize = entrySize;
        _what = what;
        _next = offset;
        _left = count;
    }

    /// <summary>Why <see cref="MoveNext"/> stopped early.</summary>
    public ElfError? Error { get; private set; }

    /// <summary>The entry. Valid until the next <see cref="MoveNext"/>.</summary>
    public readonly ReadOnlySpan<byte> Current => _loaded.Slice(_at, _entrySize);

    /// <summary>Where the entry is in the file.</summary>
    public readonly ulong CurrentOffset => _next - (ulong)(_loaded.Length - _at);

    public bool MoveNext()
    {
        _at += _entrySize;
        if (_at < _loaded.Length)
        {
            return true;
        }

        if (_left == 0 || Error is not null)
        {
            return false;
        }

        ulong count = Math.Min(_left, (ulong)(_buffer.Length / _entrySize));
        _loaded = _buffer[..(int)(count * (ulong)_entrySize)];
        _at = 0;
        Error = _reader.Read(_next, _loaded, _what);
        _next += (ulong)_loaded.Length;
        _left -= count;
        return Error is null;
    }
}
