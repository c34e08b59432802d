using KamOtel.Bpf;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

public sealed class RingTests
{
    private static readonly int SetLocal = (int)ObservationKind.SetLocal;

    [Fact]
    public void In_a_ring_of_4_KiB_what_was_emitted_is_what_came_plus_what_was_counted_lost()
    {
        const int Calls = 20_000;
        using var session = new Session(ringBytes: 4096);
        using Target target = session.Start("burst", Calls);
        _ = target.Finish(); // Nobody reads meanwhile: the ring must overflow.
        session.Kernel.Consume(session);

        long received = session.Kernel.Received(SetLocal);
        long lost = session.Kernel.Lost(SetLocal);
        lost.ShouldBeGreaterThan(0);
        (received + lost).ShouldBe(Calls);
        received.ShouldBe(session.Calls.Count(static o => o.Kind == ObservationKind.SetLocal));

        long others = 0;
        foreach (ObservationKind kind in new[] { ObservationKind.Exec, ObservationKind.InitLocal, ObservationKind.Exit })
        {
            others += session.Kernel.Received((int)kind) + session.Kernel.Lost((int)kind);
        }
        others.ShouldBe(3, "one exec, one init_local, one exit");
    }

    [Fact]
    public void While_somebody_reads_a_ring_of_4_KiB_accounts_exactly_too()
    {
        const int Calls = 50_000;
        using var session = new Session(ringBytes: 4096);
        _ = session.Start("burst", Calls).Apart(target => session.CollectUntil(() => target.HasExited, "the target to end"));
        (session.Kernel.Received(SetLocal) + session.Kernel.Lost(SetLocal)).ShouldBe(Calls);
    }

    [Fact]
    public void Reading_an_event_allocates_nothing()
    {
        using var session = new Session();
        _ = session.Run("short"); // Everything is compiled and every buffer grown.
        session.Keep = false;
        using Target target = session.Start("burst", 20_000);
        _ = target.Finish();
        long before = GC.GetAllocatedBytesForCurrentThread();
        session.Kernel.Consume(session);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        session.Kernel.Received(SetLocal).ShouldBe(20_001);
        allocated.ShouldBeLessThan(4096, "per pass, not per event");
    }

    [Fact]
    public void A_kernel_without_types_is_named_with_the_remedy()
    {
        Machine.MustRunBpf();
        BpfException error = Should.Throw<BpfException>(static () => KernelSide.Load(1 << 20, NullLogger.Instance, "/nonexistent/btf"));
        error.Message.ShouldContain("/nonexistent/btf");
        error.Message.ShouldContain("CONFIG_DEBUG_INFO_BTF");
    }

    [Fact]
    public void A_ring_size_that_is_no_power_of_two_is_rounded_up()
    {
        Machine.MustRunBpf();
        using KernelSide kernel = KernelSide.Load(5000, NullLogger.Instance);
        kernel.RingBytes.ShouldBe(8192);
    }

    [Fact]
    public void An_impossible_ring_size_is_refused_with_the_kernels_reason()
    {
        Machine.MustRunBpf();
        BpfException error = Should.Throw<BpfException>(static () => KernelSide.Load(-1, NullLogger.Instance));
        error.Errno.ShouldBeGreaterThan(0);
        error.Message.ShouldContain("cannot be loaded");
    }

    [Fact]
    public void An_object_that_is_none_is_refused()
    {
        BpfException error = Should.Throw<BpfException>(static () => BpfObject.Open([1, 2, 3, 4], "rubbish", NullLogger.Instance));
        error.Message.ShouldContain("rubbish");
    }

    [Fact]
    public void A_probe_on_a_missing_file_names_the_file()
    {
        using var session = new Session();
        BpfException error = Should.Throw<BpfException>(() => session.Kernel.Attach("CRYPTO_THREAD_set_local", "/nonexistent/libcrypto.so", 4096));
        error.Message.ShouldContain("/nonexistent/libcrypto.so");
        error.Message.ShouldContain("kamotel_set");
    }
}

internal static class TargetExtensions
{
    public static Target Apart(this Target target, Action<Target> action)
    {
        using (target)
        {
            action(target);
        }
        return target;
    }
}
