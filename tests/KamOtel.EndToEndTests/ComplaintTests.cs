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
            string[] logged = [.. Logged().Matches(log).Select(static m => $"{m.Groups["pid"]} {m.Groups["what"]} {m.Groups["address"]} {m.Groups["module"]} {m.Groups["function"]}")];
            string[] tails = [.. Tail().Matches(log).Select(static m => $"{m.Groups["pid"]} tail {m.Groups["address"]} {m.Groups["module"]}")];
            TestContext.Current.TestOutputHelper!.WriteLine($"{load}: {logged.Length} times freed or bad, {tails.Length} times overwritten");
            if (logged.Length + tails.Length == 0)
            {
                continue;
            }

            await Until.True("all of them to be told", () => Told().Count(agent.Program.ToString()) >= logged.Length + tails.Length);
            var told = Told().Matches(agent.Program.ToString()).Select(static m => (Pid: m.Groups["pid"].Value, Line: Line(m))).ToList();
            string[] unwritten = Unwritten(told, [.. logged, .. tails], log);
            told.Select(static t => t.Line).Where(line => !unwritten.Contains(line)).Order(StringComparer.Ordinal).ShouldBe(logged.Concat(tails).Order(StringComparer.Ordinal), log);
            int overwritten = told.Count(static t => t.Line.Contains(" tail ", StringComparison.Ordinal));
            Samples counted = await agent.MetricsWhen("all of them to be counted", samples => Counted(samples, "already_freed", "bad_pointer", "overwritten") >= told.Count);
            Counted(counted, "already_freed", "bad_pointer").ShouldBe(told.Count - overwritten, log);
            Counted(counted, "overwritten").ShouldBe(overwritten, log);
            counted.Sum("kamotel_memory_unread_complaints_total").ShouldBe(0);
            return;

            double Counted(Samples samples, params string[] complaints) =>
                complaints.Sum(complaint => samples.Sum("kamotel_memory_complaints_total", ("target", server.Configuration), ("complaint", complaint)));
        }
        Assert.Fail($"none of {MostServers} servers complained before it died");
    }

    /// <summary>
    /// What was told and is in no log. A complaint names the files that made the fragment; where that is what was
    /// overwritten, the server dies while it writes the line: so only the last of a process that died of SIGSEGV.
    /// </summary>
    private static string[] Unwritten(List<(string Pid, string Line)> told, string[] logged, string log)
    {
        string[] unwritten = [.. told.Select(static t => t.Line).Except(logged)];
        foreach (string line in unwritten)
        {
            (string pid, string last) = told.Last(t => line.StartsWith(t.Pid + " ", StringComparison.Ordinal));
            line.ShouldBe(last, log);
            log.ShouldContain($"child process {pid} exited by a signal 11");
        }
        TestContext.Current.TestOutputHelper!.WriteLine($"{unwritten.Length} died while it wrote of it");
        return unwritten;
    }

    /// <summary>A complaint that was told, in the form of those that were logged.</summary>
    private static string Line(Match told) => told.Groups["pid"] + told.Groups["kind"].Value switch
    {
        "Overwritten" => $" tail {told.Groups["address"]} {told.Groups["module"]}",
        "BadPointer" => $" bad pointer {told.Groups["address"]} {told.Groups["module"]} {told.Groups["function"]}",
        "AlreadyFreed" => $" already freed pointer {told.Groups["address"]} {told.Groups["module"]} {told.Groups["function"]}",
        string other => $" {other} {told.Groups["address"]} {told.Groups["module"]}",
    };

    // Another process's line may be before it on the same one.
    [GeneratedRegex(@"\((?<pid>\d+)\) [A-Z]+: <core> \[[^\]\n]+\]: \w+\(\): BUG: [^\n]*?(?<what>already freed pointer|bad pointer) \(?(?<address>0x[0-9a-f]+)[^\n]*called from (?<module>[^ :]+): [^ :]+: (?<function>\w+)\(", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Logged();

    [GeneratedRegex(@"\((?<pid>\d+)\) [A-Z]+: <core> \[[^\]\n]+\]: \w+\(\): BUG: qm: (prev\. )?fragm\. [^\n]*?(:|\(address )(?<address>0x[0-9a-f]+)[\])][^\n]*Memory allocator was called from (?<module>[^ :]+): ", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Tail();

    [GeneratedRegex(@"process (?<pid>\d+) complains: (?<kind>\w+), of (?<address>0x[0-9a-f]+), by (?<module>\S+) in \S+?(:\d+|: (?<function>\w+))\s", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Told();
}
