using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class LibraryScanTests : IDisposable
{
    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void The_hosts_own_libcrypto_is_found_once_and_without_links()
    {
        ScanResult result = new LibraryScan().Libraries([]);

        Tools.Require(!result.Paths.IsEmpty, "libcrypto");
        result.Paths.ShouldBeUnique();
        result.Paths.ShouldBe(result.Paths.Order(StringComparer.Ordinal));
        foreach (string path in result.Paths)
        {
            Tools.Run("realpath", path).TrimEnd('\n').ShouldBe(path);
        }
    }

    [Fact]
    public void Every_directory_of_the_loader_is_searched()
    {
        string[] files =
        [
            "usr/lib/x86_64-linux-gnu/libcrypto.so.3",
            "usr/lib/x86_64-linux-gnu/glibc-hwcaps/x86-64-v3/libcrypto.so.3",
            "usr/local/lib/libcrypto.so.1.1",
            "lib64/libcrypto.so.10",
            "opt/ssl/lib/libcrypto.so.3",
            "opt/other/libcrypto.so.81.3",
            "opt/deep/libcrypto.so",
            "srv/python/cryptography.libs/libcrypto-81d66ed9.so.3",
        ];
        foreach (string file in files)
        {
            _scratch.Write(file, string.Empty);
        }

        _scratch.Write("usr/lib/libcrypto.a", string.Empty);
        _scratch.Write("usr/lib/libssl.so.3", string.Empty);
        _scratch.Write("nowhere/libcrypto.so.3", string.Empty);
        Directory.CreateDirectory(_scratch["usr/lib/libcrypto.so.dir"]);
        _scratch.Write("etc/ld.so.conf", "# a comment\ninclude ld.so.conf.d/*.conf /etc/m?re/*.conf\nhwcap 0 nosegneg\n/opt/ssl/lib=libc6 # why\nrelative/path\n");
        _scratch.Write("etc/ld.so.conf.d/b.conf", "/opt/other:/missing,/opt/ssl/lib\r\n");
        _scratch.Write("etc/ld.so.conf.d/.hidden.conf", "/nowhere\n");
        _scratch.Write("etc/ld.so.conf.d/b.conf.disabled", "/nowhere\n");
        _scratch.Write("etc/more/a.conf", "\tinclude\t../ld.so.conf\n/opt/deep\n");
        File.CreateSymbolicLink(_scratch["usr/lib/x86_64-linux-gnu/libcrypto.so"], "libcrypto.so.3");
        File.CreateSymbolicLink(_scratch["usr/lib/libcrypto.so.3"], "/usr/lib/x86_64-linux-gnu/libcrypto.so.3");
        File.CreateSymbolicLink(_scratch["lib"], "usr/lib");

        ScanResult result = new LibraryScan(_scratch.Folder).Libraries(["/srv/python/cryptography.libs"]);

        result.Paths.ShouldBe(files.Select(file => _scratch[file]).Order(StringComparer.Ordinal));
        result.Warnings.ShouldBeEmpty();
        new LibraryScan(_scratch.Folder + "/").Libraries(["/opt/deep"], systemDirectories: false).Paths.ShouldBe([_scratch["opt/deep/libcrypto.so"]]);
    }

    [Fact]
    public void What_cannot_be_looked_at_is_a_warning()
    {
        _scratch.Write("etc/ld.so.conf", "include /etc/ld.so.conf /etc/level1.conf\n");
        for (int i = 1; i < 20; i++)
        {
            _scratch.Write($"etc/level{i}.conf", $"include /etc/level{i + 1}.conf\n");
        }

        Directory.CreateDirectory(_scratch["usr/lib"]);
        File.CreateSymbolicLink(_scratch["usr/lib/libcrypto.so.3"], "circle");
        File.CreateSymbolicLink(_scratch["usr/lib/circle"], "libcrypto.so.3");
        string locked = Directory.CreateDirectory(_scratch["usr/lib64"]).FullName;
        Tools.Run("chmod", "711", _scratch.Folder);
        Tools.Run("chmod", "111", locked);
        ScanResult? result = null;

        Tools.WithoutPrivilege(() => result = new LibraryScan(_scratch.Folder).Libraries(["/missing", "/etc/ld.so.conf", "relative"]));

        result!.Paths.ShouldBeEmpty();
        result.Warnings.ShouldContain(w => w.Contains("no directory", StringComparison.Ordinal) && w.Contains("/missing", StringComparison.Ordinal));
        result.Warnings.ShouldContain(w => w.Contains("no directory", StringComparison.Ordinal) && w.EndsWith("/etc/ld.so.conf", StringComparison.Ordinal));
        result.Warnings.ShouldContain("relative is no absolute path");
        result.Warnings.ShouldContain(w => w.Contains("leads nowhere", StringComparison.Ordinal));
        result.Warnings.ShouldContain(w => w.Contains("included", StringComparison.Ordinal));
        result.Warnings.ShouldContain(w => w.Contains("usr/lib64", StringComparison.Ordinal) && w.Contains("could not be read", StringComparison.Ordinal));
        result.Warnings.Length.ShouldBe(6);
    }

    [Fact]
    public void A_configuration_of_absurd_size_is_a_warning()
    {
        _scratch.Write("etc/ld.so.conf", new string('#', (1 << 20) + 1));

        new LibraryScan(_scratch.Folder).Libraries([]).Warnings.ShouldHaveSingleItem().ShouldContain("more than");
    }

    [Fact]
    public void An_empty_root_has_nothing_and_no_complaint()
    {
        ScanResult result = new LibraryScan(_scratch.Folder).Libraries([]);

        result.Paths.ShouldBeEmpty();
        result.Warnings.ShouldBeEmpty();
    }

    [Fact]
    public void Programs_are_found_by_the_name_that_their_task_has()
    {
        _scratch.Write("usr/sbin/kamailio", string.Empty);
        _scratch.Write("usr/sbin/kamailio-helper", string.Empty);
        _scratch.Write("opt/kamailio-5.7/sbin/kamailio", string.Empty);
        _scratch.Write("usr/local/bin/a-server-with-a-long-name", string.Empty);
        File.CreateSymbolicLink(_scratch["sbin"], "usr/sbin");
        Directory.CreateDirectory(_scratch["usr/bin/kamailio"]);

        new LibraryScan(_scratch.Folder).Executables(["kamailio", "a-server-with-a"]).Paths.ShouldBe(
            [_scratch["opt/kamailio-5.7/sbin/kamailio"], _scratch["usr/local/bin/a-server-with-a-long-name"], _scratch["usr/sbin/kamailio"]]);
    }
}
