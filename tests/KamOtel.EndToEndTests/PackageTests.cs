using System.Globalization;
using System.Text.RegularExpressions;

namespace KamOtel.EndToEndTests;

/// <summary>The packages of the agent's binary, made once.</summary>
public sealed class Packages : IAsyncLifetime
{
    private readonly Scratch _scratch = new();

    /// <summary>Debian's, revision 1 and the next.</summary>
    public string[] Debian { get; private set; } = [];

    /// <summary>The RPM.</summary>
    public string Rpm { get; private set; } = "";

    /// <inheritdoc/>
    public async ValueTask InitializeAsync()
    {
        Debian = [await Build("deb", _scratch.Folder), await Build("deb", _scratch.Folder, revision: 2)];
        Rpm = await Build("rpm", _scratch.Folder);
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync()
    {
        _scratch.Dispose();
        return ValueTask.CompletedTask;
    }

    /// <summary>Makes one; not compressed, which would take the most time.</summary>
    internal static async Task<string> Build(string kind, string folder, int revision = 1, string before = "")
    {
        Requirements.Agent();
        Requirements.Program(kind == "deb" ? "dpkg-shlibdeps" : "rpmbuild");
        Ended ended = await RunningProgram.Run(
            "bash",
            ["-c", $"{before} exec packaging/{kind}/build --revision {revision} --output \"$0\" --compression none", folder],
            new Dictionary<string, string?> { ["KAMOTEL_BINARY"] = Requirements.Binary });
        ended.Code.ShouldBe(0, ended.ToString());
        ended.Errors.ShouldBeEmpty();
        return ended.Output.Trim();
    }
}

/// <summary>The Debian package: what is in it, its life on a machine, and its service in its sandbox.</summary>
public sealed partial class PackageTests(Packages packages) : IClassFixture<Packages>
{
    private const string Unit = "kamotel.service";

    /// <summary>What dpkg and its triggers write down themselves, and the user: a file that is its own must not become another's.</summary>
    [GeneratedRegex("^/(var/lib/dpkg|var/cache/man|var/log/dpkg\\.log|etc/\\.pwd\\.lock|etc/(passwd|group|shadow|gshadow)-)(/|$)")]
    private static partial Regex NotThePackages { get; }

    /// <summary>And rpm: its database, and folders that another package of its distributions has.</summary>
    [GeneratedRegex("^/(var/lib/rpm/|usr/share/licenses$|usr/share/zsh/site-functions$)")]
    private static partial Regex NorTheRpms { get; }

    [Theory]
    [InlineData("deb")]
    [InlineData("rpm")]
    public async Task The_same_files_make_the_same_package(string kind)
    {
        using var scratch = new Scratch();
        string first = kind == "deb" ? packages.Debian[0] : packages.Rpm;
        string again = await Packages.Build(kind, scratch.Folder, before: "umask 077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8 HOME=$(mktemp -d);");

        Path.GetFileName(again).ShouldBe(Path.GetFileName(first));
        byte[][] both = [await File.ReadAllBytesAsync(first, TestContext.Current.CancellationToken), await File.ReadAllBytesAsync(again, TestContext.Current.CancellationToken)];
        both[0].AsSpan().SequenceEqual(both[1]).ShouldBeTrue();
    }

    [Fact]
    public async Task The_rpm_has_the_same_files_and_a_service_that_starts_and_goes_with_it()
    {
        await using SystemdMachine machine = await Machine(Scratch.FreePort());
        string[] debian = await Listed("sh", "-c", $"dpkg-deb --fsys-tarfile {packages.Debian[0]} | tar --list | sed -n 's:^\\.\\(/.*[^/]\\)$:\\1:p'");
        // Each has what only its own kind knows.
        debian.Where(static p => !p.Contains("lintian", StringComparison.Ordinal) && !p.EndsWith("changelog.Debian.gz", StringComparison.Ordinal))
            .Select(static p => p.Replace("/vendor-completions/", "/site-functions/", StringComparison.Ordinal)).Order(StringComparer.Ordinal)
            .ShouldBe((await Listed("sh", "-c", $"rpm -qlvp {packages.Rpm} | sed -n 's:^-.* /:/:p'")).Where(static p => !p.StartsWith("/usr/share/licenses/", StringComparison.Ordinal)).Order(StringComparer.Ordinal));

        // Debian has what it needs, and rpm does not know.
        await machine.Do("rpm", "--dbpath", "/var/lib/rpm", "--install", "--nodeps", packages.Rpm);
        await machine.Do("systemctl", "enable", "--now", Unit);
        (await machine.Do("systemctl", "is-active", Unit)).ShouldBe("active");
        int running = int.Parse(await machine.Property(Unit, "MainPID"), CultureInfo.InvariantCulture);
        await machine.Do("rpm", "--dbpath", "/var/lib/rpm", "--erase", "--nodeps", "kamotel");
        Proc.Alive(running).ShouldBeFalse();
        (await machine.NewPaths()).Where(static p => !NotThePackages.IsMatch(p) && !NorTheRpms.IsMatch(p)).ShouldBeEmpty();

        async Task<string[]> Listed(string program, params string[] arguments) => (await machine.Do(program, arguments)).Split('\n');
    }

    [Fact]
    public async Task Debians_own_checker_finds_nothing()
    {
        Requirements.Program("lintian");
        Ended ended = await RunningProgram.Run(
            "lintian",
            ["--allow-root", "--fail-on", "error,warning", "--suppress-tags", "uses-no-compression-for-control-tarball,uses-no-compression-for-data-tarball", packages.Debian[0]]);

        ended.Code.ShouldBe(0, ended.ToString());
        ended.Output.ShouldBeEmpty();
    }

    [Fact]
    public async Task The_unit_is_valid_and_its_exposure_is_known()
    {
        Requirements.Program("systemd-analyze");
        using var scratch = new Scratch();
        (await RunningProgram.Run("dpkg-deb", ["-x", packages.Debian[0], scratch.Folder])).Code.ShouldBe(0);
        // Where its program is.
        string unit = scratch[$"usr/lib/systemd/system/{Unit}"];
        Ended verified = await RunningProgram.Run("systemd-analyze", ["verify", "--man=no", "--recursive-errors=no", $"--root={scratch.Folder}", unit]);
        verified.Code.ShouldBe(0, verified.ToString());
        (verified.Output + verified.Errors).ShouldBeEmpty();

        // 2.4 of 10. What is left: it reads other users' processes, loads programs into the kernel, and is on the network.
        Ended rated = await RunningProgram.Run("systemd-analyze", ["security", "--offline=yes", "--threshold=24", "--no-pager", unit]);
        rated.Code.ShouldBe(0, rated.ToString());
        (await RunningProgram.Run("systemd-analyze", ["security", "--offline=yes", "--threshold=23", "--no-pager", unit]))
            .Code.ShouldNotBe(0, "it is better than the documentation says");
    }

    [Fact]
    public async Task It_is_installed_upgraded_removed_and_purged()
    {
        await using SystemdMachine machine = await Machine(Scratch.FreePort());

        (await machine.Run("dpkg", "--install", packages.Debian[0])).Code.ShouldBe(0);
        (await machine.Do("systemctl", "is-active", Unit)).ShouldBe("active");
        (await machine.Do("systemctl", "is-enabled", Unit)).ShouldBe("enabled");
        (await machine.Do("stat", "-c", "%a %U %G", "/etc/kamotel/kamotel.env")).ShouldBe("640 root root");
        (await machine.Do("getent", "passwd", "kamotel")).ShouldEndWith(":/usr/sbin/nologin");
        (await machine.Do("man", "--where", "kamotel")).ShouldBe("/usr/share/man/man1/kamotel.1.gz");
        foreach ((string shell, string path) in new[]
        {
            ("bash", "bash-completion/completions/kamotel"), ("zsh", "zsh/vendor-completions/_kamotel"), ("fish", "fish/vendor_completions.d/kamotel.fish"),
        })
        {
            _ = await machine.Do("sh", "-c", $"kamotel completion {shell} | cmp - /usr/share/{path}");
        }
        string first = await machine.Property(Unit, "MainPID");
        (await machine.Log(Unit)).ShouldContain("info: listening on");

        await machine.Do("sed", "-i", "s#// \"logLevel\"#\"logLevel\"#; s#\"information\"#\"warning\"#", "/etc/kamotel/appsettings.json");
        (await machine.Run("dpkg", "--install", packages.Debian[1])).Code.ShouldBe(0);
        (await machine.Read("/etc/kamotel/appsettings.json")).ShouldContain("  \"logLevel\": \"warning\",");
        (await machine.Do("systemctl", "is-active", Unit)).ShouldBe("active");
        (await machine.Property(Unit, "MainPID")).ShouldNotBe(first, "it is the new one");
        (await machine.Log(Unit)).ShouldNotContain("info:", customMessage: "it heeds the setting");

        await machine.Do("systemctl", "disable", "--now", Unit);
        (await machine.Run("dpkg", "--install", packages.Debian[1])).Code.ShouldBe(0);
        (await machine.Run("systemctl", "is-enabled", Unit)).Output.ShouldBe("disabled\n", "who disabled it meant it");
        (await machine.Run("systemctl", "is-active", Unit)).Output.ShouldBe("inactive\n");
        await machine.Do("systemctl", "enable", "--now", Unit);

        int running = int.Parse(await machine.Property(Unit, "MainPID"), CultureInfo.InvariantCulture);
        (await machine.Run("dpkg", "--remove", "kamotel")).Code.ShouldBe(0);
        Proc.Alive(running).ShouldBeFalse();
        (await machine.Do("ls", "/etc/kamotel")).ShouldBe("appsettings.json\nkamotel.env");

        Ended purged = await machine.Run("dpkg", "--purge", "kamotel");
        purged.Code.ShouldBe(0, purged.ToString());
        Complaints(purged).ShouldBeEmpty();
        (await machine.NewPaths()).Where(static p => !NotThePackages.IsMatch(p)).ShouldBeEmpty();
        (await machine.Do("getent", "shadow", "kamotel")).ShouldStartWith("kamotel:!*:", customMessage: "nobody logs in as the user that stays");
    }

    [Fact]
    public async Task Where_no_systemd_runs_it_is_installed_and_purged_all_the_same()
    {
        await using SystemdMachine machine = await SystemdMachine.Start(systemd: false);

        Ended installed = await machine.Run("dpkg", "--install", packages.Debian[0]);
        installed.Code.ShouldBe(0, installed.ToString());
        Complaints(installed).ShouldAllBe(static line => line.StartsWith("Creating ", StringComparison.Ordinal) || line.StartsWith("Created symlink ", StringComparison.Ordinal));
        (await machine.Do("kamotel", "--version")).ShouldNotBeEmpty();
        if (OperatingSystem.IsOSPlatformVersionAtLeast("Linux", 6, 6))
        {
            installed.Output.ShouldNotContain("CAP_SYS_ADMIN");
        }
        Complaints(await machine.Run("dpkg", "--purge", "kamotel")).ShouldBeEmpty();
        (await machine.NewPaths()).Where(static p => !NotThePackages.IsMatch(p)).ShouldBeEmpty();

        // By its number another, older kernel.
        (await machine.Do("setarch", "--uname-2.6", "dpkg", "--install", packages.Debian[0])).ShouldContain("CAP_SYS_ADMIN");
    }

    [Fact]
    public async Task In_its_sandbox_the_service_sees_a_hazard_from_the_servers_first_instruction_and_is_started_anew_when_its_loop_hangs()
    {
        int port = Scratch.FreePort();
        await using KamailioServer server = await KamailioServer.Prepare("tls");
        await using SystemdMachine machine = await Machine(port);
        // Debian's unit, with this test's configuration.
        await machine.Write(
            "/run/units/kamailio.service.d/test.conf",
            $"""
            [Service]
            Type=exec
            User=root
            Group=root
            PIDFile=
            ExecStart=
            ExecStart={string.Join(' ', await server.Command())}
            """);
        _ = await machine.Do("dpkg", "--install", packages.Debian[0]);
        await Permit(machine);
        await machine.Do("systemctl", "stop", Unit);

        // As at boot: both are wanted at once.
        await machine.Write("/run/units/boot.target", $"[Unit]\nWants=kamailio.service {Unit}\n");
        await machine.Do("systemctl", "start", "boot.target");
        await server.WaitUntilUp();

        (await Microseconds(machine, "kamailio.service", "ExecMainStartTimestampMonotonic"))
            .ShouldBeGreaterThanOrEqualTo(await Microseconds(machine, Unit, "ActiveEnterTimestampMonotonic"), "the server waits until the probes are attached");
        Samples seen = await Hazard(machine, port);
        seen.Count("kamotel_instance_shared_slot_info", ("target", "kamailio.service"), ("author", "tls")).ShouldBeGreaterThan(0, "probes, copies of stacks and the unwinder work");
        seen.Sum("kamotel_instance_gap", ("target", "kamailio.service")).ShouldBe(0);
        // A libcrypto of the server's own, where a private /tmp would hide it.
        string libcrypto = Path.Combine(server.Folder, "libcrypto.so.3");
        File.Copy(Directory.EnumerateFiles("/usr/lib", "libcrypto.so.3", SearchOption.AllDirectories).First(), libcrypto);
        await machine.Write("/run/units/kamailio.service.d/own.conf", $"[Service]\nEnvironment=LD_LIBRARY_PATH={server.Folder}\n");
        await machine.Do("systemctl", "daemon-reload");
        await machine.Do("systemctl", "restart", "kamailio.service");
        string log = "";
        await Until.True("probes in it", async () => (log = await machine.Log(Unit)).Contains($"probes attached to {libcrypto}", StringComparison.Ordinal), state: () => log);
        log.Split('\n').Where(static line => !line.StartsWith("kamotel: info: ", StringComparison.Ordinal)).ShouldBeEmpty();

        int pid = int.Parse(await machine.Property(Unit, "MainPID"), CultureInfo.InvariantCulture);
        await HasNoMoreThanItsUnitSays(machine, pid);

        // Its loop hangs; everything else of it works.
        await machine.Write($"/run/units/{Unit}.d/watchdog.conf", "[Service]\nWatchdogSec=4\nRestartSec=1\n");
        await machine.Do("systemctl", "daemon-reload");
        await machine.Do("systemctl", "restart", Unit);
        pid = int.Parse(await machine.Property(Unit, "MainPID"), CultureInfo.InvariantCulture);
        long since = await Microseconds(machine, Unit, "ActiveEnterTimestampMonotonic");
        await Until.True("the watchdog to hear of it for longer than it would wait", async () => await Microseconds(machine, Unit, "WatchdogTimestampMonotonic") - since > 4_000_000);
        (await machine.Property(Unit, "NRestarts")).ShouldBe("0");
        using (new StoppedThread(pid, "watch loop"))
        {
            await Until.True("the watchdog", async () => await machine.Property(Unit, "Result") == "watchdog", state: () => machine.Run("systemctl", "status", Unit).GetAwaiter().GetResult().Output);
        }
        await Until.True(
            "systemd to start it anew",
            async () => await machine.Property(Unit, "ActiveState") == "active" && await machine.Property(Unit, "NRestarts") == "1",
            state: () => machine.Run("systemctl", "status", Unit).GetAwaiter().GetResult().Output);
        _ = await Hazard(machine, port);

        await machine.Write("/etc/kamotel/kamotel.env", "KAMOTEL_LISTEN=nowhere\n");
        (await machine.Run("systemctl", "restart", Unit)).Code.ShouldNotBe(0);
        (await machine.Property(Unit, "ActiveState")).ShouldBe("failed", "what is set wrongly stays wrong: it is not tried again");
        (await machine.Property(Unit, "ExecMainStatus")).ShouldBe("64");
        (await machine.Property("kamailio.service", "ActiveState")).ShouldBe("active");
    }

    [Fact]
    public async Task In_the_services_sandbox_the_doctor_finds_that_all_works()
    {
        const string Doctor = "kamotel-doctor.service";
        await using SystemdMachine machine = await Machine(Scratch.FreePort());
        _ = await machine.Do("dpkg", "--install", packages.Debian[0]);
        await Permit(machine);
        string[] notADaemons = ["Type=", "NotifyAccess=", "Restart", "Watchdog", "EnvironmentFile=", "ExecStart="];
        string[] unit = (await machine.Read($"/usr/lib/systemd/system/{Unit}")).Split('\n');
        string[] sandbox = [.. unit.Where(line => !notADaemons.Any(line.StartsWith)), "[Service]", "Type=oneshot", "ExecStart=kamotel doctor --listen 127.0.0.1:0", "StandardOutput=truncate:/run/doctor"];
        await machine.Write($"/run/units/{Doctor}", string.Join('\n', sandbox));
        await machine.Do("sh", "-c", $"! test -d /etc/systemd/system/{Unit}.d || cp -r /etc/systemd/system/{Unit}.d /etc/systemd/system/{Doctor}.d");
        await machine.Do("systemctl", "daemon-reload");

        _ = await machine.Run("systemctl", "start", Doctor);
        string said = await machine.Read("/run/doctor");
        (await machine.Property(Doctor, "ExecMainStatus")).ShouldBe("0", said);
        said.ShouldStartWith("All of kamotel works here.");

        // And it would tell.
        await machine.Write($"/run/units/{Doctor}.d/blind.conf", "[Service]\nPrivateUsers=yes\n");
        await machine.Do("systemctl", "daemon-reload");
        (await machine.Run("systemctl", "start", Doctor)).Code.ShouldNotBe(0, await machine.Read("/run/doctor"));
    }

    /// <summary>What was written to standard error, but for the index of man pages: the machine has that switched off.</summary>
    private static IEnumerable<string> Complaints(Ended ended) =>
        ended.Errors.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(static line => !line.Contains("man-db", StringComparison.Ordinal));

    private static async Task<SystemdMachine> Machine(int port)
    {
        SystemdMachine machine = await SystemdMachine.Start();
        await machine.Write($"/run/units/{Unit}.d/port.conf", $"[Service]\nEnvironment=KAMOTEL_LISTEN=127.0.0.1:{port}\n");
        await machine.Do("systemctl", "daemon-reload");
        return machine;
    }

    /// <summary>Where this kernel asks for more, what the package's drop-in says is done.</summary>
    private static async Task Permit(SystemdMachine machine)
    {
        if (!(await machine.Property(Unit, "StatusText")).Contains("CAP_SYS_ADMIN missing", StringComparison.Ordinal))
        {
            return;
        }
        const string Prompt = "#   ";
        string said = await machine.Read("/usr/share/kamotel/systemd/sys-admin.conf");
        string commands = string.Join('\n', said.Split('\n').Where(static line => line.StartsWith(Prompt, StringComparison.Ordinal)).Select(static line => line[Prompt.Length..]));
        _ = await machine.Do("sh", "-ec", commands);
        (await machine.Property(Unit, "StatusText")).ShouldBe("watching");
    }

    private static async Task<long> Microseconds(SystemdMachine machine, string unit, string property) =>
        long.Parse(await machine.Property(unit, property), CultureInfo.InvariantCulture);

    private static async Task<Samples> Hazard(SystemdMachine machine, int port)
    {
        using var client = new HttpClient();
        Samples? last = null;
        await Until.True(
            "the verdict",
            async () =>
            {
                try
                {
                    last = Samples.Parse(await client.GetStringAsync(new Uri($"http://127.0.0.1:{port}/metrics")));
                    return last.Verdict("kamailio.service") == "hazard";
                }
                catch (HttpRequestException)
                {
                    return false;
                }
            },
            state: () => $"{string.Join('\n', last?.All.Where(static s => s.Name == "kamotel_instance_verdict") ?? [])}\n{machine.Log(Unit).GetAwaiter().GetResult()}");
        return last!;
    }

    /// <summary>The kernel's word for it, not systemd's.</summary>
    private static async Task HasNoMoreThanItsUnitSays(SystemdMachine machine, int pid)
    {
        Dictionary<string, string> status = File.ReadLines($"/proc/{pid}/status").Select(static line => line.Split(":\t")).ToDictionary(static p => p[0], static p => p[^1].Trim());
        status["Uid"].Split('\t').ShouldAllBe(static id => id != "0");
        status["NoNewPrivs"].ShouldBe("1");
        status["Seccomp"].ShouldBe("2");
        ulong allowed = 0;
        foreach (string capability in (await machine.Property(Unit, "CapabilityBoundingSet")).Split(' '))
        {
            allowed |= 1UL << Array.IndexOf(Capabilities, capability["cap_".Length..]);
        }
        Convert.ToUInt64(status["CapBnd"], 16).ShouldBe(allowed);
        (Convert.ToUInt64(status["CapPrm"], 16) & ~allowed).ShouldBe(0UL);
        long resident = new[] { pid }.Concat(Proc.Descendants(pid)).Sum(Proc.ResidentBytes);
        resident.ShouldBeLessThan(long.Parse(await machine.Property(Unit, "MemoryHigh"), CultureInfo.InvariantCulture) / 2);
    }

    /// <summary>By their numbers: linux/capability.h.</summary>
    private static readonly string[] Capabilities =
    [
        "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap", "linux_immutable", "net_bind_service",
        "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner", "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin",
        "sys_boot", "sys_nice", "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap", "mac_override",
        "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf", "checkpoint_restore",
    ];
}
