using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Agent;

/// <summary>What a process had mapped when: stacks are read by what was there at their time.</summary>
public sealed class CodeMapsTests : IDisposable
{
    private static readonly ProcessId Root = new(10, 1000);
    private static readonly ProcessId Worker = new(11, 1001);

    private readonly CodeMaps _maps = new();
    private readonly List<CodeFile> _files = [];
    private readonly CodeFile _a;
    private readonly CodeFile _b;

    public CodeMapsTests()
    {
        _a = File("a.so");
        _b = File("b.so");
        _maps.Begin(Root, "/usr/sbin/kamailio");
    }

    [Fact]
    public void A_mapping_is_there_from_its_time_on()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        At(Root, 99).ShouldBeEmpty();
        At(Root, 100).ShouldBe(["a.so at 1000"]);
        _maps.At(Root, 100)!.Value.Program.ShouldBe("/usr/sbin/kamailio");
    }

    [Fact]
    public void A_library_in_the_place_of_an_unloaded_one_does_not_change_the_past()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Map(Root, 0x1800, 0x2800, 0x1000, _b, timeNs: 200);
        At(Root, 150).ShouldBe(["a.so at 1000"]);
        At(Root, 200).ShouldBe(["b.so at 1800"]);
    }

    [Fact]
    public void A_file_that_could_not_be_opened_is_not_taken_for_the_one_before()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Map(Root, 0x1000, 0x2000, 0, file: null, timeNs: 200);
        At(Root, 150).ShouldBe(["a.so at 1000"]);
        At(Root, 250).ShouldBeEmpty();
    }

    [Fact]
    public void What_proc_and_an_event_both_tell_is_there_once_and_from_the_start()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 0);
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        At(Root, 50).ShouldBe(["a.so at 1000"]);
        At(Root, 150).ShouldBe(["a.so at 1000"]);
    }

    [Fact]
    public void A_worker_has_what_its_parent_had_at_the_fork()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Fork(Root, Worker, timeNs: 200);
        // Told late: the parent's mapping of before the fork, and one of after it.
        _maps.Map(Root, 0x5000, 0x6000, 0, _b, timeNs: 150);
        _maps.Map(Root, 0x7000, 0x8000, 0, _b, timeNs: 250);
        _maps.Map(Worker, 0x9000, 0xa000, 0, _b, timeNs: 300);
        At(Worker, 400).ShouldBe(["a.so at 1000", "b.so at 5000", "b.so at 9000"]);
        At(Root, 400).ShouldBe(["a.so at 1000", "b.so at 5000", "b.so at 7000"]);
    }

    [Fact]
    public void A_worker_that_maps_over_what_it_inherited_has_the_new()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Fork(Root, Worker, timeNs: 200);
        _maps.Map(Worker, 0x1000, 0x2000, 0, _b, timeNs: 300);
        At(Worker, 250).ShouldBe(["a.so at 1000"]);
        At(Worker, 300).ShouldBe(["b.so at 1000"]);
        At(Root, 300).ShouldBe(["a.so at 1000"]);
    }

    [Fact]
    public void A_worker_outlives_its_parent_and_an_exec_forgets_all()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Fork(Root, Worker, timeNs: 200);
        _maps.End(Root);
        _maps.At(Root, 300).ShouldBeNull();
        At(Worker, 300).ShouldBe(["a.so at 1000"]);
        _maps.Begin(Worker, "/usr/sbin/opensips");
        At(Worker, 400).ShouldBeEmpty();
    }

    [Fact]
    public void The_program_of_a_process_that_is_gone_is_what_it_mapped_first()
    {
        _maps.Begin(Worker, program: null);
        _maps.Map(Worker, 0x5000, 0x6000, 0, _b, timeNs: 200);
        _maps.Map(Worker, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Map(Worker, 0x8000, 0x9000, 0, _b, timeNs: 300);
        _maps.At(Worker, 400)!.Value.Program.ShouldBe("/lib/a.so");
    }

    [Fact]
    public void The_same_code_is_the_same_space_for_who_has_it_in_common()
    {
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        AddressSpace first = _maps.At(Root, 150)!.Value.Space;
        _maps.Fork(Root, Worker, timeNs: 200);
        _maps.At(Root, 300)!.Value.Space.ShouldBeSameAs(first);
        _maps.At(Worker, 300)!.Value.Space.ShouldBeSameAs(first);
        _maps.Map(Root, 0x5000, 0x6000, 0, _b, timeNs: 400);
        _maps.At(Root, 500)!.Value.Space.ShouldNotBeSameAs(first);
    }

    [Fact]
    public void A_process_that_maps_without_end_costs_no_memory_without_end()
    {
        for (ulong i = 0; i < 10_000; i++)
        {
            _maps.Map(Root, i << 16, (i << 16) + 0x1000, 0, _a, timeNs: i);
        }
        _maps.At(Root, ulong.MaxValue - 1)!.Value.Space.Mappings.Length.ShouldBeLessThanOrEqualTo(4096);
    }

    [Fact]
    public void Files_are_found_by_the_inode_that_is_mapped()
    {
        _maps.Find(new MappedInode(8, 1, 42)).ShouldBeNull();
        _maps.Keep(new MappedInode(8, 1, 42), _a);
        _maps.Find(new MappedInode(8, 1, 42)).ShouldBeSameAs(_a);
        _maps.Find(new MappedInode(8, 2, 42)).ShouldBeNull();
        for (ulong i = 0; i < 5000; i++)
        {
            _maps.Keep(new MappedInode(8, 3, i), _b);
        }
        _maps.Find(new MappedInode(8, 3, 4999)).ShouldBeNull("there is an end to it");
    }

    [Fact]
    public void A_file_is_closed_when_the_last_process_that_mapped_it_is_gone()
    {
        _maps.Keep(new MappedInode(8, 1, 1), _a);
        _maps.Keep(new MappedInode(8, 1, 2), _b);
        _maps.Map(Root, 0x1000, 0x2000, 0, _a, timeNs: 100);
        _maps.Fork(Root, Worker, timeNs: 200);
        _maps.Map(Worker, 0x5000, 0x6000, 0, _b, timeNs: 300);
        var released = new List<CodeFile>();
        _maps.End(Root);
        _maps.CloseUnused(released.Add);
        released.ShouldBeEmpty("the worker has both");
        _maps.End(Worker);
        _maps.CloseUnused(released.Add);
        released.ShouldBe([_a, _b], ignoreOrder: true);
        _a.Handle.IsClosed.ShouldBeTrue();
        _maps.Find(new MappedInode(8, 1, 1)).ShouldBeNull();
    }

    public void Dispose()
    {
        _maps.Dispose();
        foreach (CodeFile file in _files)
        {
            file.Dispose();
        }
    }

    private CodeFile File(string name)
    {
        SafeFileHandle handle = System.IO.File.OpenHandle("/proc/self/exe");
        var file = new CodeFile(handle, "/lib/" + name, FileKey.Of(handle).Value, deleted: false);
        _files.Add(file);
        return file;
    }

    private string[] At(ProcessId process, ulong timeNs) =>
        [.. _maps.At(process, timeNs)!.Value.Space.Mappings.Select(static m => $"{Path.GetFileName(m.File.Path)} at {m.Start:x}")];
}
