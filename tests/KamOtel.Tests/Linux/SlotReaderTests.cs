using System.Diagnostics;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class SlotReaderTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly SlotReader _reader = new(new ProcFs());

    public void Dispose() => _scratch.Dispose();

    [Theory]
    [InlineData(CLibrary.Glibc)]
    [InlineData(CLibrary.GlibcStatic)]
    [InlineData(CLibrary.Musl)]
    [InlineData(CLibrary.MuslStatic)]
    public void What_a_process_says_it_holds_is_what_is_found(CLibrary library)
    {
        using SlotsTarget target = Start(library);

        ProcessInspection found = _reader.Inspect(target.Id, target.Threads);

        found.Detail.ShouldBeEmpty();
        found.Status.ShouldBe(InspectionStatus.Inspected);
        found.Process.ShouldBe(target.Id);
        found.TimeNs.ShouldBeInRange(target.Id.StartTicks * ProcessId.NanosecondsPerTick, BootClock.NowNs);
        found.MapsLibcrypto.ShouldBeFalse();
        ShouldBeAsTold(found, target, library);
        found.OtherThreadSlots.ShouldBe(0, "there is no libcrypto that they could be of");
    }

    [Theory]
    [InlineData(CLibrary.Glibc)]
    [InlineData(CLibrary.GlibcStatic)]
    [InlineData(CLibrary.Musl)]
    [InlineData(CLibrary.MuslStatic)]
    public void A_forked_process_holds_what_it_inherited_and_only_shared_memory_is_named(CLibrary library)
    {
        using SlotsTarget target = Start(library, "fork", "3");
        ProcessInspection parent = _reader.Inspect(target.Id, target.Threads);

        foreach (ProcessId child in target.Children)
        {
            ProcessInspection found = _reader.Inspect(child, target.ThreadsOf(child));

            found.MainThreadSlots.ShouldBe(parent.MainThreadSlots);
            found.OtherThreadSlots.ShouldBe(0);
        }

        parent.MainThreadSlots.Single(slot => slot.Key == target.MainSlots.ElementAt(1).Key).Memory.ShouldBeNull("equal, but private: copied when written");
    }

    [Theory]
    [InlineData(CLibrary.Glibc)]
    [InlineData(CLibrary.Musl)]
    public void A_copy_of_the_blocks_tells_the_same_as_the_process(CLibrary library)
    {
        using SlotsTarget target = Start(library);
        _reader.TryView(target.Id, out ProcessView? view, out ProcessInspection? failure).ShouldBeTrue(failure?.Detail);
        view!.SharedMemory.ShouldContain(m => m.Start == target.SharedStart && m.End == target.SharedEnd && m.Name == "/dev/zero (deleted)");
        view.Layout.Flat.ShouldBe(library == CLibrary.Musl);
        (byte[] blocks, uint blocksRead) = Copy(target, view.Layout);

        ProcessInspection found = _reader.Decode(view, target.Id, blocks, blocksRead, timeNs: 77);

        found.Detail.ShouldBeEmpty();
        found.TimeNs.ShouldBe(77UL);
        found.MainThreadSlots.ShouldBe(_reader.Inspect(target.Id, target.Threads).MainThreadSlots);
        ShouldBeAsTold(found, target, library);

        _reader.Decode(view, target.Id, blocks, 1, 77).MainThreadSlots.Length.ShouldBe(found.MainThreadSlots.Count(s => s.Key < (view.Layout.Flat ? 64 : 32)), "the second block was not read");
        _reader.Decode(view, target.Id, blocks.AsSpan(1), blocksRead, 77).Status.ShouldBe(InspectionStatus.Unreadable);
        ProcessInspection nothing = _reader.Decode(view, target.Id, blocks, 0, 77);
        nothing.Status.ShouldBe(library == CLibrary.Musl ? InspectionStatus.Inspected : InspectionStatus.Unreadable);
        nothing.MainThreadSlots.ShouldBeEmpty();
    }

    [Fact]
    public void A_value_under_a_key_that_was_made_after_the_view_is_passed_over()
    {
        using SlotsTarget target = Start(CLibrary.Glibc);
        _reader.TryView(target.Id, out ProcessView? view, out _).ShouldBeTrue();
        (byte[] blocks, uint blocksRead) = Copy(target, view!.Layout);
        ProcessInspection before = _reader.Decode(view, target.Id, blocks, blocksRead, 1);
        BitConverter.GetBytes(3UL).CopyTo(blocks, 20 * 16);
        BitConverter.GetBytes(0x1234UL).CopyTo(blocks, (20 * 16) + 8);

        ProcessInspection found = _reader.Decode(view, target.Id, blocks, blocksRead, 1);

        found.Status.ShouldBe(InspectionStatus.Inspected);
        found.MainThreadSlots.ShouldBe(before.MainThreadSlots);
    }

    [Fact]
    public void A_key_whose_destructor_is_in_a_libcrypto_is_OpenSSLs()
    {
        // By the functions of OpenSSL 3.6 that it has, whatever it is called; its one pthread key holds a table.
        Tools.Run("gcc", "-O1", "-fPIC", "-shared", "-o", _scratch["bundled.so"], $"{Tools.Targets}/libcrypto36.c");
        using SlotsTarget target = Start(CLibrary.Glibc, "library", _scratch["bundled.so"]);

        ProcessInspection found = _reader.Inspect(target.Id, target.Threads);

        found.MapsLibcrypto.ShouldBeTrue();
        found.OtherThreadSlots.ShouldBe(2, "two pointers and a sentinel");
        ShouldBeAsTold(found, target, CLibrary.Glibc);
        HeldSlot table = found.MainThreadSlots.Single(static slot => slot.Owner == SlotOwner.OpenSsl);
        table.IsOpenSsl(found.MapsLibcrypto).ShouldBeTrue();
        table.Memory.ShouldNotBeNull().Start.ShouldBe(target.SharedStart);
    }

    [Theory]
    [InlineData("libcrypto.so.3", true)]
    [InlineData("libcrypto-81d66ed9.so.3", true)]
    [InlineData("libcryptopp.so.8", false)]
    [InlineData("libssl3.so", false)]
    public void A_library_without_OpenSSLs_functions_is_known_by_its_name(string name, bool known)
    {
        _scratch.Write("empty.c", "void CRYPTO_THREAD_clean_local(void) {}");
        Tools.Run("gcc", "-fPIC", "-shared", "-o", _scratch[name], _scratch["empty.c"]);
        using SlotsTarget target = Start(CLibrary.Glibc, "library", _scratch[name]);

        ProcessInspection found = _reader.Inspect(target.Id, target.Threads);

        found.MapsLibcrypto.ShouldBe(known);
        found.MainThreadSlots.Any(static slot => slot.Owner == SlotOwner.OpenSsl).ShouldBe(known);
    }

    [Fact]
    public void Slots_that_never_rest_are_unstable()
    {
        using SlotsTarget target = Start(CLibrary.Glibc, "busy");

        // The other thread rests, too, whenever it has no processor: then the slots are what they are.
        ProcessInspection found;
        var clock = Stopwatch.StartNew();
        do
        {
            found = _reader.Inspect(target.Id, target.Threads);
            found.Status.ShouldBeOneOf(InspectionStatus.Unstable, InspectionStatus.Inspected);
        }
        while (found.Status != InspectionStatus.Unstable && clock.Elapsed < TimeSpan.FromSeconds(20));

        found.Status.ShouldBe(InspectionStatus.Unstable);
        found.Detail.ShouldContain("changed each");
        found.MainThreadSlots.ShouldBeEmpty();
    }

    [Fact]
    public void A_process_that_is_not_there_is_gone()
    {
        using SlotsTarget target = Start(CLibrary.Glibc);
        ProcessId id = target.Id;
        ProcessId later = id with { StartTicks = id.StartTicks + 1 };

        Gone(later, [new(later, id.Tgid, target.Threads[0].TlsBase)]).ShouldContain("in use again");
        Gone(id, []).ShouldContain("no Thread#1");
        Gone(id, [.. target.Threads.Where(thread => thread.Tid != id.Tgid)]).ShouldContain("no Thread#1");
        target.Dispose();
        Gone(id, target.Threads).ShouldContain($"process {id} is gone");
    }

    [Fact]
    public void A_process_that_was_not_waited_for_is_gone()
    {
        using SlotsTarget target = Start(CLibrary.Glibc, "fork", "1");
        ProcessId child = target.Children[0];
        Process.GetProcessById(child.Tgid).Kill();
        SpinWait.SpinUntil(() => new ProcFs().ReadStat(child.Tgid).Value.State == 'Z', TimeSpan.FromSeconds(10)).ShouldBeTrue();

        Gone(child, target.ThreadsOf(child)).ShouldContain("has exited");
    }

    [Fact]
    public void A_process_that_ends_at_any_moment_is_no_exception_and_no_wrong_answer()
    {
        string path = SlotsTarget.Compile(_scratch, CLibrary.Glibc);
        for (int i = 0; i < 15; i++)
        {
            SlotsTarget target = SlotsTarget.Start(path);
            ProcessId id = target.Id;
            var ending = new Thread(target.Dispose);
            ending.Start();
            ProcessInspection found;
            do
            {
                found = _reader.Inspect(id, target.Threads);
                found.Status.ShouldBeOneOf(InspectionStatus.Inspected, InspectionStatus.Gone, InspectionStatus.Unstable);
            }
            while (found.Status != InspectionStatus.Gone);
            ending.Join();
        }
    }

    [Fact]
    public void A_thread_pointer_that_is_none_is_said_to_be_none()
    {
        using SlotsTarget target = Start(CLibrary.Glibc);

        ProcessInspection elsewhere = _reader.Inspect(target.Id, [new(target.Id, target.Id.Tgid, target.SharedStart)]);
        ProcessInspection nowhere = _reader.Inspect(target.Id, [new(target.Id, target.Id.Tgid, 0x1000)]);

        elsewhere.Status.ShouldBe(InspectionStatus.Unreadable);
        elsewhere.Detail.ShouldContain("no thread at");
        nowhere.Status.ShouldBe(InspectionStatus.Unreadable);
        nowhere.Detail.ShouldContain("0x1000");
    }

    [Fact]
    public void A_static_program_without_symbols_is_unsupported_and_the_remedy_is_told()
    {
        string path = SlotsTarget.Compile(_scratch, CLibrary.GlibcStatic);
        Tools.Run("strip", path);
        using SlotsTarget target = SlotsTarget.Start(path);

        ProcessInspection found = _reader.Inspect(target.Id, target.Threads);

        found.Status.ShouldBe(InspectionStatus.Unsupported);
        found.Detail.ShouldContain("neither glibc nor musl");
        found.Detail.ShouldContain("symbols");
    }

    [Fact]
    public void Without_privilege_the_remedy_is_told()
    {
        using SlotsTarget target = Start(CLibrary.Glibc);
        Tools.Require(Environment.IsPrivilegedProcess, "root, to be without it");
        ProcessId id = target.Id;

        Tools.WithoutPrivilege(() =>
        {
            ProcessInspection found = new SlotReader(new ProcFs()).Inspect(id, target.Threads);

            found.Status.ShouldBe(InspectionStatus.Denied);
            found.Detail.ShouldContain("CAP_SYS_PTRACE");
        });
    }

    [Fact]
    public void Without_privilege_ones_own_processes_are_read_by_their_paths()
    {
        string path = SlotsTarget.Compile(_scratch, CLibrary.Glibc);
        Tools.Run("chmod", "755", _scratch.Folder);

        // The thread's child is as unprivileged as the thread is.
        Tools.WithoutPrivilege(() =>
        {
            using SlotsTarget target = SlotsTarget.Start(path);
            ShouldBeAsTold(new SlotReader(new ProcFs()).Inspect(target.Id, target.Threads), target, CLibrary.Glibc);
        });
    }

    [Fact]
    public void A_function_with_the_name_of_musls_beside_glibc_changes_nothing()
    {
        _scratch.Write("wrapper.c", "void CRYPTO_THREAD_clean_local(void) {} void *pthread_getspecific(unsigned key) { static void *values[8]; return values[key % 8]; }");
        Tools.Run("gcc", "-fPIC", "-shared", "-o", _scratch["libcrypto.so.3"], _scratch["wrapper.c"]);
        using SlotsTarget target = Start(CLibrary.Glibc, "library", _scratch["libcrypto.so.3"]);

        ShouldBeAsTold(_reader.Inspect(target.Id, target.Threads), target, CLibrary.Glibc);
    }

    [Fact]
    public void A_process_with_two_C_libraries_is_unsupported()
    {
        _scratch.Write("two.c", """
            #define _GNU_SOURCE
            #include <dlfcn.h>
            #include <pthread.h>
            #include <stdio.h>
            int main(void) { printf("%lx\n", dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW) ? pthread_self() : 0); fflush(stdout); return getchar() != EOF; }
            """);
        Tools.Run("gcc", "-o", _scratch["two"], _scratch["two.c"], "-ldl");
        using Process process = Tools.Start(_scratch["two"]);
        try
        {
            ulong thread = ulong.Parse(process.StandardOutput.ReadLine()!, System.Globalization.NumberStyles.HexNumber);
            thread.ShouldNotBe(0UL);
            ProcessId id = SlotsTarget.IdOf(process.Id);

            ProcessInspection found = _reader.Inspect(id, [new(id, process.Id, thread)]);

            found.Status.ShouldBe(InspectionStatus.Unsupported);
            found.Detail.ShouldContain("two C libraries");
        }
        finally
        {
            process.StandardInput.Close();
            process.WaitForExit();
        }
    }

    [Theory]
    [InlineData("7f0000000000-7f0000001000 rw-s 00000000 00:01 2052     /dev/zero (deleted)", "/dev/zero (deleted)")]
    [InlineData("7f0000000000-7f0000001000 rw-s 00000000 00:01 2052     /memfd:shm (deleted)", "/memfd:shm (deleted)")]
    [InlineData("7f0000000000-7f0000001000 rw-s 00000000 00:01 2052     /dev/shm/a\\012b", "/dev/shm/a?b")]
    [InlineData("7f0000000000-7f0000001000 rw-s 00000000 00:01 2052", "[2052]")]
    public void Shared_memory_is_called_what_the_kernel_calls_it(string line, string name) =>
        new MappedFiles(new ProcFs()).GetMemory(System.Text.Encoding.UTF8.GetBytes(line))
            .ShouldBe(new SharedMemory(name, 0x7f0000000000, 0x7f0000001000, 0, 1, 2052));

    [Fact]
    public void Ten_thousand_mappings_are_read_through()
    {
        using SlotsTarget target = Start(CLibrary.Glibc, "map", "10000");

        ShouldBeAsTold(_reader.Inspect(target.Id, target.Threads), target, CLibrary.Glibc);
    }

    [Fact]
    public void A_library_that_was_replaced_is_read_as_the_process_has_it()
    {
        Tools.Require(Environment.IsPrivilegedProcess, "root, to open a file that has no path any more");
        string path = SlotsTarget.Compile(_scratch, CLibrary.MuslStatic);
        using SlotsTarget target = SlotsTarget.Start(path);
        File.Delete(path);
        File.WriteAllText(path, "something else");

        ShouldBeAsTold(_reader.Inspect(target.Id, target.Threads), target, CLibrary.MuslStatic);
    }

    [Fact]
    public void A_pass_costs_no_second_look_at_a_file()
    {
        using SlotsTarget target = Start(CLibrary.Glibc, "fork", "20");
        _reader.BeginPass();
        _reader.Inspect(target.Id, target.Threads);
        long before = GC.GetAllocatedBytesForCurrentThread();
        foreach (ProcessId child in target.Children)
        {
            _reader.Inspect(child, target.ThreadsOf(child)).Status.ShouldBe(InspectionStatus.Inspected);
        }

        ((GC.GetAllocatedBytesForCurrentThread() - before) / target.Children.Count).ShouldBeLessThan(8 * 1024);
    }

    private static void ShouldBeAsTold(ProcessInspection found, SlotsTarget target, CLibrary library)
    {
        found.MainThreadSlots.Select(static slot => (slot.Key, slot.Value, slot.Owner)).ShouldBe(target.MainSlots.Select(told => (told.Key, told.Value, Owner(told))));
        found.MainThreadSlots.Where(slot => slot.Memory?.Start == target.SharedStart).Select(static slot => slot.Key)
            .ShouldBe(target.MainSlots.Where(static told => told.Shared).Select(static told => told.Key));
        found.MainThreadSlots.Where(static slot => slot.Memory is not null).ShouldAllBe(static slot => slot.Memory!.Name == "/dev/zero (deleted)");

        // musl's table of destructors has no name in a stripped library.
        SlotOwner Owner(ToldSlot told) => told.Owner switch
        {
            "none" => SlotOwner.Unnamed,
            _ when library == CLibrary.Musl => SlotOwner.Unnamed,
            "library" => SlotOwner.OpenSsl,
            _ => SlotOwner.Other,
        };
    }

    /// <summary>What the kernel side copies.</summary>
    private static (byte[] Blocks, uint BlocksRead) Copy(SlotsTarget target, ThreadStorageLayout layout)
    {
        byte[] blocks = new byte[SlotReader.CopiedBlocks * SlotReader.CopiedBlockSize];
        uint blocksRead = 0;
        ulong table = target.Threads[0].TlsBase + (ulong)layout.TableOffset;
        for (int i = 0; i < SlotReader.CopiedBlocks; i++)
        {
            byte[] pointer = new byte[8];
            ProcessMemory.TryRead(target.Id.Tgid, layout.Flat ? table : table + (8 * (ulong)i), pointer, out _).ShouldBeTrue();
            ulong at = BitConverter.ToUInt64(pointer) + (layout.Flat ? (ulong)(i * SlotReader.CopiedBlockSize) : 0);
            if (at >= SlotReader.CopiedBlockSize * SlotReader.CopiedBlocks
                && ProcessMemory.TryRead(target.Id.Tgid, at, blocks.AsSpan(i * SlotReader.CopiedBlockSize, SlotReader.CopiedBlockSize), out _))
            {
                blocksRead |= 1u << i;
            }
        }

        return (blocks, blocksRead);
    }

    private SlotsTarget Start(CLibrary library, params string[] arguments) => SlotsTarget.Start(SlotsTarget.Compile(_scratch, library), arguments);

    private string Gone(ProcessId process, IReadOnlyList<ThreadPointer> threads)
    {
        ProcessInspection found = _reader.Inspect(process, threads);
        found.Status.ShouldBe(InspectionStatus.Gone);
        return found.Detail;
    }
}
