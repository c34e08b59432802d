using System.Runtime.Versioning;
using System.Text;
using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

/// <summary>Files that are renewed under a running agent.</summary>
[SupportedOSPlatform("linux")]
public sealed class RereadFilesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("kamotel-test.").FullName;
    private readonly ManualTime _time = new();
    private readonly List<string> _told = [];

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_change_is_used_within_a_second_and_told()
    {
        RereadFiles<string> files = Read("one", "two");
        files.Current.ShouldBe("one two");
        Write("a", "three");
        files.Current.ShouldBe("one two", "nobody looks again so soon");
        Second();
        files.Current.ShouldBe("three two");
        _told.ShouldBe([$"{_folder}/a and {_folder}/b"]);
        Second();
        files.Current.ShouldBe("three two");
        _told.Count.ShouldBe(1);
    }

    [Fact]
    public void A_path_that_leads_elsewhere_is_a_change()
    {
        // As Kubernetes renews a secret: the link that the path goes through is replaced.
        Directory.CreateDirectory(Path.Combine(_folder, "1"));
        Directory.CreateDirectory(Path.Combine(_folder, "2"));
        Write("1/f", "old");
        Write("2/f", "new");
        File.CreateSymbolicLink(Path.Combine(_folder, "data"), "1");
        File.CreateSymbolicLink(Path.Combine(_folder, "f"), "data/f");
        var files = new RereadFiles<string>([new NamedFile(Path.Combine(_folder, "f"), "--f")], Make, _time);
        files.Current.ShouldBe("old");
        File.Delete(Path.Combine(_folder, "data"));
        File.CreateSymbolicLink(Path.Combine(_folder, "data"), "2");
        Second();
        files.Current.ShouldBe("new");
    }

    [Fact]
    public void What_cannot_be_used_leaves_the_old_and_is_told_once()
    {
        RereadFiles<string> files = Read("one", "two");
        Write("a", "bad");
        for (int i = 0; i < 5; i++)
        {
            Second();
            files.Current.ShouldBe("one two");
        }
        _told.ShouldBe(["that is bad; what was there before is still used"]);
        File.Delete(Path.Combine(_folder, "a"));
        for (int i = 0; i < 5; i++)
        {
            Second();
            files.Current.ShouldBe("one two");
        }
        _told.Count.ShouldBe(2);
        _told[1].ShouldBe($"{_folder}/a (--a) is not there: make it, or name another file; what was there before is still used");
        Write("a", "four");
        Second();
        files.Current.ShouldBe("four two");
        Write("a", "bad");
        Second();
        _ = files.Current;
        Second();
        _ = files.Current;
        _told.Count.ShouldBe(4, "the renewal, and the next bad one");
    }

    [Fact]
    public void Half_of_a_renewal_is_not_complained_of()
    {
        RereadFiles<string> files = Read("one", "two");
        Write("a", "bad");
        Second();
        files.Current.ShouldBe("one two");
        Write("a", "three");
        Write("b", "four");
        Second();
        files.Current.ShouldBe("three four");
        _told.ShouldBe([$"{_folder}/a and {_folder}/b"]);
    }

    [Fact]
    public void At_the_start_there_is_no_old_to_use()
    {
        Write("bad", "bad");
        Should.Throw<UsageException>(() => Of("bad")).Message.ShouldBe("that is bad");
        Should.Throw<IOException>(() => Of("missing")).Message.ShouldContain("missing (--f) is not there");
        Should.Throw<IOException>(() => new RereadFiles<string>([new NamedFile(_folder, "--f")], Make, _time)).Message.ShouldContain("it is a directory");
        Write("large", new string('x', (1 << 20) + 1));
        Should.Throw<IOException>(() => Of("large")).Message.ShouldContain("larger than");
        Should.Throw<IOException>(() => new RereadFiles<string>([new NamedFile("/dev/tty", "--f")], Make, _time));
    }

    [Fact]
    public void A_file_that_may_not_be_read_says_so()
    {
        Write("secret", "one");
        File.SetUnixFileMode(Path.Combine(_folder, "secret"), UnixFileMode.UserWrite);
        File.SetUnixFileMode(_folder, (UnixFileMode)Convert.ToInt32("755", 8));
        Linux.Tools.WithoutPrivilege(() => Should.Throw<IOException>(() => Of("secret")).Message.ShouldContain("let the user that kamotel runs as read it"));
    }

    [Theory]
    [InlineData("600", false)]
    [InlineData("640", false)]
    [InlineData("644", true)]
    public void A_key_that_everybody_can_read_is_told(string mode, bool told)
    {
        Write("key", "x");
        File.SetUnixFileMode(Path.Combine(_folder, "key"), (UnixFileMode)Convert.ToInt32(mode, 8));
        new NamedFile(Path.Combine(_folder, "key"), "--tls-key").IsExposed().ShouldBe(told);
    }

    private RereadFiles<string> Of(string name) => new([new NamedFile(Path.Combine(_folder, name), "--f")], Make, _time);

    private RereadFiles<string> Read(string a, string b)
    {
        Write("a", a);
        Write("b", b);
        return new RereadFiles<string>([new NamedFile(Path.Combine(_folder, "a"), "--a"), new NamedFile(Path.Combine(_folder, "b"), "--b")], Make, _time)
        {
            Complaints = _told.Add,
            Renewals = _told.Add,
        };
    }

    private static string Make(IReadOnlyList<byte[]> content)
    {
        string text = string.Join(' ', content.Select(Encoding.UTF8.GetString));
        return text.Contains("bad", StringComparison.Ordinal) ? throw new UsageException("that is bad") : text;
    }

    private void Second() => _time.Advance(TimeSpan.FromSeconds(1));

    private void Write(string name, string text) => File.WriteAllText(Path.Combine(_folder, name), text);
}
