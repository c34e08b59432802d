using System.Net;
using System.Net.Http.Headers;
using System.Runtime.Versioning;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

/// <summary>HTTPS, client certificates and passwords, by the real host.</summary>
[Collection("meters")]
[SupportedOSPlatform("linux")]
public sealed class HttpAccessTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kamotel-test.").FullName;
    private readonly Pem _ca = new("ca", isCa: true);
    private readonly Pem _server;

    public HttpAccessTests()
    {
        _server = new Pem("server", by: _ca);
        Write("tls.crt", _server.Text);
        Write("tls.key", _server.Key, "600");
        Write("ca.crt", _ca.Text);
        Write("users", $"prometheus:{BCrypt.Net.BCrypt.HashPassword("right", 4)}\n", "600");
    }

    public void Dispose()
    {
        _server.Dispose();
        _ca.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    [Fact]
    public async Task Https_is_served_with_what_lies_between_the_certificate_and_its_ca_and_http_is_not()
    {
        using var between = new Pem("between", by: _ca, isCa: true);
        using var server = new Pem("server", by: between);
        Write("tls.crt", server.Text + between.Text);
        Write("tls.key", server.Key, "600");
        await using ServedAgent agent = await ServedAgent.Start(Tls);
        agent.Address.Scheme.ShouldBe("https");
        using HttpClient client = Client(agent);
        (await Status(client, "/metrics")).ShouldBe(HttpStatusCode.OK);
        (await client.GetStringAsync(new Uri("/", UriKind.Relative), TestContext.Current.CancellationToken)).ShouldContain("<html");
        (await agent.Say("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).ShouldBeEmpty();
    }

    [Fact]
    public async Task Certificate_and_key_may_be_in_one_file()
    {
        Write("both.pem", _server.Key + _server.Text, "600");
        await using ServedAgent agent = await ServedAgent.Start(o => o.TlsCertificate = File("both.pem"));
        using HttpClient client = Client(agent);
        (await Status(client, "/healthz")).ShouldBe(HttpStatusCode.OK);
    }

    [Fact]
    public void A_renewed_certificate_is_used_and_a_bad_one_is_not()
    {
        var time = new ManualTime();
        var options = new RunOptions();
        Tls(options);
        using var access = HttpAccess.Load(options, time);
        using var renewed = new Pem("server", by: _ca, until: DateTimeOffset.UtcNow.AddDays(3));
        string Served()
        {
            time.Advance(TimeSpan.FromSeconds(1));
            return access.Certificate!.Thumbprint;
        }
        Served().ShouldBe(_server.Certificate.Thumbprint);
        // A key that is not its own: as it is between two steps of a renewal.
        Write("tls.crt", renewed.Text);
        Served().ShouldBe(_server.Certificate.Thumbprint);
        Write("tls.key", renewed.Key, "600");
        Served().ShouldBe(renewed.Certificate.Thumbprint);
        Write("tls.crt", "nonsense");
        Served().ShouldBe(renewed.Certificate.Thumbprint);
    }

    [Fact]
    public async Task With_a_clients_ca_only_its_clients_are_served_and_probes()
    {
        using var known = new Pem("prometheus", by: _ca);
        using var foreign = new Pem("prometheus");
        await using ServedAgent agent = await ServedAgent.Start(o =>
        {
            Tls(o);
            o.TlsClientCa = File("ca.crt");
        });
        using (HttpClient client = Client(agent, known))
        {
            (await Status(client, "/metrics")).ShouldBe(HttpStatusCode.OK);
        }
        using (HttpClient client = Client(agent))
        {
            (await Status(client, "/metrics")).ShouldBe(HttpStatusCode.Forbidden);
            (await Status(client, "/")).ShouldBe(HttpStatusCode.Forbidden);
            (await Status(client, "/healthz")).ShouldBe(HttpStatusCode.OK);
            (await Status(client, "/readyz")).ShouldBe(HttpStatusCode.OK);
        }
        using (HttpClient client = Client(agent, foreign))
        {
            _ = await Should.ThrowAsync<HttpRequestException>(() => Status(client, "/healthz"));
        }
    }

    [Theory]
    [InlineData("/metrics")]
    [InlineData("/")]
    [InlineData("/page/page.js")]
    [InlineData("/docs/")]
    [InlineData("/docs/runbooks/hazard.md")]
    [InlineData("/api/fleet")]
    [InlineData("/api/events")]
    [InlineData("/api/instances/1-2")]
    [InlineData("/nothing")]
    [InlineData("/healthz/")]
    [InlineData("/HEALTHZ")]
    [InlineData("/healthz/../metrics")]
    [InlineData("//metrics")]
    public async Task A_password_is_asked_for_everywhere_but_at_the_probes(string path)
    {
        await using ServedAgent agent = await ServedAgent.Start(o => o.BasicAuth = File("users"));
        string request = $"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        string refused = await agent.Say(request + "\r\n");
        if (!path.StartsWith("/healthz", StringComparison.OrdinalIgnoreCase) || path.EndsWith("metrics", StringComparison.Ordinal))
        {
            refused.ShouldStartWith("HTTP/1.1 401 ");
            refused.ShouldContain("WWW-Authenticate: Basic realm=\"kamotel\"");
        }
        refused.ShouldNotContain("kamotel_");
        using HttpClient client = Client(agent);
        (await Status(client, "/healthz")).ShouldBe(HttpStatusCode.OK);
        (await Status(client, "/readyz")).ShouldBe(HttpStatusCode.OK);
        client.DefaultRequestHeaders.Authorization = new AuthenticationHeaderValue("Basic", Convert.ToBase64String("prometheus:right"u8));
        (await Status(client, "/metrics")).ShouldBe(HttpStatusCode.OK);
    }

    [Fact]
    public async Task The_error_says_which_file_and_what_to_do()
    {
        using var other = new Pem("other");
        Write("other.key", other.Key);
        Write("encrypted.key", other.EncryptedKey);
        Write("broken.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        await Refused<UsageException>(static (o, _) => o.TlsKey = "tls.key", "--tls-key is set, and no certificate: set --tls-certificate, too");
        await Refused<UsageException>(static (o, _) => o.TlsClientCa = "ca.crt", "--tls-client-ca is set, and no certificate");
        await Refused<IOException>(static (o, f) => o.TlsCertificate = f("missing.crt"), "missing.crt (--tls-certificate) is not there: make it");
        await Refused<UsageException>(static (o, f) => o.TlsCertificate = f("tls.crt"), "tls.crt (--tls-certificate) has no key in PEM form");
        await Refused<UsageException>(static (o, f) => (o.TlsCertificate, o.TlsKey) = (f("tls.key"), f("tls.key")), "tls.key (--tls-certificate) has no certificate in PEM form");
        await Refused<UsageException>(static (o, f) => (o.TlsCertificate, o.TlsKey) = (f("broken.crt"), f("tls.key")), "broken.crt (--tls-certificate) has a certificate that cannot be read");
        await Refused<UsageException>(static (o, f) => (o.TlsCertificate, o.TlsKey) = (f("tls.crt"), f("other.key")), "other.key (--tls-key) is not the key of the first certificate in ");
        await Refused<UsageException>(static (o, f) => (o.TlsCertificate, o.TlsKey) = (f("tls.crt"), f("encrypted.key")), "encrypted.key (--tls-key) is a key with a passphrase");
        await Refused<UsageException>(static (o, f) => (o.TlsCertificate, o.TlsKey, o.TlsClientCa) = (f("tls.crt"), f("tls.key"), f("users")), "users (--tls-client-ca) has no certificate");
        await Refused<IOException>(static (o, f) => o.BasicAuth = f("missing"), "missing (--basic-auth) is not there");
        await Refused<UsageException>(static (o, f) => o.BasicAuth = f("tls.key"), "tls.key (--basic-auth), line 1: NAME:HASH is expected");

        async Task Refused<T>(Action<RunOptions, Func<string, string>> set, string why)
            where T : Exception =>
            (await Should.ThrowAsync<T>(() => ServedAgent.Start(o => set(o, File)))).Message.ShouldContain(why);
    }

    [Theory]
    [InlineData("127.0.0.1:0", false, false, null)]
    [InlineData("[::1]:0", true, false, null)]
    [InlineData("0.0.0.0:0", false, false, "nobody is asked for a password: whoever reaches it reads")]
    [InlineData("0.0.0.0:0", false, true, "nobody is asked for a password")]
    [InlineData("192.0.2.1:9464", true, false, "passwords come to it in clear text; set --tls-certificate")]
    [InlineData("[::]:9464", true, true, null)]
    public void An_open_address_is_warned_of(string listen, bool password, bool tls, string? warned)
    {
        var options = new RunOptions { Listen = IPEndPoint.Parse(listen), BasicAuth = password ? File("users") : "" };
        if (tls)
        {
            Tls(options);
        }
        using var access = HttpAccess.Load(options);
        string[] warnings = [.. access.Warnings().Select(static w => $"{w.Seen}; {w.Remedy}")];
        if (warned is null)
        {
            warnings.ShouldBeEmpty();
        }
        else
        {
            warnings.ShouldHaveSingleItem().ShouldContain(warned);
        }
    }

    [Fact]
    public void What_clients_will_refuse_and_what_everybody_can_read_is_warned_of()
    {
        using var old = new Pem("server", until: DateTimeOffset.UtcNow.AddDays(-1));
        Write("tls.crt", old.Text);
        Write("tls.key", old.Key, "644");
        var options = new RunOptions();
        Tls(options);
        using var access = HttpAccess.Load(options);
        string[] warnings = [.. access.Warnings().Select(static w => $"{w.Seen}; {w.Remedy}")];
        warnings.Length.ShouldBe(2);
        warnings[0].ShouldContain("clients refuse it; renew it");
        warnings[1].ShouldContain("tls.key (--tls-key); chmod o-r ");
    }

    [Fact]
    public async Task The_doctor_knows_an_agent_behind_https_and_says_what_stops_one()
    {
        await using ServedAgent agent = await ServedAgent.Start(Tls);
        var options = new RunOptions { Listen = IPEndPoint.Parse(agent.Address.Authority) };
        var doctor = new DoctorNetwork(options, static _ => null, new(0, IsRoot: false));
        (await doctor.Listen()).Seen.ShouldEndWith("is served by an agent that runs");
        doctor.Access().ShouldHaveSingleItem().Seen.ShouldBe("HTTP; no password is asked for");
        options.BasicAuth = File("missing");
        Finding failed = doctor.Access().ShouldHaveSingleItem();
        failed.Status.ShouldBe(FindingStatus.Failed);
        failed.Breaks.ShouldBe([DoctorFeature.Watching, DoctorFeature.Metrics]);
    }

    private void Tls(RunOptions options) => (options.TlsCertificate, options.TlsKey) = (File("tls.crt"), File("tls.key"));

    private string File(string name) => Path.Combine(_folder, name);

    private void Write(string name, string text, string mode = "644")
    {
        System.IO.File.WriteAllText(File(name), text);
        System.IO.File.SetUnixFileMode(File(name), (UnixFileMode)Convert.ToInt32(mode, 8));
    }

    /// <summary>Trusts the test's CA and nobody else.</summary>
    private HttpClient Client(ServedAgent agent, Pem? own = null)
    {
        var handler = new SocketsHttpHandler
        {
            SslOptions =
            {
                CertificateChainPolicy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck },
            },
        };
        handler.SslOptions.CertificateChainPolicy.CustomTrustStore.Add(_ca.Certificate);
        if (own is not null)
        {
            handler.SslOptions.ClientCertificates = [own.Certificate];
            handler.SslOptions.LocalCertificateSelectionCallback = (_, _, _, _, _) => own.Certificate;
        }
        return new HttpClient(handler) { BaseAddress = agent.Address };
    }

    private static async Task<HttpStatusCode> Status(HttpClient client, string path)
    {
        using HttpResponseMessage response = await client.GetAsync(new Uri(path, UriKind.Relative), HttpCompletionOption.ResponseHeadersRead, TestContext.Current.CancellationToken);
        return response.StatusCode;
    }
}
