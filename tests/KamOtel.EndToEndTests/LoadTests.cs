namespace KamOtel.EndToEndTests;

/// <summary>The load itself, and what it is for: the hazard is no theory.</summary>
public sealed class LoadTests
{
    [Fact]
    public async Task A_load_keeps_its_bounds_and_its_good_clients_are_answered()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        int root = await server.Start();

        LoadResult counted = await Load.Run(server, [LoadClient.Request], () => false, Until.Patience, count: 5);
        counted.Connections.ShouldBe(new Dictionary<LoadClient, int> { [LoadClient.Request] = 5 }, ignoreOrder: true);
        counted.Answers.ShouldBe(5);
        counted.Stopped.ShouldBeFalse();

        LoadResult timed = await Load.Run(server, [LoadClient.Request], () => false, TimeSpan.FromSeconds(0.5));
        timed.Elapsed.ShouldBeInRange(TimeSpan.FromSeconds(0.4), TimeSpan.FromSeconds(5));
        timed.Stopped.ShouldBeFalse();

        (await Load.Run(server, [LoadClient.Request], () => true, Until.Patience)).Stopped.ShouldBeTrue();
        Proc.Alive(root).ShouldBeTrue();
    }

    [Fact]
    public async Task A_load_of_good_and_bad_connections_kills_a_kamailio_whose_workers_share_openssl_state()
    {
        await using KamailioServer server = await KamailioServer.Prepare("tls", workers: 8);
        int root = await server.Start();

        LoadResult load = await Load.Run(server, Load.Deadly, () => !Proc.Alive(root), TimeSpan.FromSeconds(60));

        load.Stopped.ShouldBeTrue($"it lives\n{load}\n{server.Process}");
        TestContext.Current.TestOutputHelper!.WriteLine(load.ToString());
    }
}
