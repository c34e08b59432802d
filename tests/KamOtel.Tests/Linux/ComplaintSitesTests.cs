using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using CsCheck;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ComplaintSitesTests : IDisposable
{
    private const string Kamailio = "/usr/sbin/kamailio";
    private const string Modules = "/usr/lib/x86_64-linux-gnu/kamailio/modules";
    private readonly Scratch _scratch = new();
    private readonly List<SafeFileHandle> _open = [];

    public void Dispose()
    {
        _open.ForEach(static file => file.Dispose());
        _scratch.Dispose();
    }

    [Fact]
    public void Every_complaint_of_the_core_is_found_in_all_its_variants()
    {
        ComplaintSites found = Find(Kamailio);
        found.Lost.ShouldBe(0);
        ComplaintKind[] kinds = [.. found.Sites.SelectMany(static s => s.Messages).Select(static m => m.Format.Kind)];
        // Each message has a variant for its own log function, one for syslog and one for a stream.
        foreach ((ComplaintKind kind, string pattern) in new[]
        {
            (ComplaintKind.AlreadyFreed, "already freed pointer"),
            (ComplaintKind.Overwritten, "(beginning|end) overwritten \\(%lx|(beginning|end) overwritten\\(%lx.*!$|tail overwritten\\("),
            (ComplaintKind.BadPointer, "bad pointer %p"),
            (ComplaintKind.BadFragment, "bad size: %lu|size in qm_frag|different free frag"),
            (ComplaintKind.OutOfSharedMemory, "could not allocate shared memory"),
        })
        {
            int texts = Texts(Kamailio).Count(text => Regex.IsMatch(text, pattern, RegexOptions.None, TimeSpan.FromSeconds(1))
                && !text.StartsWith("%2d", StringComparison.Ordinal) && !text.StartsWith("         *", StringComparison.Ordinal));
            texts.ShouldBeGreaterThan(0, kind.ToString());
            kinds.Count(k => k == kind).ShouldBeGreaterThanOrEqualTo(3 * texts, kind.ToString());
        }
    }

    [Fact]
    public void A_site_is_a_call_and_its_format_is_that_of_a_complaint()
    {
        foreach (string path in new[] { Kamailio, $"{Modules}/tls.so", $"{Modules}/tm.so", $"{Modules}/dialog.so" })
        {
            ElfFile elf = ElfFile.Open(Open(path)).Value;
            string[] code = Tools.Run("objdump", "-d", "--no-show-raw-insn", path).Split('\n');
            Dictionary<ulong, string> instructions = code.Select(static line => line.Split('\t')).Where(static cells => cells.Length >= 2)
                .ToDictionary(static cells => ulong.Parse(cells[0].Trim(' ', ':'), NumberStyles.HexNumber, CultureInfo.InvariantCulture), static cells => cells[1]);
            ComplaintSites found = Find(path);
            found.Sites.ShouldNotBeEmpty();
            foreach (ComplaintSite site in found.Sites)
            {
                instructions[site.Address].ShouldStartWith("call", Case.Sensitive, $"{path} 0x{site.Address:x}");
                elf.Segments.ToFileOffset(site.Address, 1, executable: true).ShouldBe(site.FileOffset);
                foreach (ComplaintMessage message in site.Messages)
                {
                    string format = TextAt(elf, message.FormatAddress);
                    ComplaintTexts.All.ShouldContain(t => t.Kind == message.Format.Kind && format.Contains(t.Text, StringComparison.Ordinal), format);
                    format.ShouldNotContain("         * ");
                    format.ShouldNotContain("- fragment marked by");
                }
            }
        }
    }

    [Fact]
    public void No_module_that_is_installed_has_a_complaint_that_cannot_be_followed()
    {
        Tools.Require(Directory.Exists(Modules), Modules);
        string[] paths = Directory.GetFiles(Modules, "*.so");
        (string Path, ComplaintSites Sites)[] found = [.. paths.Select(static path => (path, Find(path)))];
        found.Where(static f => f.Sites.Lost > 0).ShouldBeEmpty();
        found.Count(static f => !f.Sites.Sites.IsEmpty).ShouldBeGreaterThan(50);
        // Damage is the core's to find.
        found.SelectMany(static f => f.Sites.Sites).SelectMany(static s => s.Messages).ShouldAllBe(static m => m.Format.Kind == ComplaintKind.OutOfSharedMemory);
    }

    [Theory]
    [InlineData("shared memory was not initialized\n")]
    [InlineData("         * beginning overwritten(%lx)!\n")]
    [InlineData("BUG: qm: prev. fragm. tail overwritten [%p:%p] - fragment marked by %s:%lu\n")]
    [InlineData("nc_array_size (%ld) is too big for the configured amount of shared memory (%ld bytes <= %ld bytes)\n")]
    [InlineData("bad shmem size number: -m %s\n")]
    [InlineData("could not allocate private memory from pkg pool\n")]
    [InlineData("could not initialize qm shm memory pool\n")]
    public void What_only_mentions_such_words_is_no_complaint(string text) =>
        ComplaintTexts.All.ShouldNotContain(t => text.Contains(t.Text, StringComparison.Ordinal));

    [Fact]
    public void Every_text_has_a_mark_and_none_hides_another()
    {
        foreach (ComplaintText text in ComplaintTexts.All)
        {
            ComplaintTexts.Marks.ShouldContain(mark => text.Text.Contains(Encoding.ASCII.GetString(mark), StringComparison.Ordinal), text.Text);
            ComplaintTexts.All.ShouldNotContain(other => other != text && text.Text.Contains(other.Text, StringComparison.Ordinal), text.Text);
        }
    }

    [Fact]
    public void A_program_without_such_messages_has_no_sites() => Find("/bin/true").Sites.ShouldBeEmpty();

    [Fact]
    public void A_call_behind_a_branch_is_not_taken_for_one_that_logs()
    {
        string source = _scratch.Write("branch.c", """
            extern void log_it(const char *format, int a);
            void may(int a)
            {
                __asm__ volatile("lea %0, %%rdi\n test %1, %1\n je 1f\n call log_it@plt\n1:" : : "m"(*"no more shm mem"), "r"(a) : "rdi", "memory");
            }
            """);
        _ = Tools.Run("gcc", "-O2", "-shared", "-fPIC", "-o", _scratch["branch.so"], source);
        ComplaintSites found = Find(_scratch["branch.so"]);
        found.Sites.ShouldBeEmpty();
        found.Lost.ShouldBe(1);
    }

    [Fact]
    public void A_spoiled_file_never_throws_and_costs_bounded_work()
    {
        string path = _scratch["tls.so"];
        byte[] good = File.ReadAllBytes($"{Modules}/tls.so");
        Gen.Select(Gen.Int[0, good.Length - 9], Gen.ULong, Gen.Int[0, 2], Gen.Int[64, 4096]).Sample((at, value, how, cut) =>
        {
            byte[] bytes = [.. good];
            switch (how)
            {
                case 0: // somewhere
                    BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(at), value);
                    break;
                case 1: // in the headers
                    BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16 + (at % 700)), value);
                    break;
                default:
                    bytes = bytes[..Math.Min(bytes.Length, cut * 64)];
                    break;
            }
            File.WriteAllBytes(path, bytes);
            using SafeFileHandle file = File.OpenHandle(path);
            if (ComplaintSites.Find(file).TryGet(out ComplaintSites? sites, out ElfError? error))
            {
                sites.Sites.Length.ShouldBeLessThan(4096);
            }
            else
            {
                error.Message.ShouldNotBeEmpty();
            }
        }, iter: 300, threads: 1);
    }

    private static string[] Texts(string path) => Tools.Run("strings", "-n", "8", path).Split('\n', StringSplitOptions.RemoveEmptyEntries);

    private static string TextAt(ElfFile elf, ulong address)
    {
        var text = new StringBuilder();
        byte[] one = new byte[1];
        for (; elf.ReadAddress(address, one, "a text") is null && one[0] != 0; address++)
        {
            _ = text.Append((char)one[0]);
        }
        return text.ToString();
    }

    private SafeFileHandle Open(string path)
    {
        SafeFileHandle file = File.OpenHandle(path);
        _open.Add(file);
        return file;
    }

    private static ComplaintSites Find(string path)
    {
        Tools.Require(File.Exists(path), path);
        using SafeFileHandle file = File.OpenHandle(path);
        return ComplaintSites.Find(file).Value;
    }
}
