using System.Net;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.AspNetCore.Server.Kestrel.Https;

namespace KamOtel.Agent;

/// <summary>How the agent is served, and to whom: HTTPS, client certificates, passwords; all of files that may change.</summary>
internal sealed partial class HttpAccess : IDisposable
{
    /// <summary>Together.</summary>
    private const int MaxConnections = 64;

    /// <summary>Of one address: Prometheus is not kept out by somebody else.</summary>
    private const int MaxOfOne = MaxConnections / 2;

    private static readonly TimeSpan BeginWithin = TimeSpan.FromSeconds(5);

    private readonly RunOptions _options;
    private readonly RereadFiles<ServerCertificate>? _certificate;
    private readonly RereadFiles<Passwords>? _passwords;
    private readonly PasswordChecks? _checks;

    private HttpAccess(RunOptions options, RereadFiles<ServerCertificate>? certificate, RereadFiles<Passwords>? passwords, TimeProvider time)
    {
        (_options, _certificate, _passwords) = (options, certificate, passwords);
        _checks = passwords is null ? null : new PasswordChecks(() => passwords.Current, time);
    }

    /// <summary>HTTPS is served.</summary>
    public bool IsTls => _certificate is not null;

    /// <summary>What it is served with now; null for HTTP.</summary>
    public ServerCertificate? Certificate => _certificate?.Current;

    /// <summary>Reads the files; none where nothing is served.</summary>
    /// <exception cref="IOException">One cannot be read.</exception>
    /// <exception cref="UsageException">One says what it must not, or one is missing beside another.</exception>
    public static HttpAccess Load(RunOptions options, TimeProvider? time = null)
    {
        time ??= TimeProvider.System;
        if (options.Listen is null)
        {
            return new HttpAccess(options, null, null, time);
        }
        if (options.TlsCertificate.Length == 0 && (options.TlsKey.Length > 0 || options.TlsClientCa.Length > 0))
        {
            throw new UsageException($"{(options.TlsKey.Length > 0 ? "--tls-key" : "--tls-client-ca")} is set, and no certificate: set --tls-certificate, too");
        }
        return new HttpAccess(
            options,
            options.TlsCertificate.Length > 0 ? ReadCertificate(options, time) : null,
            options.BasicAuth.Length > 0 ? ReadPasswords(new NamedFile(options.BasicAuth, "--basic-auth"), time) : null,
            time);
    }

    /// <summary>Tells the log what happens to the files, and who guesses.</summary>
    public void LogTo(ILogger logger)
    {
        if (_certificate is not null)
        {
            (_certificate.Complaints, _certificate.Renewals) = (why => NotUsed(logger, why), files => Renewed(logger, files));
        }
        if (_passwords is not null)
        {
            (_passwords.Complaints, _passwords.Renewals) = (why => NotUsed(logger, why), files => Renewed(logger, files));
            _checks!.Failures = (count, address) => Guessed(logger, count, address);
        }
    }

    /// <summary>What may not be as it was meant, and what to do.</summary>
    public IEnumerable<(string Seen, string Remedy)> Warnings()
    {
        if (_options.Listen is not { } listen)
        {
            yield break;
        }
        bool isOpen = !IPAddress.IsLoopback(listen.Address);
        if (isOpen && _passwords is null && _options.TlsClientCa.Length == 0)
        {
            yield return (
                $"{listen} can be reached from elsewhere, and nobody is asked for a password: whoever reaches it reads the servers' names, versions, modules, processes and verdicts, and where they crashed",
                "set --basic-auth and --tls-certificate, or let a firewall or a NetworkPolicy say who reaches it");
        }
        if (isOpen && _passwords is not null && _certificate is null)
        {
            yield return ($"{listen} can be reached from elsewhere, and passwords come to it in clear text", "set --tls-certificate");
        }
        if (Certificate is { } certificate && DateTime.UtcNow is var now && (now < certificate.NotBefore || now > certificate.NotAfter))
        {
            yield return ($"{_options.TlsCertificate} (--tls-certificate) is valid from {certificate.NotBefore:u} to {certificate.NotAfter:u} only: clients refuse it", "renew it; the agent sees it by itself");
        }
        NamedFile?[] secret = [_certificate is null ? null : Key(_options), _passwords is null ? null : new NamedFile(_options.BasicAuth, "--basic-auth")];
        foreach (NamedFile file in secret.OfType<NamedFile>().Where(static f => f.IsExposed()))
        {
            yield return ($"every user of this machine can read {file}", $"chmod o-r {file.Path}; in Kubernetes set the volume's defaultMode");
        }
    }

    /// <summary>Sets the server up.</summary>
    public void Configure(KestrelServerOptions kestrel)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestBodySize = 0;
        kestrel.Limits.MaxConcurrentConnections = MaxConnections;
        kestrel.Limits.RequestHeadersTimeout = BeginWithin;
        if (_options.Listen is not { } address)
        {
            return;
        }
        kestrel.Listen(address, listen =>
        {
            listen.Protocols = HttpProtocols.Http1;
            listen.Use(new ConnectionLimit(MaxOfOne).Before);
            if (_certificate is not null)
            {
                listen.UseHttps(new TlsHandshakeCallbackOptions
                {
                    HandshakeTimeout = BeginWithin,
                    OnConnection = _ => ValueTask.FromResult(_certificate.Current.ForConnection()),
                });
            }
        });
    }

    /// <summary>May this client be answered? Null when it may, else the status and why.</summary>
    public async Task<(int Status, string Why)?> RefusalAsync(HttpContext context)
    {
        if (_options.TlsClientCa.Length > 0 && context.Connection.ClientCertificate is null)
        {
            return (StatusCodes.Status403Forbidden, "a client's certificate is asked for, and there was none");
        }
        if (_checks is null)
        {
            return null;
        }
        PasswordOutcome outcome = await _checks.CheckAsync(context.Request.Headers.Authorization, context.Connection.RemoteIpAddress ?? IPAddress.None, context.RequestAborted);
        if (outcome == PasswordOutcome.Right)
        {
            return null;
        }
        if (outcome == PasswordOutcome.NotTried)
        {
            context.Response.Headers.RetryAfter = "60";
            return (StatusCodes.Status429TooManyRequests, "too many wrong passwords: try again in a minute");
        }
        context.Response.Headers.WWWAuthenticate = "Basic realm=\"kamotel\", charset=\"UTF-8\"";
        return (StatusCodes.Status401Unauthorized, "a name and its password are asked for");
    }

    public void Dispose() => _checks?.Dispose();

    private static NamedFile Key(RunOptions options) =>
        options.TlsKey.Length > 0 ? new NamedFile(options.TlsKey, "--tls-key") : new NamedFile(options.TlsCertificate, "--tls-certificate");

    private static RereadFiles<ServerCertificate> ReadCertificate(RunOptions options, TimeProvider time)
    {
        var certificate = new NamedFile(options.TlsCertificate, "--tls-certificate");
        NamedFile key = Key(options);
        NamedFile? ca = options.TlsClientCa.Length > 0 ? new NamedFile(options.TlsClientCa, "--tls-client-ca") : null;
        return new RereadFiles<ServerCertificate>(
            ca is null ? [certificate, key] : [certificate, key, ca],
            content => ServerCertificate.Of((certificate, content[0]), (key, content[1]), ca is null ? null : (ca, content[2])),
            time);
    }

    private static RereadFiles<Passwords> ReadPasswords(NamedFile file, TimeProvider time) =>
        new([file], content => Passwords.Of(file, content[0]), time);

    [LoggerMessage(Level = LogLevel.Information, Message = "read again, and used from now on: {Files}")]
    private static partial void Renewed(ILogger logger, string files);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Why}")]
    private static partial void NotUsed(ILogger logger, string why);

    [LoggerMessage(Level = LogLevel.Warning, Message = "wrong passwords: {Count}, the last from {Address}")]
    private static partial void Guessed(ILogger logger, int count, IPAddress address);
}
