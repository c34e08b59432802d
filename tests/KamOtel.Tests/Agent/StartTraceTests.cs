using System.Diagnostics;
using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What becomes of a start as a span.</summary>
public sealed class StartTraceTests
{
    private static readonly InstanceContext Server = new(new InstanceId(10, 1), "kamailio", "kamailio", SinceExec: true, StartedNs: 1);

    [Theory]
    [InlineData(false, 0, ActivityStatusCode.Unset)] // kamailio -c, -v, -h
    [InlineData(false, 255 << 8, ActivityStatusCode.Error)]
    [InlineData(false, 9, ActivityStatusCode.Error)]
    [InlineData(true, 0, ActivityStatusCode.Error)]
    public void An_end_before_it_was_ready_is_a_failure_unless_it_never_forked_and_is_content(bool forked, int status, ActivityStatusCode expected)
    {
        Activity span = Ended(status, forked ? [null] : []);
        span.Status.ShouldBe(expected);
        (span.StatusDescription ?? "").StartsWith("ended before it was ready", StringComparison.Ordinal).ShouldBe(expected == ActivityStatusCode.Error);
    }

    [Fact]
    public void A_fork_names_the_role_where_it_is_known() =>
        Ended(0, [null, ProcessRole.Worker]).Events.Select(static e => e.Tags.FirstOrDefault(static t => t.Key == "kamotel.role").Value)
            .ShouldBe([null, "worker"]);

    private static Activity Ended(int status, params ProcessRole?[] forks)
    {
        using var source = new ActivitySource($"test {Guid.NewGuid():N}");
        Activity? made = null;
        using var listener = new ActivityListener
        {
            ShouldListenTo = s => s.Name == source.Name,
            Sample = static (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = activity => made = activity,
        };
        ActivitySource.AddActivityListener(listener);
        var starts = new StartTraces(new TelemetryCounters());
        starts.Take(new TelemetryItem(ItemKind.Found, Server)).ShouldBeNull();
        foreach (ProcessRole? role in forks)
        {
            starts.Take(new TelemetryItem(ItemKind.Forked, Server) { Forked = role, TimeNs = 2 }).ShouldBeNull();
        }
        starts.Take(new TelemetryItem(ItemKind.Ended, Server) { Observation = new Observation { Status = status }, TimeNs = 3 })
            .ShouldNotBeNull().Emit(source);
        return made.ShouldNotBeNull();
    }
}
