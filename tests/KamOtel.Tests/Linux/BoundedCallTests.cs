using KamOtel.Linux;
using Shouldly;

namespace KamOtel.Tests.Linux;

public sealed class BoundedCallTests
{
    [Fact]
    public void A_step_that_waits_is_left_behind_and_the_others_are_made()
    {
        int[] pids = [-11, -12, -13];
        using var comes = new ManualResetEventSlim();
        int begun = 0, left = 0;

        string[] found = BoundedCall.ForEach(pids, Begin, static (_, unread) => unread.Detail, () => left++);

        found.ShouldBe(["1: -11", found[1], "2: -13"]);
        found[1].ShouldStartWith("process -12 does not let itself be read: a read did not come back within");
        left.ShouldBe(1);

        // While it waits nobody goes there again; nor is another thread lost.
        string[] again = BoundedCall.ForEach(pids, Begin, static (_, unread) => unread.Detail, () => left++);
        again.ShouldBe(["3: -11", "process -12 is not read: an earlier read of it has not come back", "3: -13"]);
        left.ShouldBe(1);

        comes.Set();
        SpinWait.SpinUntil(() => BoundedCall.ForEach(pids, Begin, static (_, unread) => unread.Detail, () => left++)[1].EndsWith(": -12", StringComparison.Ordinal), TimeSpan.FromSeconds(10)).ShouldBeTrue();
        found[1].ShouldContain("did not come back", Case.Sensitive, "what comes too late is nobody's");

        Func<int, string> Begin()
        {
            int mine = ++begun;
            return i =>
            {
                if (pids[i] == -12)
                {
                    comes.Wait();
                }
                return $"{mine}: {pids[i]}";
            };
        }
    }

    [Fact]
    public void A_work_that_goes_on_may_take_long()
    {
        // A second and a half, none of which is waited for.
        string[] found = BoundedCall.ForEach([-21], static () => static _ =>
        {
            for (int i = 0; i < 15; i++)
            {
                Thread.Sleep(100);
                BoundedCall.Progress();
            }
            return "done";
        }, static (_, unread) => unread.Detail, static () => { });

        found.ShouldBe(["done"]);
    }

    [Fact]
    public void What_a_step_throws_is_its_callers()
    {
        Should.Throw<InvalidDataException>(() => BoundedCall.ForEach<int>([-31], static () => static _ => throw new InvalidDataException("no"), static (_, _) => 0, static () => { })).Message.ShouldBe("no");
        BoundedCall.TryRun(-31, static () => 7, out int result, out _).ShouldBeTrue();
        result.ShouldBe(7);
    }
}
