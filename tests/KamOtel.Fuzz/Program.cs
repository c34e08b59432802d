using System.Diagnostics;
using System.Globalization;
using KamOtel.Fuzz;
using KamOtel.Linux;

// KamOtel.Fuzz [INPUTS [SECONDS [SEED]]]: ends at whatever comes first. Two workers, each with a process of its own.
long inputs = args.Length > 0 ? long.Parse(args[0], CultureInfo.InvariantCulture) : 10_000_000;
int seconds = args.Length > 1 ? int.Parse(args[1], CultureInfo.InvariantCulture) : 1500;
int seed = args.Length > 2 ? int.Parse(args[2], CultureInfo.InvariantCulture) : Environment.TickCount;
const int Workers = 2;

string? root = AppContext.BaseDirectory;
while (root is not null && !Directory.Exists(Path.Combine(root, "tests", "targets")))
{
    root = Path.GetDirectoryName(root);
}

string folder = Directory.CreateTempSubdirectory("kamotel-fuzz-").FullName;
Console.WriteLine($"seed {seed}; at most {inputs} inputs or {seconds} s");
var clock = Stopwatch.StartNew();
var fuzzers = new List<UnwinderFuzz>();
Exception? failure = null;
try
{
    List<StackSeed> seeds = StackSeed.Collect(Path.Combine(root ?? ".", "tests", "targets"), folder);
    fuzzers.AddRange(Enumerable.Range(0, Workers).Select(worker => new UnwinderFuzz(seeds, folder, seed + worker)));
    clock.Restart();
    List<Thread> threads = [.. fuzzers.Select(fuzzer => new Thread(() => Work(fuzzer)))];
    threads.ForEach(static thread => thread.Start());
    while (threads.Exists(static thread => thread.IsAlive))
    {
        threads.Find(static thread => thread.IsAlive)?.Join(TimeSpan.FromSeconds(10));
        Report();
    }
}
finally
{
    fuzzers.ForEach(static fuzzer => fuzzer.Dispose());
    Directory.Delete(folder, recursive: true);
}

if (failure is not null)
{
    await Console.Error.WriteLineAsync($"fuzz: {failure}");
    return 1;
}

return 0;

void Work(UnwinderFuzz fuzzer)
{
    try
    {
        while (failure is null && fuzzers.Sum(static each => each.Inputs) < inputs && clock.Elapsed.TotalSeconds < seconds)
        {
            fuzzer.Run();
        }
    }
    catch (Exception e)
    {
        failure ??= e;
    }
}

void Report()
{
    long done = fuzzers.Sum(static fuzzer => fuzzer.Inputs);
    string ends = string.Join(' ', Enum.GetValues<UnwindEnd>().Select(end => $"{end} {fuzzers.Sum(fuzzer => fuzzer.Count(end))}"));
    string deaths = string.Join("; ", fuzzers.SelectMany(static fuzzer => fuzzer.Deaths).GroupBy(static death => death.Key).Select(static death => $"{death.Key}: {death.Sum(static each => each.Value)}"));
    Console.WriteLine($"{clock.Elapsed.TotalSeconds,6:0} s {done,10} inputs {done / clock.Elapsed.TotalSeconds,7:0}/s  {ends}  restarts {fuzzers.Sum(static fuzzer => fuzzer.Restarts)}, at most {fuzzers.Max(static fuzzer => fuzzer.Resident) >> 20} MiB  {deaths}");
}
