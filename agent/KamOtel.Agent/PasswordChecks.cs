using System.Net;
using System.Text;

namespace KamOtel.Agent;

/// <summary>What became of a request with a password, or without.</summary>
internal enum PasswordOutcome
{
    /// <summary>It is right.</summary>
    Right,

    /// <summary>There is none, or a wrong one.</summary>
    Wrong,

    /// <summary>It was not looked at: too many are being tried.</summary>
    NotTried,
}

/// <summary>
/// Checks passwords, and does not let guessing cost a server its CPU: one check at a time, after a wrong one nine times its time
/// nothing, and an address that was wrong has to wait, each time twice as long. Who was right before is not concerned.
/// </summary>
internal sealed class PasswordChecks(Func<Passwords> passwords, TimeProvider time) : IDisposable
{
    /// <summary>Addresses whose failures are remembered; beyond them the one that may try again soonest is forgotten.</summary>
    private const int MaxAddresses = 1024;

    private const int MaxWaiting = 16;

    private static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(1);

    /// <summary>Prometheus waits 10 s in all.</summary>
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    private readonly SemaphoreSlim _checking = new(1, 1);
    private readonly Lock _lock = new();
    private readonly Dictionary<IPAddress, (int Failures, long Until)> _failed = [];
    private int _waiting;
    private long _pauseUntil;

    private long _toldAt;
    private int _untold;

    /// <summary>Is told of wrong passwords: how many since it was told last, and the last one's address. Once a minute at most.</summary>
    public Action<int, IPAddress>? Failures { get; set; }

    /// <summary>Checks what the client says.</summary>
    /// <param name="authorization">The header; null for none.</param>
    /// <param name="from">The client.</param>
    /// <param name="cancellation">The client went.</param>
    public async Task<PasswordOutcome> CheckAsync(string? authorization, IPAddress from, CancellationToken cancellation)
    {
        if (Parse(authorization) is not (string name, string password))
        {
            return PasswordOutcome.Wrong;
        }
        if (passwords().IsVerified(name, password))
        {
            return PasswordOutcome.Right;
        }
        IPAddress address = ClientAddress.Of(from);
        if (MustWait(address))
        {
            return PasswordOutcome.NotTried;
        }
        try
        {
            return Interlocked.Increment(ref _waiting) <= MaxWaiting && await _checking.WaitAsync(Patience, cancellation)
                ? await CheckNextAsync(name, password, address, cancellation)
                : PasswordOutcome.NotTried;
        }
        finally
        {
            _ = Interlocked.Decrement(ref _waiting);
        }
    }

    public void Dispose() => _checking.Dispose();

    private async Task<PasswordOutcome> CheckNextAsync(string name, string password, IPAddress address, CancellationToken cancellation)
    {
        try
        {
            // Meanwhile it may have been right for somebody else, or this address wrong.
            Passwords now = passwords();
            if (now.IsVerified(name, password))
            {
                return PasswordOutcome.Right;
            }
            TimeSpan pause = Left(_pauseUntil);
            if (MustWait(address) || pause > Patience)
            {
                return PasswordOutcome.NotTried;
            }
            if (pause > TimeSpan.Zero)
            {
                await Task.Delay(pause, time, cancellation);
            }
            long began = time.GetTimestamp();
            if (now.Verify(name, password))
            {
                Forgive(address);
                return PasswordOutcome.Right;
            }
            _pauseUntil = Later(9 * time.GetElapsedTime(began));
            Blame(address);
            return PasswordOutcome.Wrong;
        }
        finally
        {
            _ = _checking.Release();
        }
    }

    private bool MustWait(IPAddress address)
    {
        lock (_lock)
        {
            return _failed.TryGetValue(address, out (int Failures, long Until) failed) && Left(failed.Until) > TimeSpan.Zero;
        }
    }

    private void Forgive(IPAddress address)
    {
        lock (_lock)
        {
            _ = _failed.Remove(address);
        }
    }

    private void Blame(IPAddress address)
    {
        int? told = null;
        lock (_lock)
        {
            int failures = _failed.GetValueOrDefault(address).Failures + 1;
            if (_failed.Count >= MaxAddresses && !_failed.ContainsKey(address))
            {
                _ = _failed.Remove(_failed.MinBy(static f => f.Value.Until).Key);
            }
            TimeSpan wait = TimeSpan.FromSeconds(Math.Pow(2, Math.Min(failures - 1, 10)));
            _failed[address] = (failures, Later(wait < LongestWait ? wait : LongestWait));
            _untold++;
            if (_toldAt == 0 || time.GetElapsedTime(_toldAt) >= LongestWait)
            {
                (told, _untold, _toldAt) = (_untold, 0, time.GetTimestamp());
            }
        }
        if (told is { } count)
        {
            Failures?.Invoke(count, address);
        }
    }

    private long Later(TimeSpan after) => time.GetTimestamp() + (long)(after.TotalSeconds * time.TimestampFrequency);

    private TimeSpan Left(long until) => TimeSpan.FromSeconds((double)(until - time.GetTimestamp()) / time.TimestampFrequency);

    private static (string Name, string Password)? Parse(string? authorization)
    {
        const string scheme = "Basic ";
        if (authorization?.StartsWith(scheme, StringComparison.OrdinalIgnoreCase) != true)
        {
            return null;
        }
        byte[] bytes = new byte[authorization.Length];
        if (!Convert.TryFromBase64String(authorization[scheme.Length..].Trim(), bytes, out int length))
        {
            return null;
        }
        string text = Encoding.UTF8.GetString(bytes, 0, length);
        int colon = text.IndexOf(':', StringComparison.Ordinal);
        return colon > 0 ? (text[..colon], text[(colon + 1)..]) : null;
    }
}
