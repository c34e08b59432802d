using System.Collections.Immutable;
using System.Diagnostics;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

/// <summary>The unwinder's process can do nothing, and nothing that it does reaches the agent.</summary>
public sealed class UnwinderIsolationTests : IDisposable
{
    private const ulong Magic = 0x6d69736265686176;
    private static readonly UnwinderOptions s_patient = new() { Deadline = TimeSpan.FromSeconds(20), StartsAtOnce = 1000 };
    private static readonly Lazy<byte[]> s_misbehaving = new(CompileMisbehaving);
    private readonly Scratch _scratch = new();
    private readonly List<CodeFile> _files = [];

    public void Dispose()
    {
        foreach (CodeFile file in _files)
        {
            file.Dispose();
        }

        _scratch.Dispose();
    }

    [Fact]
    public void The_process_has_no_right_no_descriptor_and_no_way_to_get_one()
    {
        using var unwinder = new Unwinder(s_patient);
        unwinder.Unwind(Space(File("x")), Registers()).End.ShouldBe(UnwindEnd.BadFile);

        int pid = unwinder.ProcessNumber!.Value;
        Dictionary<string, string> status = System.IO.File.ReadLines($"/proc/{pid}/status")
            .Select(static line => line.Split(':', 2)).ToDictionary(static words => words[0], static words => words[1].Trim());
        foreach (string set in (string[])["CapInh", "CapPrm", "CapEff", "CapAmb"])
        {
            status[set].ShouldBe("0000000000000000", set);
        }

        status["NoNewPrivs"].ShouldBe("1");
        status["Seccomp"].ShouldBe("2");
        if (Environment.IsPrivilegedProcess)
        {
            status["CapBnd"].ShouldBe("0000000000000000");
            status["Uid"].ShouldBe("65534\t65534\t65534\t65534");
            status["Gid"].ShouldBe("65534\t65534\t65534\t65534");
            status["Groups"].ShouldBeEmpty();
            Directory.GetFiles($"/proc/{pid}/fd").Select(static path => Path.GetFileName(path)).ShouldBe(["3"]);
            System.IO.File.ReadAllText($"/proc/{pid}/environ").ShouldBeEmpty();
            string limits = System.IO.File.ReadAllText($"/proc/{pid}/limits");
            limits.ShouldMatch(@"Max address space +268435456 +268435456");
            limits.ShouldMatch("Max core file size +0 +0");
            limits.ShouldMatch("Max file size +0 +0");
            limits.ShouldMatch("Max processes +0 +0");
            limits.ShouldMatch("Max open files +16 +16");
        }
    }

    [Fact]
    public void It_ends_with_its_owner()
    {
        var unwinder = new Unwinder(s_patient);
        unwinder.Unwind(Space(File("x")), Registers());
        int pid = unwinder.ProcessNumber!.Value;

        unwinder.Dispose();

        Directory.Exists($"/proc/{pid}").ShouldBeFalse();
        Should.Throw<ObjectDisposedException>(() => unwinder.Unwind(Space(File("x")), Registers()));
    }

    [Fact]
    public void It_outlives_the_thread_that_needed_it_first()
    {
        using var unwinder = new Unwinder(s_patient);
        AddressSpace space = Space(File("x"));
        var thread = new Thread(() => unwinder.Unwind(space, Registers()));
        thread.Start();
        thread.Join();

        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);

        unwinder.Restarts.ShouldBe(0);
    }

    [Fact]
    public void Without_root_it_works_as_well()
    {
        AddressSpace space = Space(File("x"));
        Tools.WithoutPrivilege(() =>
        {
            using var unwinder = new Unwinder(s_patient);
            unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
        });
    }

    [Theory]
    [InlineData(1, "open")]
    [InlineData(2, "socket")]
    [InlineData(3, "execve")]
    [InlineData(4, "clone")]
    [InlineData(5, "kill")]
    [InlineData(6, "mmap executable")]
    [InlineData(7, "mprotect executable")]
    [InlineData(8, "ptrace")]
    [InlineData(9, "write")]
    [InlineData(10, "sendmsg elsewhere")]
    [InlineData(11, "a 32-bit call")]
    [InlineData(16, "io_uring")]
    public void Whatever_it_tries_is_its_end(ulong what, string name)
    {
        using var unwinder = new Unwinder(s_patient, s_misbehaving.Value);
        AddressSpace space = Space(File("x"));
        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);

        UnwoundStack stack = unwinder.Unwind(space, Registers(Magic, what));

        stack.End.ShouldBe(UnwindEnd.Failed, name);
        stack.Detail.ShouldBe($"the unwinder died of signal 31 over {_scratch["x"]}");
        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
        unwinder.Restarts.ShouldBe(1);
        unwinder.Count(UnwindEnd.Failed).ShouldBe(1);
        unwinder.Count(UnwindEnd.BadFile).ShouldBe(2);
    }

    [Theory]
    [InlineData(12, "signal 31")] // abort() tries kill
    [InlineData(13, "signal 4")]
    [InlineData(15, "ran out of memory")]
    [InlineData(17, "signal 9")]
    public void Its_death_costs_one_answer(ulong what, string told)
    {
        using var unwinder = new Unwinder(s_patient, s_misbehaving.Value);
        AddressSpace space = Space(File("x"));

        unwinder.Unwind(space, Registers(Magic, what)).Detail.ShouldContain(told);

        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
    }

    [Fact]
    public void A_file_that_ended_it_twice_is_not_read_again()
    {
        using var unwinder = new Unwinder(s_patient, s_misbehaving.Value);
        CodeFile file = File("x");
        AddressSpace space = Space(file);
        AddressSpace other = Space(File("y"));
        for (int i = 0; i < 2; i++)
        {
            unwinder.Quarantined.ShouldBe(0);
            unwinder.Unwind(space, Registers());
            unwinder.Unwind(space, Registers(Magic, 1)).End.ShouldBe(UnwindEnd.Failed);
        }

        unwinder.Quarantined.ShouldBe(1);
        UnwoundStack stack = unwinder.Unwind(space, Registers());
        stack.End.ShouldBe(UnwindEnd.BadFile);
        stack.Detail.ShouldBe($"{file.Path}: the file ended the unwinder before, and is not read again");
        unwinder.Unwind(other, Registers()).Detail.ShouldContain("is no x86-64 ELF");
    }

    [Fact]
    public void One_that_hangs_is_ended_at_the_deadline()
    {
        using var unwinder = new Unwinder(new() { Deadline = TimeSpan.FromMilliseconds(200), StartsAtOnce = 100 }, s_misbehaving.Value);
        CodeFile file = File("x");
        AddressSpace space = Space(file);
        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
        int stopped = unwinder.ProcessNumber!.Value;
        Tools.Run("kill", "-STOP", $"{stopped}");
        long start = Stopwatch.GetTimestamp();

        UnwoundStack stack = unwinder.Unwind(space, Registers());

        Stopwatch.GetElapsedTime(start).ShouldBeLessThan(TimeSpan.FromSeconds(10));
        stack.End.ShouldBe(UnwindEnd.Failed);
        stack.Detail.ShouldBe("the unwinder took more than 0.2 s");
        Directory.Exists($"/proc/{stopped}").ShouldBeFalse();

        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
        unwinder.Unwind(space, Registers(Magic, 14)).Detail.ShouldBe($"the unwinder took more than 0.2 s over {file.Path}");
        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
    }

    [Fact]
    public void A_stopped_one_does_not_block_who_tells_it_to_forget()
    {
        using var unwinder = new Unwinder(s_patient);
        CodeFile file = File("x");
        AddressSpace space = Space(file);
        unwinder.Unwind(space, Registers());
        Tools.Run("kill", "-STOP", $"{unwinder.ProcessNumber}");

        for (int i = 0; i < 2000; i++)
        {
            unwinder.Forget(file);
            unwinder.Forget(space);
        }
    }

    [Fact]
    public void One_that_died_between_two_unwinds_is_replaced_unseen()
    {
        using var unwinder = new Unwinder(s_patient);
        AddressSpace space = Space(File("x"));
        unwinder.Unwind(space, Registers());
        int pid = unwinder.ProcessNumber!.Value;
        Tools.Run("kill", "-KILL", $"{pid}");
        SpinWait.SpinUntil(() => new ProcFs().ReadStat(pid) is not { Status: ProcStatus.Ok } stat || stat.Value.State == 'Z', TimeSpan.FromSeconds(10)).ShouldBeTrue();

        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);

        unwinder.Restarts.ShouldBe(1);
        unwinder.Count(UnwindEnd.Failed).ShouldBe(0);
    }

    [Fact]
    public void One_that_dies_again_and_again_is_held_back()
    {
        using var unwinder = new Unwinder(new() { StartsAtOnce = 3, StartEvery = TimeSpan.FromHours(1) }, s_misbehaving.Value);
        AddressSpace space = Space(File("x"));
        for (int i = 0; i < 3; i++)
        {
            unwinder.Unwind(space, Registers(Magic, 13)).Detail.ShouldContain("died of signal 4");
        }

        unwinder.Unwind(space, Registers()).Detail.ShouldContain("the unwinder died too often");
        unwinder.Restarts.ShouldBe(2);
    }

    [Fact]
    public void A_program_that_is_none_is_said()
    {
        using var unwinder = new Unwinder(s_patient, new byte[] { 1, 2, 3 });

        UnwoundStack stack = unwinder.Unwind(Space(File("x")), Registers());

        stack.End.ShouldBe(UnwindEnd.Failed);
        stack.Detail.ShouldBe("the unwinder cannot be started: errno 8");
    }

    [Theory]
    [MemberData(nameof(Lies))]
    public void A_lie_is_not_believed(ulong lie)
    {
        using var unwinder = new Unwinder(s_patient, s_misbehaving.Value);
        AddressSpace space = Space(File("x"));
        unwinder.Unwind(space, Registers());

        UnwoundStack stack = unwinder.Unwind(space, Registers(Magic, 100 + lie));

        stack.End.ShouldBe(UnwindEnd.Failed);
        stack.Detail.ShouldBe($"the unwinder's answer makes no sense over {_scratch["x"]}");
        unwinder.Unwind(space, Registers()).End.ShouldBe(UnwindEnd.BadFile);
    }

    public static IEnumerable<TheoryDataRow<ulong>> Lies() => Enumerable.Range(1, 21).Select(static lie => new TheoryDataRow<ulong>((ulong)lie));

    [Fact]
    public void A_lie_without_a_flaw_is_taken_and_fit_to_be_shown()
    {
        AddressSpace space = Space(File("x"));
        using var plain = new Unwinder(s_patient, s_misbehaving.Value);
        plain.Unwind(space, Registers(Magic, 100)).End.ShouldBe(UnwindEnd.UnknownCode);
        using var unwinder = new Unwinder(s_patient, s_misbehaving.Value);

        UnwoundStack stack = unwinder.Unwind(space, Registers(Magic, 122));

        stack.Frames.Single().Function.ShouldBe("?\ufffd?\ufffdz");
    }

    [Theory]
    [InlineData("many segments")]
    [InlineData("many sections")]
    [InlineData("huge sections")]
    [InlineData("compressed sections")]
    [InlineData("sparse file")]
    [InlineData("endless unwind table")]
    public void A_file_that_is_a_bomb_is_bounded(string kind)
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        byte[] image = System.IO.File.ReadAllBytes(first);
        ElfBomb.Arm(kind, ref image);
        System.IO.File.WriteAllBytes(first + ".bomb", image);
        if (kind == "sparse file")
        {
            using FileStream stream = System.IO.File.OpenWrite(first + ".bomb");
            stream.SetLength(1L << 40);
        }

        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first");
        AddressSpace code = target.Code();
        CodeFile bomb = Open(first + ".bomb");
        AddressSpace spoiled = AddressSpace.Create(code.Mappings.Select(mapping => mapping.File.Path == first ? mapping with { File = bomb } : mapping));
        using var unwinder = new Unwinder(s_patient);
        long start = Stopwatch.GetTimestamp();

        UnwoundStack stack = unwinder.Unwind(spoiled, target.Copy());

        Stopwatch.GetElapsedTime(start).ShouldBeLessThan(TimeSpan.FromSeconds(10));
        stack.End.ShouldNotBe(UnwindEnd.Failed, stack.Detail);
        target.ShouldHaveTrueFrames(stack, Math.Min(stack.Frames.Length, target.Truth.Length));
        Resident(unwinder).ShouldBeLessThan(32 << 20);
    }

    [Fact]
    public void Memory_stays_bounded_whatever_is_seen()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "deep=5");
        AddressSpace code = target.Code();
        using var unwinder = new Unwinder(s_patient);
        for (int i = 0; i < 700; i++)
        {
            // Other descriptors of the same files: all is new to the unwinder.
            AddressSpace again = AddressSpace.Create(code.Mappings.Select(mapping => mapping with { File = Open(mapping.File.Path) }));
            UnwoundStack stack = unwinder.Unwind(again, target.Copy());
            stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
            target.ShouldHaveTrueFrames(stack);
        }

        Resident(unwinder).ShouldBeLessThan(128 << 20);
        unwinder.Restarts.ShouldBe(0);
    }

    [Fact]
    public void Limits_are_the_callers_to_keep()
    {
        Should.Throw<ArgumentException>(() => new StackCopy([1, 2], []));
        Should.Throw<ArgumentException>(() => new StackCopy([.. new ulong[17]], [new(0, new byte[StackCopy.MaxBytes + 1], default)]));
        Should.Throw<ArgumentException>(() => new StackCopy([.. new ulong[17]], [default, default, default]));

        using var unwinder = new Unwinder(s_patient);
        var most = new StackCopy([.. Registers().Registers], [new(0, new byte[StackCopy.MaxBytes], new byte[64])]);
        unwinder.Unwind(Space(File("x")), most).End.ShouldBe(UnwindEnd.BadFile);
        CodeFile file = File("x");
        AddressSpace largest = AddressSpace.Create(Enumerable.Range(1, 5000).Select(i => new CodeMapping((ulong)i << 12, (ulong)(i + 1) << 12, 0, file)));
        largest.Mappings.Length.ShouldBe(AddressSpace.MaxMappings);
        unwinder.Unwind(largest, most).End.ShouldBe(UnwindEnd.BadFile);
    }

    [Fact]
    public void A_file_that_was_closed_too_early_is_a_bad_one()
    {
        using var unwinder = new Unwinder(s_patient);
        CodeFile file = File("x");
        file.Dispose();

        unwinder.Unwind(Space(file), Registers()).Detail.ShouldContain("the file is kept from the unwinder");
    }

    private static long Resident(Unwinder unwinder) => System.IO.File.ReadLines($"/proc/{unwinder.ProcessNumber}/status")
        .Where(static line => line.StartsWith("VmHWM:", StringComparison.Ordinal)).Select(static line => long.Parse(line.Split(' ')[^2]) * 1024).Single();

    private static byte[] CompileMisbehaving()
    {
        using var scratch = new Scratch();
        string folder = Path.GetFullPath($"{Tools.Targets}/../../agent/unwinder");
        Tools.Run("make", "--no-print-directory", "-s", "-C", folder, $"OUTPUT={scratch["unwinder"]}", "EXTRA=-DKAMOTEL_UNWIND_TEST");
        return System.IO.File.ReadAllBytes(scratch["unwinder"]);
    }

    private static AddressSpace Space(CodeFile file) => AddressSpace.Create([new(0x1000, 0x2000, 0, file)]);

    private static StackCopy Registers(ulong first = 0, ulong second = 0) =>
        new([first, second, .. Enumerable.Repeat(0ul, 14), 0x1234], []);

    private CodeFile File(string name) => Open(_scratch.Write(name, "no ELF"));

    private CodeFile Open(string path)
    {
        SafeFileHandle handle = RegularFile.Open(path).Value;
        var file = new CodeFile(handle, path, FileKey.Of(handle).Value, deleted: false);
        _files.Add(file);
        return file;
    }
}
