using System.Text.Json;
using System.Text.Json.Nodes;
using KamOtel.Benchmarks;

// Figures of one run, side by side: a machine's noise is in all of them alike. Printed, and written to out/bench.json.
// With names only those are measured, and the file has only those.
var benches = new Dictionary<string, Func<Build, JsonObject>>(StringComparer.Ordinal)
{
    ["hit"] = HitBench.Run,
    ["inspection"] = InspectionBench.Run,
    ["confirm"] = ConfirmBench.Run,
    ["stacks"] = StackBench.Run,
    ["handshakes"] = HandshakeBench.Run,
    ["agent"] = AgentBench.Run,
    ["ring"] = RingBench.Run,
    ["inner"] = InnerBench.Run,
    ["unwind"] = static _ => UnwindBench.Run(),
};
if (args.FirstOrDefault(name => !benches.ContainsKey(name)) is { } unknown)
{
    await Console.Error.WriteLineAsync($"bench: there is no {unknown}; there is {string.Join(", ", benches.Keys)}");
    return 64;
}
string[] missing = [.. new[] { "gcc", "clang", "bpftrace", "gdb" }.Where(static tool => !Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(folder => File.Exists(Path.Combine(folder, tool))))];
if (missing.Length > 0)
{
    await Console.Error.WriteLineAsync($"bench: {string.Join(", ", missing)} missing: scripts/setup build bench");
    return 69;
}
if (!Environment.IsPrivilegedProcess)
{
    await Console.Error.WriteLineAsync("bench: root is needed to load eBPF programs");
    return 77;
}

var report = new JsonObject();
using (var build = new Build())
{
    foreach ((string name, Func<Build, JsonObject> run) in benches.Where(bench => args.Length == 0 || args.Contains(bench.Key)))
    {
        report[name] = run(build);
    }
}
string file = Path.Combine(Build.Repository, "out", "bench.json");
_ = Directory.CreateDirectory(Path.GetDirectoryName(file)!);
await File.WriteAllTextAsync(file, report.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
Console.WriteLine($"\n{Goals.Table(report)}\nwritten to {file}");
return 0;
