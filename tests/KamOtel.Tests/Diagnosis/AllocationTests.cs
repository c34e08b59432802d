using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Diagnosis;

/// <summary>A server under load makes many calls a second, for months: none of them leaves anything for the collector.</summary>
public sealed class AllocationTests
{
    [Theory]
    [InlineData(ObservationKind.SetLocal)]
    [InlineData(ObservationKind.SetLocalEx)]
    [InlineData(ObservationKind.CleanupLocal)]
    [InlineData(ObservationKind.InitLocal)]
    public void A_call_allocates_nothing(ObservationKind kind)
    {
        var fleet = new Fleet(new FleetOptions(), SilentSink.Instance);
        var root = new ProcessId(100, 100_000);
        var worker = new ProcessId(101, 100_001);
        var server = new InstanceId(100, 1_000_000_000_000UL);
        var seen = new Observation { Process = root, Tid = 100, Instance = server, TimeNs = 1_000_000_000_000UL };
        fleet.Observe(seen with { Kind = ObservationKind.Exec, Name = TaskName.From("kamailio"), Watched = true });
        fleet.Observe(seen with { Kind = ObservationKind.Fork, Other = worker });

        long allocated = 0;
        for (int round = 0; round < 3; round++)
        {
            // What is new the first time is kept: slots, counters, and code that is compiled.
            long before = GC.GetAllocatedBytesForCurrentThread();
            for (uint i = 0; i < 10_000; i++)
            {
                bool inWorker = (i & 1) != 0;
                var call = new Observation
                {
                    Kind = kind,
                    Process = inWorker ? worker : root,
                    Tid = inWorker ? 101 : 100,
                    Instance = server,
                    TimeNs = 1_000_000_000_000UL + i,
                    Key = i % 8,
                    KeyAddress = 0x1000,
                    Value = 0x7f00_0000_0000UL + i,
                };
                fleet.Observe(in call);
            }
            allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        }

        allocated.ShouldBe(0);
    }
}
