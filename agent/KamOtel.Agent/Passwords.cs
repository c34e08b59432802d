using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace KamOtel.Agent;

/// <summary>Who may ask, and the hash of each one's password: what <c>htpasswd -B</c> writes. Any thread.</summary>
internal sealed partial class Passwords
{
    /// <summary>A check takes about 1 s at this cost, and twice as long at each more.</summary>
    private const int MaxCost = 14;

    private const int MaxNames = 1000;

    /// <summary>Of this process only: what is kept of a password is of no use elsewhere.</summary>
    private static readonly byte[] Secret = RandomNumberGenerator.GetBytes(32);

    private readonly FrozenDictionary<string, string> _hashes;
    private readonly ConcurrentDictionary<string, byte[]> _verified = new(StringComparer.Ordinal);

    private Passwords(Dictionary<string, string> hashes) => _hashes = hashes.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Reads the file: a line NAME:HASH each, and comments.</summary>
    /// <exception cref="UsageException">A line is not of this form; the message says which and what helps.</exception>
    public static Passwords Of(NamedFile file, byte[] text)
    {
        var hashes = new Dictionary<string, string>(StringComparer.Ordinal);
        int number = 0;
        foreach (string line in Encoding.UTF8.GetString(text).Split('\n').Select(static l => l.TrimEnd('\r')))
        {
            number++;
            if (string.IsNullOrWhiteSpace(line) || line[0] == '#')
            {
                continue;
            }
            // The line may have a password in clear text: it is named by its number.
            string where = $"{file}, line {number.ToString(CultureInfo.InvariantCulture)}";
            int colon = line.IndexOf(':', StringComparison.Ordinal);
            if (colon <= 0 || Bcrypt().Match(line, colon + 1) is not { Success: true } hash)
            {
                throw new UsageException($"{where}: NAME:HASH is expected, with a hash by bcrypt ($2y$…); 'htpasswd -nB NAME' writes such a line");
            }
            if (int.Parse(hash.Groups["cost"].ValueSpan, CultureInfo.InvariantCulture) is var cost && cost is < 4 or > MaxCost)
            {
                throw new UsageException($"{where}: a hash of cost {cost} is not taken, 4 to {MaxCost} are: each check would take too long; 'htpasswd -nB -C 10 NAME' writes one");
            }
            if (!hashes.TryAdd(line[..colon], hash.Value))
            {
                throw new UsageException($"{where}: the name is there already: remove one of the lines");
            }
        }
        return hashes.Count is > 0 and <= MaxNames ? new Passwords(hashes)
            : throw new UsageException($"{file} has {hashes.Count} names, and 1 to {MaxNames} are expected: 'htpasswd -nB NAME' writes a line for it");
    }

    /// <summary>They were verified before, and are still in force. Costs next to nothing.</summary>
    public bool IsVerified(string name, string password) =>
        _verified.TryGetValue(name, out byte[]? digest) && CryptographicOperations.FixedTimeEquals(digest, Digest(name, password));

    /// <summary>Checks the password, which is meant to take long: as long for a name that there is not.</summary>
    public bool Verify(string name, string password)
    {
        bool known = _hashes.TryGetValue(name, out string? hash);
        bool matches = Matches(password, hash ?? _hashes.Values[0]);
        if (!known || !matches)
        {
            return false;
        }
        _verified[name] = Digest(name, password);
        return true;
    }

    private static bool Matches(string password, string hash)
    {
        try
        {
            return BCrypt.Net.BCrypt.Verify(password, hash);
        }
        catch (Exception e) when (e is ArgumentException or BCrypt.Net.SaltParseException)
        {
            return false;
        }
    }

    private static byte[] Digest(string name, string password) => HMACSHA256.HashData(Secret, Encoding.UTF8.GetBytes($"{name}:{password}"));

    [GeneratedRegex(@"\G\$2[aby]\$(?<cost>[0-9]{2})\$[./A-Za-z0-9]{53}$", RegexOptions.CultureInvariant)]
    private static partial Regex Bcrypt();
}
