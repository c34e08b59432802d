using System.Text.Json.Nodes;
using KamOtel.Benchmarks;

namespace KamOtel.Tests;

public class GoalsTests
{
    [Theory]
    [InlineData(1.1, false, 1.1, "met")]
    [InlineData(1.1, false, 1.65, "missed by 50 %")]
    [InlineData(0.99, true, 0.995, "met")]
    [InlineData(10, true, 8, "missed by 20 %")]
    [InlineData(0, false, 0, "met")]
    [InlineData(0, false, 0.25, "missed by 0.25")]
    public void A_goal_is_met_or_says_by_how_much_it_is_missed(double bound, bool atLeast, double reached, string outcome) =>
        new Goal(bound, atLeast, OfRatio: false).Outcome(reached).ShouldBe(outcome);

    [Fact]
    public void The_table_has_what_was_measured_and_judges_ratios_by_their_neighbour()
    {
        var report = new JsonObject { ["hit"] = new JsonObject { ["trapNs"] = 700.0, ["siteNs"] = 1400.0, ["bpftraceNs"] = 21000 } };
        string[] lines = Goals.Table(report).TrimEnd().Split('\n');
        lines.Length.ShouldBe(4);
        Words(lines[1]).ShouldBe("a hit: the bare trap 700 ns");
        Words(lines[2]).ShouldBe("KamOtel, where it stands 1,400 ns 2 x ≤ 1.1 x missed by 81.8 %");
        Words(lines[3]).ShouldEndWith("21,000 ns 15 x ≥ 10 x met");
    }

    [Fact]
    public void A_goal_of_a_ratio_without_its_neighbour_is_not_called_met() =>
        Goals.Table(new JsonObject { ["hit"] = new JsonObject { ["siteNs"] = 1.0 } }).ShouldContain("cannot be told");

    private static string Words(string line) => string.Join(' ', line.Split(' ', StringSplitOptions.RemoveEmptyEntries));
}
