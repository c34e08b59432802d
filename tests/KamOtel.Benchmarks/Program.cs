using System.Text.Json;
using System.Text.Json.Nodes;
using KamOtel.Benchmarks;

// Figures of one run, side by side: a machine's noise is in all of them alike. Printed, and written to a file.
string file = args.Length > 0 ? args[0] : Path.Combine(Build.Repository, "out", "bench.json");
if (!Environment.IsPrivilegedProcess)
{
    await Console.Error.WriteLineAsync("bench: root is needed to load eBPF programs");
    return 77;
}

var report = new JsonObject();
using (var build = new Build())
{
    report["inspection"] = InspectionBench.Run(build);
    report["confirm"] = ConfirmBench.Run(build);
    report["stacks"] = StackBench.Run(build);
    report["unwind"] = UnwindBench.Run();
}
_ = Directory.CreateDirectory(Path.GetDirectoryName(file)!);
await File.WriteAllTextAsync(file, report.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
Console.WriteLine($"\nwritten to {file}");
return 0;
