using System.Diagnostics;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class ProcessMemoryTests : IDisposable
{
    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void Stretches_are_read_one_behind_the_other()
    {
        using SlotsTarget target = SlotsTarget.Start(SlotsTarget.Compile(_scratch, CLibrary.Glibc));
        ulong thread = target.Threads[0].TlsBase;
        Span<byte> together = stackalloc byte[16];
        Span<byte> alone = stackalloc byte[8];

        ProcessMemory.TryRead(target.Id.Tgid, [new(thread, 8), new(target.SharedStart, 0), new(thread + 16, 8)], together, out ProcFailure failure).ShouldBeTrue(failure.Detail);

        BitConverter.ToUInt64(together).ShouldBe(thread, "on x86-64 it points to itself");
        ProcessMemory.TryRead(target.Id.Tgid, thread + 16, alone, out _).ShouldBeTrue();
        together[8..].SequenceEqual(alone).ShouldBeTrue();
        ProcessMemory.TryRead(target.Id.Tgid, [], [], out _).ShouldBeTrue();
    }

    [Theory]
    [InlineData(0x10UL)]
    [InlineData(0x7fff_ffff_f000UL)]
    [InlineData(0xffff_8000_0000_0000UL)]
    [InlineData(ulong.MaxValue - 3)]
    public void An_address_without_memory_is_named(ulong address)
    {
        using SlotsTarget target = SlotsTarget.Start(SlotsTarget.Compile(_scratch, CLibrary.Glibc));
        byte[] buffer = new byte[24];

        ProcessMemory.TryRead(target.Id.Tgid, [new(target.SharedStart, 8), new(address, 8), new(target.SharedStart, 8)], buffer, out ProcFailure second).ShouldBeFalse();
        ProcessMemory.TryRead(target.Id.Tgid, address, buffer, out ProcFailure first).ShouldBeFalse();

        second.Status.ShouldBe(ProcStatus.Unavailable);
        second.Detail.ShouldContain($"0x{address:x}");
        first.Status.ShouldBe(ProcStatus.Unavailable);
    }

    [Fact]
    public void Memory_that_ends_in_the_middle_is_not_read_in_part()
    {
        using SlotsTarget target = SlotsTarget.Start(SlotsTarget.Compile(_scratch, CLibrary.MuslStatic));
        Mapping last = new ProcFs().ReadMaps(target.Id.Tgid).Value.Last(static mapping => mapping.Path == "[stack]");
        byte[] buffer = new byte[8192];

        ProcessMemory.TryRead(target.Id.Tgid, last.End - 4096, buffer, out ProcFailure failure).ShouldBeFalse();

        failure.Detail.ShouldContain($"0x{last.End:x}");
    }

    [Fact]
    public void More_than_a_modest_read_is_refused()
    {
        int self = Environment.ProcessId;
        byte[] buffer = new byte[16];

        foreach (MemoryRange[] ranges in (MemoryRange[][])[[new(0x1000, ulong.MaxValue), new(0x1000, 8)], [new(0, 17)], new MemoryRange[ProcessMemory.MaxRanges + 1]])
        {
            ProcessMemory.TryRead(self, ranges, buffer, out ProcFailure failure).ShouldBeFalse();
            failure.Status.ShouldBe(ProcStatus.Unavailable);
        }
    }

    [Fact]
    public void A_vanished_process_and_a_foreign_one_are_told_apart()
    {
        using Process process = Tools.Start("/bin/true");
        process.WaitForExit();
        byte[] buffer = new byte[8];

        ProcessMemory.TryRead(process.Id, 0x1000, buffer, out ProcFailure gone).ShouldBeFalse();
        gone.Status.ShouldBe(ProcStatus.Gone);
        Tools.WithoutPrivilege(() =>
        {
            ProcessMemory.TryRead(1, 0x1000, buffer, out ProcFailure denied).ShouldBeFalse();
            denied.Status.ShouldBe(ProcStatus.Denied);
            denied.Detail.ShouldContain("CAP_SYS_PTRACE");
        });
    }
}
