using System.Security.Cryptography;

namespace KamOtel.Agent;

/// <summary>
/// What some files say together. They are looked at again while they are used, for certificates and passwords are renewed under
/// a running agent. What cannot be used then leaves the old in force, and is complained of once.
/// </summary>
/// <typeparam name="T">What is made of them; immutable.</typeparam>
internal sealed class RereadFiles<T>
    where T : class
{
    private const int MaxBytes = 1 << 20;

    /// <summary>Between two looks.</summary>
    private static readonly TimeSpan Apart = TimeSpan.FromSeconds(1);

    private readonly IReadOnlyList<NamedFile> _files;
    private readonly Func<IReadOnlyList<byte[]>, T> _make;
    private readonly TimeProvider _time;
    private readonly Lock _looking = new();
    private T _current;
    private string _used;
    private string? _doubted;
    private bool _complained;
    private long _lookedAt;

    /// <summary>Reads them.</summary>
    /// <param name="files">Which.</param>
    /// <param name="make">Makes something of their bytes, or throws <see cref="UsageException"/> with what is wrong.</param>
    /// <param name="time">The clock.</param>
    /// <exception cref="IOException">One cannot be read.</exception>
    /// <exception cref="UsageException">One says what it must not.</exception>
    public RereadFiles(IReadOnlyList<NamedFile> files, Func<IReadOnlyList<byte[]>, T> make, TimeProvider time)
    {
        (_files, _make, _time) = (files, make, time);
        byte[][] content = Read();
        _used = Fingerprint(content);
        _current = make(content);
        _lookedAt = time.GetTimestamp();
    }

    /// <summary>Is told why a change is not used.</summary>
    public Action<string>? Complaints { get; set; }

    /// <summary>Is told that a change is used.</summary>
    public Action<string>? Renewals { get; set; }

    /// <summary>What they say now, or said when they could be used last. Any thread; nobody waits for another's look.</summary>
    public T Current
    {
        get
        {
            if (_looking.TryEnter())
            {
                try
                {
                    Look();
                }
                finally
                {
                    _looking.Exit();
                }
            }
            return Volatile.Read(ref _current);
        }
    }

    private void Look()
    {
        if (_time.GetElapsedTime(_lookedAt) < Apart)
        {
            return;
        }
        _lookedAt = _time.GetTimestamp();
        string? seen = null;
        try
        {
            byte[][] content = Read();
            seen = Fingerprint(content);
            if (seen == _used)
            {
                _doubted = null;
            }
            else if (seen != _doubted || !_complained)
            {
                Volatile.Write(ref _current, _make(content));
                (_used, _doubted) = (seen, null);
                Renewals?.Invoke(string.Join(" and ", _files.Select(static f => f.Path).Distinct(StringComparer.Ordinal)));
            }
        }
        catch (Exception e) when (e is IOException or UsageException)
        {
            seen ??= e.Message;
            if (seen != _doubted)
            {
                // A certificate and its key are renewed one after the other: seen once, it may be half of it.
                (_doubted, _complained) = (seen, false);
            }
            else if (!_complained)
            {
                _complained = true;
                Complaints?.Invoke($"{e.Message}; what was there before is still used");
            }
        }
    }

    private byte[][] Read() => [.. _files.Select(static f => f.Read(MaxBytes))];

    private static string Fingerprint(byte[][] content) =>
        string.Concat(content.Select(static bytes => Convert.ToHexStringLower(SHA256.HashData(bytes))));
}
