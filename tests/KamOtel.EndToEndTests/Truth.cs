using System.Globalization;

namespace KamOtel.EndToEndTests;

/// <summary>A slot whose value two or more processes of a server hold, pointing into memory that they share.</summary>
/// <param name="Key">The pthread key.</param>
/// <param name="Value">The value.</param>
/// <param name="Mapping">The name of the memory.</param>
/// <param name="Holders">The processes: root first, then the workers by number.</param>
internal sealed record TrueSlot(uint Key, ulong Value, string Mapping, int[] Holders);

/// <summary>
/// The second opinion on a running server, which owes nothing to the agent: GDB lets Thread#1 of each process call
/// <c>pthread_getspecific</c> itself. The server runs on.
/// </summary>
/// <param name="Verdict">safe, exposed or hazard.</param>
/// <param name="SharedSlots">The proof of a hazard, ordered by key.</param>
/// <param name="Processes">The processes that were asked, root first.</param>
internal sealed record Truth(string Verdict, TrueSlot[] SharedSlots, int[] Processes)
{
    private const int Keys = 32;

    /// <summary>Asks all processes of a server.</summary>
    /// <param name="root">The process that forked the workers.</param>
    public static async Task<Truth> Of(int root)
    {
        int[] processes = [root, .. await Settled(root)];
        Held[][] held = await Task.WhenAll(processes.Select(Pointers));
        Proc.Descendants(root).Order().ToArray().ShouldBe(processes[1..], customMessage: "processes came or went while GDB looked");
        processes.ShouldAllBe(static process => Proc.Alive(process));
        return Judge(root, processes, [.. held.SelectMany(static slots => slots)]);
    }

    // A worker may answer before the last one is forked.
    private static async Task<int[]> Settled(int root)
    {
        int[] before = [];
        return await Until.Found($"the workers of {root} to be there", async () =>
        {
            await Task.Delay(500);
            int[] now = [.. Proc.Descendants(root).Order()];
            bool settled = now.AsSpan().SequenceEqual(before);
            before = now;
            return settled ? now : null;
        });
    }

    /// <summary>What follows from the pointers that the processes hold in Thread#1.</summary>
    public static Truth Judge(int root, int[] processes, IReadOnlyList<Held> held)
    {
        TrueSlot[] shared =
        [
            .. held.Where(static slot => slot.Mapping.Permissions == "rw-s")
                .GroupBy(static slot => (slot.Key, slot.Value, slot.Mapping.Name))
                .Where(static holders => holders.Count() > 1)
                .Select(holders => new TrueSlot(
                    holders.Key.Key,
                    holders.Key.Value,
                    holders.Key.Name,
                    [.. holders.Select(static slot => slot.Process).OrderBy(process => Array.IndexOf(processes, process))]))
                .OrderBy(static slot => slot.Key),
        ];
        string verdict = shared.Length > 0 ? "hazard" : held.Any(slot => slot.Process == root) ? "exposed" : "safe";
        return new Truth(verdict, shared, processes);
    }

    /// <summary>For messages.</summary>
    public override string ToString() =>
        $"{Verdict}: {string.Join("; ", SharedSlots.Select(static slot => $"[{slot.Key}] = 0x{slot.Value:x} in {slot.Mapping} held by {string.Join(' ', slot.Holders)}"))}";

    private static async Task<Held[]> Pointers(int process)
    {
        Requirements.Program("gdb");
        using var scratch = new Scratch();
        // Without the symbols of all libraries GDB takes half the time; only this thread runs during the calls.
        await File.WriteAllTextAsync(
            scratch["script"],
            $$"""
            set pagination off
            set confirm off
            sharedlibrary libc.so
            set scheduler-locking on
            info threads
            set $k = 0
            while $k < {{Keys}}
              printf "SLOT %d %lu %lu\n", $k, ((long (*)(int)) pthread_getspecific)($k), ((unsigned long *) &__pthread_keys)[2 * $k + 1]
              set $k = $k + 1
            end
            detach

            """);
        Ended ended = await RunningProgram.Run(
            "gdb",
            ["-batch", "-nx", "-iex", "set debuginfod enabled off", "-iex", "set auto-solib-add off", "-p", $"{process}", "-x", scratch["script"]]);
        ended.Code.ShouldBe(0, ended.ToString());
        string[] lines = ended.Output.Split('\n');
        // `* 1  Thread 0x… (LWP 123)`, or `* 1  process 123`: the thread that was asked.
        lines.Single(static line => line.StartsWith("* 1 ", StringComparison.Ordinal))
            .ShouldMatch($@"(LWP|process) {process}\b", "GDB asked another thread than Thread#1");
        ulong[][] slots =
        [
            .. lines.Where(static line => line.StartsWith("SLOT ", StringComparison.Ordinal))
                .Select(static line => line.Split(' ')[1..].Select(static word => ulong.Parse(word, CultureInfo.InvariantCulture)).ToArray()),
        ];
        slots.Length.ShouldBe(Keys, ended.ToString());

        var map = MemoryMap.Of(process);
        return
        [
            .. slots.Where(slot => slot[1] is not (0 or ulong.MaxValue) && MayBeOpenSsl(map, destructor: slot[2]))
                .Select(slot => new Held(process, (uint)slot[0], slot[1], map.At(slot[1]) ?? new Mapping(0, 0, "----", ""))),
        ];
    }

    // Most of OpenSSL's keys have no destructor; one of another library is none of its business.
    private static bool MayBeOpenSsl(MemoryMap map, ulong destructor) =>
        destructor == 0
        || Path.GetFileName(map.At(destructor)?.Name ?? "") is { } file
            && (file.StartsWith("libcrypto", StringComparison.Ordinal) || file.StartsWith("libssl", StringComparison.Ordinal));

    /// <summary>A pointer in Thread#1 of a process.</summary>
    /// <param name="Process">The process.</param>
    /// <param name="Key">The pthread key.</param>
    /// <param name="Value">The pointer.</param>
    /// <param name="Mapping">Where it points to.</param>
    internal readonly record struct Held(int Process, uint Key, ulong Value, Mapping Mapping);
}
