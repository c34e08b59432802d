namespace KamOtel.EndToEndTests;

/// <summary><c>demo/server</c>, which these tests stand on.</summary>
public sealed class DemoServerTests
{
    [Fact]
    public async Task Kamailio_starts_without_a_child_that_is_none_of_its_own()
    {
        // It would take that child's end for a worker's, and shut down.
        await using KamailioServer server = await KamailioServer.Prepare("none");
        for (int start = 0; start < 5; start++)
        {
            int root = await server.Start();
            Proc.Zombies(root).ShouldBeEmpty();
            server.Process!.Errors.ShouldNotContain("exited normally");
            _ = await server.Stop();
            await server.Process.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_server_without_tls_says_that_it_has_none()
    {
        await using KamailioServer server = await KamailioServer.Prepare("none");
        int root = await server.Start();

        Ended ended = await RunningProgram.Run(Path.Combine(Requirements.Repository, "demo", "server"), ["handshake", server.Folder]);

        ended.Code.ShouldBe(1, ended.ToString());
        ended.Errors.ShouldStartWith("demo/server: ");
        ended.Errors.ShouldContain("no TLS");
        File.ReadAllText($"/proc/{root}/maps").ShouldNotContain("libcrypto");
    }

    [Theory]
    [InlineData("db_postgres", false)]
    [InlineData("db_postgres_tls", true)]
    [InlineData("db_unixodbc_postgres", true)]
    public async Task The_connection_to_the_database_is_tls_where_it_is_said_to_be(string kind, bool tls)
    {
        await using KamailioServer server = await KamailioServer.Prepare(kind);
        string log = Path.Combine(server.Folder, "database.log");
        int before = File.ReadAllLines(log).Length;
        _ = await server.Start();

        // PostgreSQL says it of each connection.
        string[] connections =
        [
            .. File.ReadAllLines(log)[before..].Where(static line => line.Contains("connection authorized: user=kamailio", StringComparison.Ordinal)),
        ];
        connections.ShouldNotBeEmpty();
        connections.ShouldAllBe(connection => connection.Contains(" SSL enabled (protocol=TLSv1.", StringComparison.Ordinal) == tls);
    }

    [Fact]
    public async Task Where_kamailio_does_not_come_up_it_is_said_what_its_processes_are_at()
    {
        await using KamailioServer server = await KamailioServer.Prepare("none");
        int root = await server.Start();
        server.ToString().ShouldContain($"{root}: state ");
        Proc.Children(root).ShouldAllBe(child => server.ToString().Contains($"{child}: state ", StringComparison.Ordinal));

        await File.AppendAllTextAsync(server.Configuration, "nonsense\n", TestContext.Current.CancellationToken);
        _ = await server.Stop();
        await server.Process!.DisposeAsync();
        Exception failed = await Assert.ThrowsAsync<ShouldAssertException>(server.Start);
        failed.Message.ShouldContain("Kamailio ended before it answered");
        failed.Message.ShouldContain("parse error");
    }
}
