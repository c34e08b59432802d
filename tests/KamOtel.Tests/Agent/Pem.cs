using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;

namespace KamOtel.Tests.Agent;

/// <summary>A certificate with its key, made for a test.</summary>
internal sealed class Pem : IDisposable
{
    private readonly ECDsa _key = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    /// <summary>Signed by another, or by itself.</summary>
    public Pem(string name, Pem? by = null, bool isCa = false, DateTimeOffset? until = null)
    {
        var request = new CertificateRequest($"CN={name}", _key, HashAlgorithmName.SHA256);
        request.CertificateExtensions.Add(new X509BasicConstraintsExtension(isCa, false, 0, true));
        var names = new SubjectAlternativeNameBuilder();
        names.AddIpAddress(System.Net.IPAddress.Loopback);
        request.CertificateExtensions.Add(names.Build());
        DateTimeOffset from = DateTimeOffset.UtcNow.AddDays(-2);
        // Its issuer is a moment older, and may not end before it.
        DateTimeOffset to = until ?? DateTimeOffset.UtcNow.AddDays(isCa ? 31 : 30);
        using X509Certificate2? signed = by is null ? null : request.Create(by.Certificate, from, to, RandomNumberGenerator.GetBytes(8));
        Certificate = signed?.CopyWithPrivateKey(_key) ?? request.CreateSelfSigned(from, to);
    }

    public X509Certificate2 Certificate { get; }

    public string Text => Certificate.ExportCertificatePem() + "\n";

    public string Key => _key.ExportPkcs8PrivateKeyPem() + "\n";

    public string EncryptedKey => _key.ExportEncryptedPkcs8PrivateKeyPem("secret", new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 1000));

    public void Dispose()
    {
        Certificate.Dispose();
        _key.Dispose();
    }
}
