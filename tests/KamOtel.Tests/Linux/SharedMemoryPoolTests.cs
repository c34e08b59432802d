using System.Diagnostics;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>The pool of a live process, from what its program exports.</summary>
public sealed class SharedMemoryPoolTests : IDisposable
{
    private const string Bytes = "0x400000";

    private static readonly string[] Words = ["0", "0x400000", "0x10000", "0x50000", "0x60000", "1", "p0x40000", "p0x3fffd0"];

    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void Its_segment_its_manager_and_its_figures_are_read()
    {
        SharedMemoryPool pool = Read([], "q_malloc", Bytes, Words).ShouldNotBeNull();
        (pool.Size, pool.Manager).ShouldBe((0x400000UL, "qm"));
        (pool.Used, pool.Free, pool.MaxUsed).ShouldBe((0x50000UL, 0x3b0000UL, 0x60000UL));
        pool.IsConsistent.ShouldBeTrue();
    }

    [Fact]
    public void A_size_that_is_no_whole_page_is_one_in_the_end()
    {
        SharedMemoryPool pool = Read([], "q_malloc", "0x3ffff8", ["0", "0x3ffff8", "0x10000", "0x50000", "0x60000", "1", "p0x40000", "p0x3fffc8"]).ShouldNotBeNull();
        (pool.Size, pool.Used, pool.Free).ShouldBe((0x400000UL, 0x50000UL, 0x3afff8UL));
    }

    [Theory]
    [InlineData("own_malloc", null)]
    [InlineData("tlsf_malloc", "tlsf")]
    public void What_is_not_known_is_absent_and_not_zero(string name, string? manager)
    {
        // The structure is qm's: no one else's figures can be taken from it.
        SharedMemoryPool pool = Read([], name, Bytes, Words).ShouldNotBeNull();
        (pool.Size, pool.Manager).ShouldBe((0x400000UL, manager));
        (pool.Used, pool.Free, pool.MaxUsed).ShouldBe(((ulong?)null, (ulong?)null, (ulong?)null));
    }

    [Fact]
    public void Without_the_managers_place_the_only_segment_of_the_size_is_it()
    {
        SharedMemoryPool pool = Read(["-DNO_ROOT"], "q_malloc", Bytes, Words).ShouldNotBeNull();
        (pool.Size, pool.Manager, pool.Used).ShouldBe((0x400000UL, null, null));
        Read(["-DNO_ROOT", "-DTWICE"], "q_malloc", Bytes, Words).ShouldBeNull("it could be either");
        _ = Read(["-DTWICE"], "q_malloc", Bytes, Words).ShouldNotBeNull("its place is known");
    }

    [Theory]
    [InlineData("/dev/zero", true, "rw-s", 0x2000, true)]
    [InlineData("/dev/zero", true, "rw-s", 0x1001, true)]
    [InlineData("/dev/zero", true, "rw-s", 0x1000, false)]
    [InlineData("/dev/zero", true, "rw-s", 0x2001, false)]
    [InlineData("/dev/zero", true, "rw-s", 0, false)]
    [InlineData("/dev/zero", false, "rw-s", 0x2000, false)]
    [InlineData("/dev/zero", true, "rw-p", 0x2000, false)]
    [InlineData("/dev/zero", true, "r--s", 0x2000, false)]
    [InlineData("/memfd:x", true, "rw-s", 0x2000, false)]
    public void A_segment_is_shared_by_inheritance_and_as_large_as_was_asked_for(string path, bool deleted, string access, ulong size, bool expected)
    {
        Assert.SkipUnless(Environment.SystemPageSize == 4096, "pages of 4096 bytes");
        string line = $"7f0000000000-7f0000002000 {access} 00000000 00:01 12 {path}{(deleted ? " (deleted)" : "")}";
        Mapping mapping = Mapping.Parse(System.Text.Encoding.ASCII.GetBytes(line)).ShouldNotBeNull();
        SharedMemoryPoolReader.IsSegment(mapping, size).ShouldBe(expected);
    }

    private SharedMemoryPool? Read(string[] options, string name, string bytes, string[] words)
    {
        string program = _scratch["kamailio"];
        Tools.Run("gcc", ["-O1", "-rdynamic", "-o", program, $"{Tools.Targets}/pool.c", .. options]);
        using Process process = Tools.Start(program, [name, bytes, .. words]);
        try
        {
            process.StandardOutput.ReadLine().ShouldBe("ready");
            return new ServerFactsReader(new ProcFs()).Read(SlotsTarget.IdOf(process.Id)).SharedMemory;
        }
        finally
        {
            process.StandardInput.Close();
            process.WaitForExit();
        }
    }
}
