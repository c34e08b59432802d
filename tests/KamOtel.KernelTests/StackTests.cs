using System.Buffers.Binary;
using KamOtel.Bpf;
using KamOtel.Diagnosis;

namespace KamOtel.KernelTests;

/// <summary>Which calls come with a copy of their stack, and what it holds.</summary>
public sealed class StackTests
{
    private const ulong OuterMark = 0x6f757465726d6b31;
    private const ulong InnerMark = 0x696e6e65726d6b32;
    private const int Rsp = 7;

    [Theory]
    [InlineData(0)]
    [InlineData(20_000)]
    [InlineData(50_000)]
    public void A_stack_comes_whole_when_it_fits(int frame)
    {
        using var session = new Session();
        _ = session.Run("deep", frame);
        Stack stack = session.Stacks.Single(static s => s.Call.Kind == ObservationKind.SetLocal);
        session.Seen.ShouldContain(stack.Call, "the call itself, with the mark that its stack was copied");
        stack.Start.ShouldBeLessThanOrEqualTo(stack.Registers[Rsp]);
        (stack.Registers[Rsp] - stack.Start).ShouldBeLessThan((ulong)CopiedStack.ChunkSize);
        stack.OuterBytes.ShouldBeEmpty();
        stack.Bytes.Length.ShouldBeGreaterThan(frame);
        Holds(stack.Bytes, InnerMark).ShouldBeTrue("the near end");
        Holds(stack.Bytes, OuterMark).ShouldBeTrue("the far end");
        if (frame < 4096)
        {
            stack.Holes.ShouldBe(0UL);
        }
        else
        {
            stack.Holes.ShouldNotBe(0UL, "pages that nobody touched");
        }
    }

    [Theory]
    [InlineData(70_000)]
    [InlineData(1_000_000)]
    public void Of_a_deep_stack_both_ends_come(int frame)
    {
        using var session = new Session();
        _ = session.Run("deep", frame);
        Stack stack = session.Stacks.Single(static s => s.Call.Kind == ObservationKind.SetLocal);
        stack.Bytes.Length.ShouldBe(48 * CopiedStack.ChunkSize);
        stack.OuterBytes.Length.ShouldBe(16 * CopiedStack.ChunkSize);
        stack.Outer.ShouldBeGreaterThan(stack.Start + (ulong)frame - (64 * CopiedStack.ChunkSize));
        Holds(stack.Bytes, InnerMark).ShouldBeTrue("the near end");
        Holds(stack.OuterBytes, OuterMark).ShouldBeTrue("the far end");
    }

    [Fact]
    public void The_registers_are_those_of_the_call()
    {
        using var session = new Session();
        IReadOnlyList<Deed> deeds = session.Run("before_fork");
        Stack stack = session.Stacks.Single(static s => s.Call.Kind == ObservationKind.SetLocal);
        const int Rsi = 4;
        const int Rdi = 5;
        const int Rip = 16;
        stack.Registers[Rdi].ShouldBe(stack.Call.KeyAddress);
        stack.Registers[Rsi].ShouldBe(deeds.Single(static d => d.What == "set").Value);
        using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(session.Library);
        ulong offset = Linux.ElfFile.Open(file).Value.FindFunctions(["CRYPTO_THREAD_set_local"]).Value.Found.Single().FileOffset;
        (stack.Registers[Rip] & 0xfff).ShouldBe(offset & 0xfff, "the first instruction of the function");
    }

    [Fact]
    public void A_slot_that_is_cleared_comes_without()
    {
        using var session = new Session();
        _ = session.Run("cleared");
        session.Calls.Where(static c => c is { Kind: ObservationKind.SetLocal, Value: 0 }).ShouldAllBe(static c => !c.HasStack);
        session.Calls.Where(static c => c is { Kind: ObservationKind.SetLocal, Value: not 0 }).ShouldAllBe(static c => c.HasStack);
        session.Calls.Single(static c => c.Kind == ObservationKind.CleanupLocal).HasStack.ShouldBeTrue();
    }

    [Fact]
    public void Before_the_first_fork_it_is_many_calls()
    {
        using var session = new Session();
        _ = session.Run("burst", 1000);
        session.Stacks.Count(static s => s.Call.Kind == ObservationKind.SetLocal).ShouldBe(128);
        session.Calls.Count(static c => c.Kind == ObservationKind.SetLocal).ShouldBe(1000, "the calls all come");
        session.Calls.Count(static c => c is { Kind: ObservationKind.SetLocal, HasStack: true }).ShouldBe(128);
        session.Calls.Where(static c => c.Kind == ObservationKind.SetLocal).Take(128).ShouldAllBe(static c => c.HasStack);
    }

    [Fact]
    public void Of_other_threads_it_is_the_first_calls_up_to_their_start()
    {
        using var session = new Session();
        _ = session.Run("other_thread");
        Stack stack = session.Stacks.Single(static s => s.Call.Kind == ObservationKind.SetLocal);
        stack.Call.MainThread.ShouldBeFalse();
        stack.Bytes.Length.ShouldBeLessThan(16 * CopiedStack.ChunkSize);
    }

    [Fact]
    public void Stacks_do_not_crowd_out_the_events()
    {
        // Nobody reads meanwhile: the ring fills.
        using var session = new Session(ringBytes: 256 << 10);
        using Target target = session.Start("burst", 1000);
        _ = target.Finish();
        session.CollectUntil(() => session.Seen.Any(o => o is { Kind: ObservationKind.Exit, LastThread: true } && o.Process.Tgid == target.Pid), "the exit of the target");
        session.Calls.Count(static c => c.Kind == ObservationKind.SetLocal).ShouldBe(1000);
        session.Stacks.Count.ShouldBeInRange(4, 60);
        session.Kernel.Lost(KernelSide.StackKind).ShouldBe(129 - session.Stacks.Count);
        for (int kind = 1; kind < KernelSide.StackKind; kind++)
        {
            session.Kernel.Lost(kind).ShouldBe(0, KernelSide.KindNames[kind]);
        }
    }

    private static bool Holds(byte[] bytes, ulong mark)
    {
        for (int i = 0; i + 8 <= bytes.Length; i += 8)
        {
            if (BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(i)) == mark)
            {
                return true;
            }
        }
        return false;
    }
}
