using System.Buffers.Binary;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>What a process held in its Thread#1 is told before it dies.</summary>
public sealed class FatalSignalTests
{
    private const int BlockSize = 512;
    private const ulong LastValue = 0x7e57000011112222;
    private static readonly int FatalSignal = (int)ObservationKind.FatalSignal;

    [Theory]
    [InlineData(0)]
    [InlineData(40)] // Keys from 32 on are in a block of their own.
    [InlineData(100)]
    public void A_worker_that_dies_of_a_signal_leaves_what_its_slots_held(int keysTaken)
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = Run(session, "fatal", keysTaken, SlotTables.GlibcOffset(), flat: false);
        DeathsShouldBe(session, deeds);
        foreach (Death death in session.Deaths)
        {
            uint key = KeyOf(deeds, death);
            int block = (int)key / 32;
            death.BlocksRead.ShouldBe(1u | (1u << block));
            // {sequence number, value}
            Word(death, (block * BlockSize) + ((int)key % 32 * 16) + 8).ShouldBe(LastValue);
            UnreadShouldBeZero(death);
        }
    }

    [Fact]
    public void The_slots_of_musl_lie_flat()
    {
        Machine.MustHaveMusl();
        using var session = new Session(Path.Combine(Machine.Targets, "libcrypto-musl.so"), program: "target-musl");
        IReadOnlyList<Deed> deeds = Run(session, "fatal", 70, SlotTables.MuslOffset(), flat: true);
        DeathsShouldBe(session, deeds);
        foreach (Death death in session.Deaths)
        {
            death.BlocksRead.ShouldBe(3u);
            Word(death, (int)KeyOf(deeds, death) * 8).ShouldBe(LastValue);
            UnreadShouldBeZero(death);
        }
    }

    [Fact]
    public void When_another_thread_is_hit_it_is_still_Thread_1_whose_slots_are_told()
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = Run(session, "fatal_thread", 0, SlotTables.GlibcOffset(), flat: false);
        DeathsShouldBe(session, deeds);
        Death death = session.Deaths.Single();
        death.Observation.MainThread.ShouldBeFalse();
        death.Observation.Tid.ShouldBe(deeds.Single(static d => d is { What: "set", Value: 0x3333 }).Tid);
        Word(death, ((int)KeyOf(deeds, death) * 16) + 8).ShouldBe(LastValue);
    }

    [Fact]
    public void Without_a_layout_a_death_is_told_all_the_same()
    {
        using var session = new Session();
        DeathsShouldBe(session, Run(session, "fatal"));
        foreach (Death death in session.Deaths)
        {
            death.BlocksRead.ShouldBe(0u);
            UnreadShouldBeZero(death);
        }
    }

    [Fact]
    public void A_layout_that_is_taken_back_is_not_used()
    {
        using var session = new Session();
        DeathsShouldBe(session, Run(session, "fatal", 0, SlotTables.GlibcOffset(), flat: false, session.Kernel.RemoveSlotLayout));
        session.Deaths.ShouldAllBe(static d => d.BlocksRead == 0);
    }

    [Fact]
    public void A_layout_that_leads_nowhere_reads_nothing()
    {
        using var session = new Session();
        DeathsShouldBe(session, Run(session, "fatal", 0, long.MaxValue / 2, flat: false));
        session.Deaths.ShouldAllBe(static d => d.BlocksRead == 0);
        foreach (Death death in session.Deaths)
        {
            UnreadShouldBeZero(death);
        }
    }

    [Fact]
    public void A_signal_that_is_caught_or_ignored_or_another_is_not_told()
    {
        using var session = new Session();
        _ = Run(session, "not_fatal", 0, SlotTables.GlibcOffset(), flat: false);
        session.Deaths.ShouldBeEmpty();
        session.Kernel.Lost(FatalSignal).ShouldBe(0);
        session.Seen.ShouldContain(static o => o.Kind == ObservationKind.Exit && (o.Status & 0x7f) == 15);
    }

    [Fact]
    public void What_a_full_ring_cannot_take_is_counted_lost()
    {
        const int Workers = 50;
        using var session = new Session(ringBytes: 4096);
        using Target target = session.Start("deaths", Workers);
        _ = target.Finish(); // Nobody reads meanwhile: the ring must overflow.
        session.Kernel.Consume(session);
        session.Kernel.Lost(FatalSignal).ShouldBeGreaterThan(0);
        session.Kernel.Received(FatalSignal).ShouldBe(session.Deaths.Count);
        (session.Kernel.Received(FatalSignal) + session.Kernel.Lost(FatalSignal)).ShouldBe(Workers);
    }

    [Fact]
    public void In_a_ring_that_was_used_before_nothing_old_leaves_with_a_death()
    {
        using var session = new Session(ringBytes: 16384);
        session.Keep = false;
        _ = session.Start("burst", 2000).Apart(target => session.CollectUntil(() => target.HasExited, "the target to end"));
        session.Keep = true;
        DeathsShouldBe(session, Run(session, "fatal"));
        foreach (Death death in session.Deaths)
        {
            UnreadShouldBeZero(death);
        }
    }

    [Fact]
    public void A_kernel_that_refuses_just_this_program_does_the_rest()
    {
        Machine.MustRunBpf();
        using var session = new Session();
        session.Kernel.FatalSignalsRefused.ShouldBeNull();

        using Stream resource = typeof(KernelSide).Assembly.GetManifestResourceStream("kamotel.bpf.o")!;
        byte[] image = new byte[resource.Length];
        resource.ReadExactly(image);
        for (int at; (at = image.AsSpan().IndexOf("tp_btf/signal_deliver"u8)) >= 0;)
        {
            "tp_btf/signal_nowhere"u8.CopyTo(image.AsSpan(at));
        }
        using KernelSide kernel = KernelSide.Load(image, 4 << 20, NullLogger.Instance);
        kernel.FatalSignalsRefused.ShouldNotBeNull().ShouldContain("cannot be loaded");
        kernel.WatchName(session.Name);
        kernel.AttachTracepoints();
        using Target target = session.Start("deaths", 1);
        _ = target.Finish();
        kernel.Consume(session);
        kernel.Received(FatalSignal).ShouldBe(0);
        kernel.Received((int)ObservationKind.Exit).ShouldBe(2);
    }

    /// <summary>Runs a scenario that waits until its layout is known.</summary>
    private static IReadOnlyList<Deed> Run(Session session, string scenario, int count = 0, long? offset = null, bool flat = false, Action<InstanceId>? then = null)
    {
        using Target target = session.Start(scenario, count);
        session.CollectUntil(() => target.HasExited || target.Deeds.Any(static d => d.What == "waiting"), "the target to wait");
        InstanceId instance = session.Seen.Single(o => o is { Kind: ObservationKind.Exec, Watched: true } && o.Process.Tgid == target.Pid).Instance;
        if (offset is { } known)
        {
            session.Kernel.SetSlotLayout(instance, known, flat);
        }
        then?.Invoke(instance);
        target.Go();
        session.CollectUntil(() => target.HasExited, "the target to end");
        return target.Finish();
    }

    private static void DeathsShouldBe(Session session, IReadOnlyList<Deed> deeds)
    {
        session.Deaths.Select(static d => (d.Observation.Process.Tgid, d.Observation.Status))
            .ShouldBe(deeds.Where(static d => d.What == "signal").Select(static d => (d.Process, d.Tid)));
        session.Deaths.ShouldNotBeEmpty();
        session.Deaths.ShouldAllBe(static d => d.Blocks.Length == 4 * BlockSize);
        foreach (Death death in session.Deaths)
        {
            Observation exit = session.Seen.Single(o => o is { Kind: ObservationKind.Exit, LastThread: true } && o.Process == death.Observation.Process);
            (exit.Status & 0x7f).ShouldBe(death.Observation.Status);
            exit.Instance.ShouldBe(death.Observation.Instance);
        }
    }

    private static uint KeyOf(IReadOnlyList<Deed> deeds, Death death) =>
        deeds.Single(d => d is { What: "set", Value: LastValue } && d.Process == death.Observation.Process.Tgid).Key;

    private static ulong Word(Death death, int offset) => BinaryPrimitives.ReadUInt64LittleEndian(death.Blocks.AsSpan(offset));

    private static void UnreadShouldBeZero(Death death)
    {
        for (int block = 0; block < 4; block++)
        {
            if ((death.BlocksRead & (1u << block)) == 0)
            {
                death.Blocks.AsSpan(block * BlockSize, BlockSize).ContainsAnyExcept((byte)0).ShouldBeFalse($"block {block}");
            }
        }
    }
}
