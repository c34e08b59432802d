using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.KernelTests;

/// <summary>The uses of shared slots are counted, while that is wanted and no longer.</summary>
public sealed class ConfirmTests
{
    private const int Times = 5;

    [Fact]
    public void The_uses_of_shared_keys_in_main_threads_are_counted_exactly()
    {
        using var session = new Session();
        using Target target = StartAndWait(session, out InstanceId instance, out uint key);
        session.Kernel.SetSharedKeys(instance, [key, key + 100]);
        using (Attach(session))
        {
            target.Step();
            target.WaitFor("waiting", 2);
        }
        UsesShouldBe(session, Uses(target.Deeds, key));
        session.Kernel.ReadSharedUses().Count.ShouldBe(3, "root and two of its three workers");
        session.Kernel.ConfirmHits.ShouldBe((ulong)target.Deeds.Count(static d => d.What == "get"));
        foreach (ProcessId process in session.Kernel.ReadSharedUses().Select(static u => u.Process))
        {
            session.Seen.ShouldContain(o => o.Process == process || o.Other == process);
        }
        target.Go();
        _ = target.Finish();
    }

    [Fact]
    public void After_the_detach_nothing_is_counted()
    {
        using var session = new Session();
        using Target target = StartAndWait(session, out InstanceId instance, out uint key);
        session.Kernel.SetSharedKeys(instance, [key]);
        using (Attach(session))
        {
            target.Step();
            target.WaitFor("waiting", 2);
        }
        string[] before = Uses(target.Deeds, key);
        ulong hits = session.Kernel.ConfirmHits;
        target.Go();
        int all = target.Finish().Count(static d => d.What == "get");
        UsesShouldBe(session, before);
        session.Kernel.ConfirmHits.ShouldBe(hits);
        hits.ShouldBeLessThan((ulong)all);
    }

    [Fact]
    public void Keys_that_are_not_shared_are_hits_and_no_uses()
    {
        using var session = new Session();
        using Target target = StartAndWait(session, out InstanceId instance, out uint key);
        session.Kernel.SetSharedKeys(instance, [key]);
        session.Kernel.SetSharedKeys(instance with { SinceNs = instance.SinceNs + 1 }, [key]);
        session.Kernel.SetSharedKeys(instance, []);
        using (Attach(session))
        {
            target.Go();
            int gets = target.Finish().Count(static d => d.What == "get");
            session.Kernel.ReadSharedUses().ShouldBeEmpty();
            session.Kernel.ConfirmHits.ShouldBe((ulong)gets);
        }
    }

    [Fact]
    public void A_process_that_nobody_watches_is_not_counted()
    {
        using var session = new Session();
        using Target target = StartAndWait(session, out InstanceId instance, out uint key);
        session.Kernel.SetSharedKeys(instance, [key]);
        using var scratch = new Scratch();
        using (Attach(session))
        using (Target other = Target.Start(scratch, "somebody-else", session.Library, "gets", Times))
        {
            other.Go();
            _ = other.Finish();
            session.Kernel.ConfirmHits.ShouldBe(0UL);
            session.Kernel.ReadSharedUses().ShouldBeEmpty();
        }
        target.Go();
        _ = target.Finish();
    }

    [Fact]
    public void A_new_window_starts_from_nothing()
    {
        using var session = new Session();
        using Target target = StartAndWait(session, out InstanceId instance, out uint key);
        session.Kernel.SetSharedKeys(instance, [key]);
        using (Attach(session))
        {
            target.Step();
            target.WaitFor("waiting", 2);
            session.Kernel.ReadSharedUses().ShouldNotBeEmpty();
            session.Kernel.ClearSharedKeys();
            session.Kernel.ReadSharedUses().ShouldBeEmpty();
            session.Kernel.ConfirmHits.ShouldBe(0UL);
            session.Kernel.SetSharedKeys(instance, [key]);
            int before = target.Deeds.Count;
            target.Go();
            UsesShouldBe(session, Uses([.. target.Finish().Skip(before)], key));
        }
        session.Kernel.ClearSharedKeys();
        session.Kernel.ClearSharedKeys();
    }

    [Fact]
    public void A_confirmation_of_a_missing_file_names_the_file()
    {
        using var session = new Session();
        BpfException error = Should.Throw<BpfException>(() => session.Kernel.AttachConfirm("/nonexistent/libcrypto.so", 4096));
        error.Message.ShouldContain("/nonexistent/libcrypto.so");
        error.Message.ShouldContain("kamotel_get");
    }

    private static Target StartAndWait(Session session, out InstanceId instance, out uint key)
    {
        Target target = session.Start("gets", Times);
        session.CollectUntil(() => target.HasExited || target.Deeds.Any(static d => d.What == "waiting"), "the target to wait");
        Observation set = session.Calls.Single(static o => o.Kind == ObservationKind.SetLocal);
        instance = set.Instance;
        key = set.Key.ShouldNotBeNull();
        return target;
    }

    private static SafeHandle Attach(Session session)
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(session.Library);
        ElfFunction function = ElfFile.Open(file).Value.FindFunctions([KernelSide.ConfirmedFunction]).Value.Found.Single();
        return session.Kernel.AttachConfirm(session.Library, function.FileOffset);
    }

    private static string[] Uses(IReadOnlyList<Deed> deeds, uint key) =>
        [.. deeds.Where(d => d.What == "get" && d.Tid == d.Process && d.Key == key)
            .GroupBy(static d => d.Process)
            .Select(g => $"{g.Key} {key} {g.Count()}")
            .Order(StringComparer.Ordinal)];

    private static void UsesShouldBe(Session session, string[] expected)
    {
        expected.ShouldNotBeEmpty();
        session.Kernel.ReadSharedUses().Select(static u => $"{u.Process.Tgid} {u.Key} {u.Count}").Order(StringComparer.Ordinal).ShouldBe(expected);
        session.Kernel.Consume(session);
    }
}
