using System.Diagnostics;
using System.Text;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ProcFsTests : IDisposable
{
    private static readonly ProcFs Proc = new();
    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void This_process_is_found_with_its_threads_and_its_identity()
    {
        int self = Environment.ProcessId;

        Proc.Processes().ShouldContain(self);
        Proc.Processes().ShouldBeUnique();
        ProcessStat stat = Proc.ReadStat(self).Value;
        stat.Id.Tgid.ShouldBe(self);
        stat.ParentPid.ShouldBeGreaterThan(0);
        stat.Threads.ShouldBeGreaterThan(1);
        Proc.ReadThreads(self).Value.ShouldContain(self);
        stat.Name.ShouldBe(TaskName.From(File.ReadAllText($"/proc/{self}/comm").TrimEnd('\n')));
        BootClock.Sample().ToTime(stat.Id.StartTicks * ProcessId.NanosecondsPerTick).LocalDateTime
            .ShouldBe(Process.GetCurrentProcess().StartTime, TimeSpan.FromSeconds(1));
        Proc.ExecutablePath(self).Value.ShouldBe(Environment.ProcessPath);
    }

    [Theory]
    [InlineData("x) R 7 (y")]
    [InlineData("(((")]
    [InlineData(")))")]
    [InlineData("a b\nc 1 2 3")]
    [InlineData(") Z 1 1 1 1")]
    [InlineData("ünï")]
    public void A_program_may_be_called_anything(string name)
    {
        string path = _scratch[name];
        File.Copy("/bin/sleep", path);
        using Process process = Tools.Start(path, "60");
        try
        {
            ProcessStat stat = Eventually(() => Proc.ReadStat(process.Id).Value is { } s && s.Name == TaskName.From(name) ? s : null);

            stat.Id.Tgid.ShouldBe(process.Id);
            stat.ParentPid.ShouldBe(Environment.ProcessId);
            stat.Threads.ShouldBe(1);
            stat.State.ShouldBeOneOf('S', 'R', 'D');
            Proc.ExecutablePath(process.Id).Value.ShouldBe(path);
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("7")]
    [InlineData("7 (a")]
    [InlineData("7 )a(")]
    [InlineData("8 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0")]
    [InlineData("7 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1")]
    [InlineData("7 (a) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 -5 0")]
    [InlineData("7 (a) S -1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0")]
    [InlineData("7 (a) SS 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 500 0")]
    public void A_stat_that_makes_no_sense_is_malformed(string text)
    {
        _scratch.Write("7/stat", text);

        ProcOutcome<ProcessStat> outcome = new ProcFs(_scratch.Folder).ReadStat(7);

        outcome.Status.ShouldBe(ProcStatus.Malformed);
        outcome.Detail.ShouldContain("/7/stat");
        Should.Throw<InvalidOperationException>(() => outcome.Value);
    }

    [Fact]
    public void A_mapping_is_read_whole()
    {
        Parse("7f1b2c000000-7f1b2c021000 r-xp 00042000 fe:1f 1234567                    /usr/lib/libcrypto.so.3").ShouldBe(new Mapping(
            0x7f1b2c000000, 0x7f1b2c021000, MappingAccess.Read | MappingAccess.Execute, 0x42000, 0xfe, 0x1f, 1234567, "/usr/lib/libcrypto.so.3", Deleted: false));
        Parse("7f0000000000-7f0004000000 rw-s 00000000 00:01 2052                       /dev/zero (deleted)").ShouldBe(new Mapping(
            0x7f0000000000, 0x7f0004000000, MappingAccess.Read | MappingAccess.Write | MappingAccess.Shared, 0, 0, 1, 2052, "/dev/zero", Deleted: true));
        Parse("7f0000000000-7f0000001000 ---p 00000000 00:00 0 ").ShouldBe(new Mapping(0x7f0000000000, 0x7f0000001000, MappingAccess.None, 0, 0, 0, 0, null, Deleted: false));
        Parse("ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]")!.IsCode.ShouldBeFalse();
    }

    [Theory]
    [InlineData("/a b  c/d (deleted) e", "/a b  c/d (deleted) e", false)]
    [InlineData("/line\\012end", "/line\nend", false)]
    [InlineData("/back\\slash\\040", "/back\\slash\\040", false)]
    [InlineData("/7f00-8000 r-xp 00 00:00 1 /x", "/7f00-8000 r-xp 00 00:00 1 /x", false)]
    [InlineData("/x (deleted) (deleted)", "/x (deleted)", true)]
    [InlineData("/memfd:jit (deleted)", "/memfd:jit", true)]
    [InlineData("[stack]", "[stack]", false)]
    public void A_mapped_file_may_be_called_anything(string written, string path, bool deleted)
    {
        Mapping mapping = Parse($"1000-2000 r-xp 00000000 08:01 99     {written}").ShouldNotBeNull();

        mapping.Path.ShouldBe(path);
        mapping.Deleted.ShouldBe(deleted);
    }

    [Theory]
    [InlineData("")]
    [InlineData("1000")]
    [InlineData("1000-")]
    [InlineData("2000-1000 r-xp 00000000 08:01 99 /x")]
    [InlineData("1000-2000 r-x")]
    [InlineData("1000-2000 r-xpp 00000000 08:01 99 /x")]
    [InlineData("1000-2000 r-xp 0 8")]
    [InlineData("1000-2000 r-xp 0 100000000:01 99 /x")]
    [InlineData("10000000000000000-20000000000000000 r-xp 0 08:01 99 /x")]
    [InlineData("1000-2000 r-xp 0 08:01 99/x")]
    public void A_line_that_makes_no_sense_is_malformed(string line)
    {
        Parse(line).ShouldBeNull();
        _scratch.Write("7/maps", $"1000-2000 r-xp 00000000 08:01 99 /good\n{line}\n");

        ProcOutcome<System.Collections.Immutable.ImmutableArray<Mapping>> outcome = new ProcFs(_scratch.Folder).ReadMaps(7);

        outcome.Status.ShouldBe(ProcStatus.Malformed);
        outcome.Detail.ShouldContain("line 2");
    }

    [Fact]
    public void Maps_of_any_length_are_read_as_a_stream()
    {
        var text = new StringBuilder();
        for (int i = 0; i < 5000; i++)
        {
            text.Append($"{i:x}000-{i:x}fff {(i % 2 == 0 ? "r-xp" : "rw-p")} 00000000 08:01 {i + 1}     /{new string('n', i % 300)}\n");
        }

        _scratch.Write("7/maps", text.ToString());
        var proc = new ProcFs(_scratch.Folder);
        proc.ReadMaps(7).Value.Select(static m => m.Inode).ShouldBe(Enumerable.Range(1, 5000).Select(static i => (ulong)i));
        proc.ReadMaps(7, onlyCode: true).Value.Length.ShouldBe(2500);

        _scratch.Write("7/maps", text + "1000-2000 r-xp 00000000 08:01 99 /cut");
        proc.ReadMaps(7).Status.ShouldBe(ProcStatus.Malformed);
        _scratch.Write("7/maps", $"1000-2000 r-xp 00000000 08:01 99 /{new string('n', 70_000)}\n");
        proc.ReadMaps(7).Status.ShouldBe(ProcStatus.Malformed);
        _scratch.Write("7/maps", string.Concat(Enumerable.Repeat("1000-2000 r-xp 0 08:01 9 /x\n", ProcFs.MaxMappings + 1)));
        proc.ReadMaps(7).Status.ShouldBe(ProcStatus.Unavailable);
    }

    [Fact]
    public void A_deleted_library_is_opened_by_its_mapping()
    {
        Tools.Run("gcc", "-o", _scratch["map_library"], $"{Tools.Targets}/map_library.c", "-ldl");
        string folder = Directory.CreateDirectory(_scratch["od d\n(deleted)\\"]).FullName;
        string path = Tools.CompileLibrary(Path.Combine(folder, "tiny.so"));
        ElfFunction truth;
        FileKey identity;
        using (SafeFileHandle file = File.OpenHandle(path))
        {
            truth = ElfFile.Open(file).Value.FindFunctions(["plain_function"]).Value.Found.ShouldHaveSingleItem();
            identity = FileKey.Of(file).Value;
        }

        using Process process = Tools.Start(_scratch["map_library"], path);
        try
        {
            process.StandardOutput.ReadLine().ShouldBe("ready");
            Mapping before = Proc.ReadMaps(process.Id, onlyCode: true).Value.Single(m => m.Path == path);
            before.Deleted.ShouldBeFalse();
            Proc.OpenRooted(process.Id, path).TryGet(out SafeFileHandle? present).ShouldBeTrue();
            using (present)
            {
                FileKey.Of(present!).Value.ShouldBe(identity);
            }

            // As an upgrade does it: another file at the same path.
            File.Delete(path);
            File.WriteAllText(path, "something else");

            Mapping mapping = Proc.ReadMaps(process.Id).Value.Single(m => m.Path == path && m.IsCode);
            mapping.Deleted.ShouldBeTrue();
            ProcOutcome<SafeFileHandle> outcome = Proc.OpenMapping(process.Id, mapping.Start, mapping.End);
            outcome.Detail.ShouldBeEmpty();
            using SafeFileHandle gone = outcome.Value;
            // Only the time of the inode's last change differs: the removal changed it.
            (FileKey.Of(gone).Value with { ChangedNs = identity.ChangedNs }).ShouldBe(identity);
            identity.Inode.ShouldBe(mapping.Inode);
            ElfFile.Open(gone).Value.FindFunctions(["plain_function"]).Value.Found.ShouldHaveSingleItem().ShouldBe(truth);
            Proc.OpenMapping(process.Id, mapping.Start, mapping.End + 0x1000).Status.ShouldBe(ProcStatus.Gone);
        }
        finally
        {
            process.StandardInput.Close();
            process.WaitForExit();
        }
    }

    [Fact]
    public void A_vanished_process_is_no_exception()
    {
        using Process process = Tools.Start("/bin/true");
        process.WaitForExit();
        int pid = process.Id;
        int thread = Environment.CurrentManagedThreadId;
        int exceptions = 0;
        void Count(object? sender, System.Runtime.ExceptionServices.FirstChanceExceptionEventArgs e) =>
            exceptions += Environment.CurrentManagedThreadId == thread ? 1 : 0;

        AppDomain.CurrentDomain.FirstChanceException += Count;
        try
        {
            Proc.ReadStat(pid).Status.ShouldBe(ProcStatus.Gone);
            Proc.ReadMaps(pid).Status.ShouldBe(ProcStatus.Gone);
            Proc.ReadThreads(pid).Status.ShouldBe(ProcStatus.Gone);
            Proc.ExecutablePath(pid).Status.ShouldBe(ProcStatus.Gone);
            Proc.OpenRooted(pid, "/etc/passwd").Status.ShouldBe(ProcStatus.Gone);
            Proc.OpenMapping(pid, 0x1000, 0x2000).Status.ShouldBe(ProcStatus.Gone);
            TargetName.Of(Proc, new ProcessId(pid, 1)).Status.ShouldBe(ProcStatus.Gone);
        }
        finally
        {
            AppDomain.CurrentDomain.FirstChanceException -= Count;
        }

        exceptions.ShouldBe(0);
    }

    [Fact]
    public void Without_privilege_the_remedy_is_told()
    {
        Tools.WithoutPrivilege(static () =>
        {
            ProcOutcome<System.Collections.Immutable.ImmutableArray<Mapping>> maps = Proc.ReadMaps(1);
            maps.Status.ShouldBe(ProcStatus.Denied);
            maps.Detail.ShouldContain("CAP_SYS_PTRACE");
            Proc.OpenRooted(1, "/etc/passwd").Status.ShouldBe(ProcStatus.Denied);
            Proc.OpenMapping(1, 0x1000, 0x2000).Status.ShouldBe(ProcStatus.Denied);
            Proc.ReadStat(1).Status.ShouldBe(ProcStatus.Ok);
        });
    }

    [Fact]
    public void No_proc_file_system_is_an_error_that_says_so()
    {
        Should.Throw<IOException>(() => new ProcFs(_scratch["nothing"]).Processes()).Message.ShouldContain("should be mounted there");
    }

    private static Mapping? Parse(string line) => Mapping.Parse(Encoding.UTF8.GetBytes(line));

    private static T Eventually<T>(Func<T?> look)
        where T : class
    {
        for (var clock = Stopwatch.StartNew(); clock.Elapsed < TimeSpan.FromSeconds(10); Thread.Sleep(5))
        {
            if (look() is { } found)
            {
                return found;
            }
        }

        throw new TimeoutException("it did not happen");
    }
}
