using System.Diagnostics;

namespace KamOtel.EndToEndTests;

/// <summary>An agent that is killed and started at any moment of a server's life finds the truth.</summary>
public sealed class RestartTests
{
    private const int Lives = 10;
    private const int StartsALife = 10;

    [Fact]
    public async Task However_often_the_agent_is_killed_the_one_that_remains_is_right()
    {
        int seed = Environment.TickCount;
        TestContext.Current.TestOutputHelper!.WriteLine($"seed {seed}");
        var random = new Random(seed);
        await using KamailioServer hazard = await KamailioServer.Prepare("tls");
        await using KamailioServer safe = await KamailioServer.Prepare("none");
        for (int life = 0; life < Lives; life++)
        {
            (KamailioServer server, string verdict) = life % 2 == 0 ? (hazard, "hazard") : (safe, "safe");
            await LiveOneLife(server, verdict, random, $"life {life} with the seed {seed}");
        }
    }

    // The server starts at some moment among the agent's starts, so that some of these see nothing of its start, some all
    // and some a part.
    private static async Task LiveOneLife(KamailioServer server, string verdict, Random random, string which)
    {
        var clock = Stopwatch.StartNew();
        // A start and a kill take half a second or less; where the moment comes after all of them, it is that of the last start.
        TimeSpan moment = TimeSpan.FromMilliseconds(random.Next(StartsALife * 500));
        bool started = false;
        async Task Pass(TimeSpan time)
        {
            TimeSpan end = clock.Elapsed + time;
            if (!started && moment <= end)
            {
                await Task.Delay(moment > clock.Elapsed ? moment - clock.Elapsed : TimeSpan.Zero);
                _ = server.Exec();
                started = true;
            }
            await Task.Delay(end > clock.Elapsed ? end - clock.Elapsed : TimeSpan.Zero);
        }

        for (int start = 1; start < StartsALife; start++)
        {
            await using RunningProgram killed = AgentProcess.Launch(Scratch.FreePort());
            // It is ready after a tenth of a second or so: some die before, some after.
            await Pass(TimeSpan.FromMilliseconds(random.Next(250)));
            killed.Alive.ShouldBeTrue($"{which}: the agent ended by itself\n{killed}");
            killed.Send(Signal.Kill);
            _ = await killed.End();
        }
        await Pass(TimeSpan.Zero);
        if (!started)
        {
            _ = server.Exec();
        }
        await using AgentProcess last = await AgentProcess.Start(options: ["--settle", "0.3"]);
        await server.WaitUntilUp();
        // All processes were looked at: this is its last word.
        int processes = 1 + Proc.Descendants(server.Process!.Pid).Length;
        Samples judged = await last.MetricsWhen(
            $"{which}: all {processes} processes to be inspected, and the verdict {verdict}",
            samples => samples.Sum("kamotel_instance_inspected_processes", ("target", server.Configuration), ("status", "inspected")) == processes
                && samples.Verdict(server.Configuration) == verdict);
        judged.Sum("kamotel_instances", ("target", server.Configuration)).ShouldBe(1, which);
        judged.Sum("kamotel_instance_processes", ("target", server.Configuration)).ShouldBe(processes, which);
        Proc.Alive(server.Process.Pid).ShouldBeTrue(which);
        _ = await server.Stop();
        await server.Process.DisposeAsync();
    }
}
