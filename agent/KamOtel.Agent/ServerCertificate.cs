using System.Net.Security;
using System.Security.Authentication;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;

namespace KamOtel.Agent;

/// <summary>What HTTPS is served with. Immutable.</summary>
internal sealed class ServerCertificate
{
    private readonly SslStreamCertificateContext _context;
    private readonly X509Certificate2Collection? _clientCas;

    private ServerCertificate(X509Certificate2 own, X509Certificate2Collection others, X509Certificate2Collection? clientCas)
    {
        // Offline: nothing is asked of the CA on the way.
        _context = SslStreamCertificateContext.Create(own, others, offline: true);
        _clientCas = clientCas;
        Thumbprint = own.Thumbprint;
        NotBefore = own.NotBefore.ToUniversalTime();
        NotAfter = own.NotAfter.ToUniversalTime();
    }

    /// <summary>Which one it is.</summary>
    public string Thumbprint { get; }

    /// <summary>From when it is valid, UTC.</summary>
    public DateTime NotBefore { get; }

    /// <summary>Until when it is valid, UTC.</summary>
    public DateTime NotAfter { get; }

    /// <summary>How a connection begins.</summary>
    public SslServerAuthenticationOptions ForConnection()
    {
        var options = new SslServerAuthenticationOptions
        {
            ServerCertificateContext = _context,
            EnabledSslProtocols = SslProtocols.Tls12 | SslProtocols.Tls13,
            AllowRenegotiation = false,
        };
        if (_clientCas is not null)
        {
            options.ClientCertificateRequired = true;
            options.CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
            options.CertificateChainPolicy.CustomTrustStore.AddRange(_clientCas);
            // One without a certificate gets in, and only as far as /healthz and /readyz: a probe has none.
            options.RemoteCertificateValidationCallback = static (_, client, _, errors) => client is null || errors == SslPolicyErrors.None;
        }
        return options;
    }

    /// <summary>Makes it of PEM files.</summary>
    /// <param name="certificate">The certificate, and those between it and the CA.</param>
    /// <param name="key">Its key.</param>
    /// <param name="clientCa">The CA of the clients; null where they need no certificate.</param>
    /// <exception cref="UsageException">A file has not what it should have.</exception>
    public static ServerCertificate Of((NamedFile File, byte[] Pem) certificate, (NamedFile File, byte[] Pem) key, (NamedFile File, byte[] Pem)? clientCa)
    {
        X509Certificate2Collection others = Certificates(certificate.File, certificate.Pem);
        others.RemoveAt(0);
        return new ServerCertificate(WithKey(certificate, key), others, clientCa is { } ca ? Certificates(ca.File, ca.Pem) : null);
    }

    private static X509Certificate2Collection Certificates(NamedFile file, byte[] pem)
    {
        var certificates = new X509Certificate2Collection();
        try
        {
            certificates.ImportFromPem(Encoding.Latin1.GetString(pem));
        }
        catch (CryptographicException e)
        {
            throw new UsageException($"{file} has a certificate that cannot be read: {e.Message}");
        }
        return certificates.Count > 0 ? certificates : throw new UsageException($"{file} has no certificate in PEM form (-----BEGIN CERTIFICATE-----); 'openssl x509 -in FILE' writes it");
    }

    private static X509Certificate2 WithKey((NamedFile File, byte[] Pem) certificate, (NamedFile File, byte[] Pem) key)
    {
        string text = Encoding.Latin1.GetString(key.Pem);
        if (text.Contains("ENCRYPTED", StringComparison.Ordinal))
        {
            throw new UsageException($"{key.File} is a key with a passphrase, and nobody is there to type it; 'openssl pkey -in FILE' writes it without");
        }
        if (!text.Contains("PRIVATE KEY-----", StringComparison.Ordinal))
        {
            throw new UsageException($"{key.File} has no key in PEM form (-----BEGIN PRIVATE KEY-----)");
        }
        try
        {
            return X509Certificate2.CreateFromPem(Encoding.Latin1.GetString(certificate.Pem), text);
        }
        catch (Exception e) when (e is CryptographicException or ArgumentException)
        {
            throw new UsageException($"{key.File} is not the key of the first certificate in {certificate.File}: {e.Message}");
        }
    }
}
