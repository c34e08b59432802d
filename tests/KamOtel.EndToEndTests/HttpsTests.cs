using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;

namespace KamOtel.EndToEndTests;

/// <summary>HTTPS and passwords, with the tools that an operator has: openssl, htpasswd, curl, Prometheus.</summary>
public sealed class HttpsTests
{
    private const string Password = "open sesame: ☃";

    [Fact]
    public async Task A_real_prometheus_scrapes_over_https_with_a_password_and_over_a_renewal()
    {
        Requirements.Agent();
        using var scratch = new Scratch();
        await MakeCertificates(scratch, "first");
        await MakeUsers(scratch);
        await File.WriteAllTextAsync(scratch["password"], Password, TestContext.Current.CancellationToken);
        int port = Scratch.FreePort();
        var address = new Uri($"https://127.0.0.1:{port}");
        await using RunningProgram agent = RunningProgram.Start(
            Requirements.Binary,
            [
                "replay", Path.Combine(Requirements.Repository, "tests/corpus/tls.kamotel"), "--listen", address.Authority,
                "--tls-certificate", scratch["tls.crt"], "--tls-key", scratch["tls.key"], "--basic-auth", scratch["users"],
            ]);
        await Until.True("the replay to be served", () => agent.Output.Contains("VERDICT", StringComparison.Ordinal), state: agent.ToString);
        await using PrometheusServer prometheus = await PrometheusServer.Start(
            address,
            access:
            $"""
            tls_config:
              ca_file: {scratch["ca.crt"]}
            basic_auth:
              username: prometheus
              password_file: {scratch["password"]}
            """);
        await Until.True(
            "Prometheus to have the verdict", async () => (await prometheus.Query("kamotel_instance_verdict")).Verdict("/etc/kamailio/kamailio.cfg") == "hazard", state: agent.ToString);

        (await Curl(scratch, address, "/healthz")).ShouldBe("200");
        (await Curl(scratch, address, "/metrics")).ShouldBe("401");
        (await Curl(scratch, address, "/metrics", "--user", $"prometheus:{Password}")).ShouldBe("200");
        (await Curl(scratch, address, "/metrics", "--user", "prometheus:open sesame")).ShouldBe("401");

        string before = await Served(port);
        await MakeCertificates(scratch, "second");
        await Until.True("the renewed certificate to be served", async () => await Served(port) != before, state: agent.ToString);
        (await Curl(scratch, address, "/metrics", "--user", $"prometheus:{Password}")).ShouldBe("200");
        (await prometheus.Query("up")).Sum("up").ShouldBe(1);
        Ended ended = await End(agent);
        ended.Errors.ShouldContain("read again, and used from now on: ");
    }

    [Fact]
    public async Task The_example_in_the_operations_guide_is_one_that_prometheus_takes()
    {
        Requirements.Program("promtool");
        using var scratch = new Scratch();
        string guide = await File.ReadAllTextAsync(Path.Combine(Requirements.Repository, "docs/operations.md"), TestContext.Current.CancellationToken);
        int from = guide.IndexOf("```yaml\nscrape_configs:", StringComparison.Ordinal);
        from.ShouldBePositive();
        string example = guide[(from + "```yaml\n".Length)..guide.IndexOf("\n```\n", from, StringComparison.Ordinal)];
        // It looks for the files.
        await File.WriteAllTextAsync(scratch["kamotel-ca.crt"], "", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(scratch["kamotel-password"], "", TestContext.Current.CancellationToken);
        await File.WriteAllTextAsync(scratch["prometheus.yml"], example.Replace("/etc/prometheus", scratch.Folder, StringComparison.Ordinal) + "\n", TestContext.Current.CancellationToken);
        Ended ended = await RunningProgram.Run("promtool", ["check", "config", scratch["prometheus.yml"]]);
        ended.Code.ShouldBe(0, ended.ToString());
    }

    private static async Task MakeCertificates(Scratch scratch, string name)
    {
        if (!File.Exists(scratch["ca.crt"]))
        {
            await OpenSsl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", scratch["ca.key"], "-out", scratch["ca.crt"]);
        }
        // RSA, as most have.
        await OpenSsl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", $"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-CA", scratch["ca.crt"], "-CAkey", scratch["ca.key"], "-keyout", scratch["new.key"], "-out", scratch["new.crt"]);
        File.Move(scratch["new.crt"], scratch["tls.crt"], overwrite: true);
        File.Move(scratch["new.key"], scratch["tls.key"], overwrite: true);
    }

    private static async Task OpenSsl(params string[] arguments)
    {
        Requirements.Program("openssl");
        Ended ended = await RunningProgram.Run("openssl", arguments);
        ended.Code.ShouldBe(0, ended.ToString());
    }

    private static async Task MakeUsers(Scratch scratch)
    {
        Requirements.Program("htpasswd");
        Ended ended = await RunningProgram.Run("htpasswd", ["-nBb", "prometheus", Password]);
        ended.Code.ShouldBe(0, ended.ToString());
        await File.WriteAllTextAsync(scratch["users"], ended.Output, TestContext.Current.CancellationToken);
    }

    /// <summary>The status that curl gets, which trusts the test's CA only.</summary>
    private static async Task<string> Curl(Scratch scratch, Uri address, string path, params string[] options)
    {
        Requirements.Program("curl");
        Ended ended = await RunningProgram.Run("curl", ["--silent", "--show-error", "--cacert", scratch["ca.crt"], "--output", "/dev/null", "--write-out", "%{http_code}", .. options, $"{address}{path[1..]}"]);
        ended.Code.ShouldBe(0, ended.ToString());
        return ended.Output;
    }

    /// <summary>The certificate that a new connection gets.</summary>
    private static async Task<string> Served(int port)
    {
        using var client = new TcpClient();
        await client.ConnectAsync("127.0.0.1", port);
#pragma warning disable CA5359 // Which one it is is asked here, not whether to trust it.
        await using var stream = new SslStream(client.GetStream(), leaveInnerStreamOpen: false, static (_, _, _, _) => true);
#pragma warning restore CA5359
        await stream.AuthenticateAsClientAsync("127.0.0.1");
        using var certificate = new X509Certificate2(stream.RemoteCertificate!);
        return certificate.Thumbprint;
    }

    private static async Task<Ended> End(RunningProgram program)
    {
        program.Send(Signal.Terminate);
        return await program.End();
    }
}
