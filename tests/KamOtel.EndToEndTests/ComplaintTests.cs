using System.Text.RegularExpressions;

namespace KamOtel.EndToEndTests;

/// <summary>What a real server's memory manager logs and what the agent tells of it are the same.</summary>
public sealed partial class ComplaintTests
{
    /// <summary>Some servers die of the first thing that goes wrong: then there is nothing to compare.</summary>
    private const int MostServers = 8;

    [Fact]
    public async Task The_complaints_in_its_log_are_those_that_are_told()
    {
        await using AgentProcess agent = await AgentProcess.Start(null, "--log-level", "debug");
        for (int i = 0; i < MostServers; i++)
        {
            await using KamailioServer server = await KamailioServer.Prepare("tls", workers: 8);
            int root = await server.Start();
            LoadResult load = await Load.Run(server, Load.Deadly, () => !Proc.Alive(root), TimeSpan.FromSeconds(60));
            load.Stopped.ShouldBeTrue($"it lives\n{load}\n{server}");
            string log = (await server.Process!.End()).ToString();
            string[] logged = [.. Logged().Matches(log).Select(static m => $"{m.Groups["pid"]} {m.Groups["what"]} {m.Groups["address"]} {m.Groups["module"]} {m.Groups["function"]}").Order(StringComparer.Ordinal)];
            string[] tails = [.. Tail().Matches(log).Select(static m => $"{m.Groups["pid"]} tail {m.Groups["address"]} {m.Groups["module"]}").Order(StringComparer.Ordinal)];
            TestContext.Current.TestOutputHelper!.WriteLine($"{load}: {logged.Length} times freed or bad, {tails.Length} times overwritten");
            if (logged.Length + tails.Length == 0)
            {
                continue;
            }

            await Until.True("all of them to be told", () => Told().Count(agent.Program.ToString()) >= logged.Length + tails.Length);
            Match[] told = [.. Told().Matches(agent.Program.ToString()).Cast<Match>()];
            told.Where(static m => m.Groups["kind"].Value is "AlreadyFreed" or "BadPointer")
                .Select(static m => $"{m.Groups["pid"]} {(m.Groups["kind"].Value == "BadPointer" ? "bad pointer" : "already freed pointer")} {m.Groups["address"]} {m.Groups["module"]} {m.Groups["function"]}")
                .Order(StringComparer.Ordinal).ToArray().ShouldBe(logged, log);
            told.Where(static m => m.Groups["kind"].Value == "Overwritten")
                .Select(static m => $"{m.Groups["pid"]} tail {m.Groups["address"]} {m.Groups["module"]}")
                .Order(StringComparer.Ordinal).ToArray().ShouldBe(tails, log);
            Samples counted = await agent.MetricsWhen("all of them to be counted", samples => Counted(samples, "already_freed", "bad_pointer", "overwritten") >= logged.Length + tails.Length);
            Counted(counted, "already_freed", "bad_pointer").ShouldBe(logged.Length, log);
            Counted(counted, "overwritten").ShouldBe(tails.Length, log);
            counted.Sum("kamotel_memory_unread_complaints_total").ShouldBe(0);
            return;

            double Counted(Samples samples, params string[] complaints) =>
                complaints.Sum(complaint => samples.Sum("kamotel_memory_complaints_total", ("target", server.Configuration), ("complaint", complaint)));
        }
        Assert.Fail($"none of {MostServers} servers complained before it died");
    }

    // Another process's line may be before it on the same one.
    [GeneratedRegex(@"\((?<pid>\d+)\) [A-Z]+: <core> \[[^\]\n]+\]: \w+\(\): BUG: [^\n]*?(?<what>already freed pointer|bad pointer) \(?(?<address>0x[0-9a-f]+)[^\n]*called from (?<module>[^ :]+): [^ :]+: (?<function>\w+)\(", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Logged();

    [GeneratedRegex(@"\((?<pid>\d+)\) [A-Z]+: <core> \[[^\]\n]+\]: \w+\(\): BUG: qm: (prev\. )?fragm\. [^\n]*?(:|\(address )(?<address>0x[0-9a-f]+)[\])][^\n]*Memory allocator was called from (?<module>[^ :]+): ", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Tail();

    [GeneratedRegex(@"process (?<pid>\d+) complains: (?<kind>\w+), of (?<address>0x[0-9a-f]+), by (?<module>\S+) in \S+?(:\d+|: (?<function>\w+))\s", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Told();
}
