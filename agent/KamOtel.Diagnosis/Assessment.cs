using System.Collections.Immutable;

namespace KamOtel.Diagnosis;

/// <summary>A verdict with its reason.</summary>
/// <param name="Verdict">The verdict.</param>
/// <param name="Reason">Why, in one sentence for people.</param>
/// <param name="Gaps">What was not seen.</param>
internal readonly record struct Assessment(Verdict Verdict, string Reason, CoverageGaps Gaps)
{
    /// <summary>
    /// Inspection decides. Before the first one that could tell, the ledger alone says at most
    /// <see cref="Verdict.Exposed"/>, and <see cref="Verdict.Safe"/> only for a server that was seen from its exec without
    /// a gap.
    /// </summary>
    public static Assessment Of(Instance instance)
    {
        CoverageGaps gaps = instance.Gaps;
        if (!instance.LibrarySeen && instance.ReadyNs is not null)
        {
            gaps |= CoverageGaps.NoLibrary;
        }
        if (instance is { Conclusion: null, InspectedNs: > 0, Context.SinceExec: false, Processes.Count: 1 })
        {
            return new(Verdict.Unknown, "it has no worker: a server that is only starting, or none at all", gaps);
        }
        return instance.Conclusion is { } conclusion ? OfConclusion(instance, conclusion, gaps) : OfLedger(instance, gaps);
    }

    private static Assessment OfConclusion(Instance instance, Conclusion conclusion, CoverageGaps gaps)
    {
        if (!conclusion.Shared.IsEmpty)
        {
            string shared = DescribeShared(instance);
            return instance.Damages.Count > 0
                ? new(Verdict.Corrupted, $"{string.Join(", ", instance.Damages.Select(Describe))}, and {shared}", gaps)
                : new(Verdict.Hazard, shared, gaps);
        }

        TrackedProcess[] failed = [.. instance.Processes.Values.Where(static p => p.Settled && p.Inspection is { Status: not (InspectionStatus.Inspected or InspectionStatus.Gone) })];
        if (failed.Length > 0)
        {
            string detail = failed.OrderBy(p => !ReferenceEquals(p, instance.Root)).ThenBy(static p => p.Id.Tgid).First().Inspection!.Detail;
            return new(Verdict.Unknown, $"{failed.Length} of {instance.Processes.Count} processes could not be inspected: {detail}", gaps);
        }

        if (instance.Root is { Gone: false, Inspection.Status: InspectionStatus.Gone })
        {
            return new(Verdict.Unknown, "root was gone when it was looked at", gaps);
        }
        if (!instance.Inspections(static _ => true).Any())
        {
            return new(Verdict.Unknown, $"not one of {Count(instance.Processes.Count, "process", "processes")} could be inspected: they were gone when they were looked at", gaps);
        }

        // Where no libcrypto is to be seen a slot without a destructor could be anybody's: a hidden libcrypto's, too.
        ImmutableArray<SharedSlot> unclaimed = SharedSlots.Of(instance.Inspections(static p => p.Settled).Where(static i => !i.MapsLibcrypto).Select(static i => i with { MapsLibcrypto = true }));
        if (!unclaimed.IsEmpty)
        {
            return new(Verdict.Unknown, $"{Count(unclaimed[0].Holders.Length, "process", "processes")} hold the same pointer (key {unclaimed[0].Key}) into shared memory, but no libcrypto is to be seen in them that it could be of", gaps);
        }

        ProcessInspection? root = instance.Root is { Gone: false, Inspection: { Status: InspectionStatus.Inspected } found } ? found : null;
        int slots = root?.MainThreadSlots.Count(root.IsOpenSsl) ?? 0;
        if (slots > 0)
        {
            return new(Verdict.Exposed, $"Thread#1 of root holds pointers in {Count(slots, "OpenSSL slot")}, and no worker shares them", gaps);
        }
        return root is { MapsLibcrypto: false } && instance.Inspections(static _ => true).All(static i => !i.MapsLibcrypto)
            ? new(Verdict.Safe, "no process has a libcrypto, and none holds what another process holds in shared memory", gaps)
            : new(Verdict.Safe, "no OpenSSL slot is live in Thread#1 of root, and no process holds what another process holds in shared memory", gaps);
    }

    private static Assessment OfLedger(Instance instance, CoverageGaps gaps)
    {
        if (gaps.HasFlag(CoverageGaps.EventsLost))
        {
            return new(Verdict.Unknown, $"{instance.EventsLost} events were lost, so the ledger may be wrong", gaps);
        }

        int rootSlots = instance.Root is { Gone: false } root ? root.MainThreadSlots.Values.Count(static s => s.IsPointer) : 0;
        int heirs = 0;
        int inherited = 0;
        foreach (TrackedProcess process in instance.Processes.Values)
        {
            if (!ReferenceEquals(process, instance.Root))
            {
                int slots = process.MainThreadSlots.Values.Count(static s => s is { Inherited: true, IsPointer: true });
                heirs += slots > 0 ? 1 : 0;
                inherited = Math.Max(inherited, slots);
            }
        }
        if (rootSlots > 0 || heirs > 0)
        {
            string workers = heirs switch
            {
                0 => "no worker is known to hold them",
                1 => $"1 worker inherited {inherited} and has not replaced them",
                _ => $"{heirs} workers inherited {inherited} and have not replaced them",
            };
            string seen = gaps == CoverageGaps.None ? "" : $" (not seen: {Describe(gaps, instance)})";
            return new(
                Verdict.Exposed,
                $"Thread#1 of root holds pointers in {Count(rootSlots, "OpenSSL slot")}, {workers}; only inspection can tell whether they are shared{seen}",
                gaps);
        }
        if (gaps != CoverageGaps.None)
        {
            return new(Verdict.Unknown, Describe(gaps, instance), gaps);
        }
        return instance.ReadyNs is null
            ? new(Verdict.Unknown, "the server is starting", gaps)
            : new(Verdict.Safe, "seen from its exec without a gap, and no OpenSSL slot is live in Thread#1 of root or inherited by a worker", gaps);
    }

    private static string DescribeShared(Instance instance)
    {
        ImmutableArray<SharedSlot> slots = instance.SharedSlots();
        int holders = slots.SelectMany(static s => s.Holders).Distinct().Count();
        string keys = string.Join(", ", slots.Select(static s => s.Name is { } name ? $"key {s.Key} {name}" : $"key {s.Key}").Distinct(StringComparer.Ordinal));
        string memory = string.Join(", ", slots.Select(static s => s.Memory.Name).Distinct(StringComparer.Ordinal));
        string uses = instance.Uses.IsEmpty
            ? ""
            : $"; {Count(instance.Uses.Select(static u => u.Process).Distinct().Count(), "process", "processes")} used them {instance.Uses.Sum(static u => u.Count)} times while that was watched";
        return $"{Count(holders, "process", "processes")} hold the same pointers in {Count(slots.Length, "OpenSSL slot")} ({keys}) into shared memory ({memory}){DescribeOrigins(slots, instance.ChainsOwed > 0)}{uses}";
    }

    /// <summary>Who set what is shared, as far as it was seen.</summary>
    private static string DescribeOrigins(ImmutableArray<SharedSlot> slots, bool stacksAwaited)
    {
        IEnumerable<string> origins = slots.Select(static s => s.Origin).OfType<SlotOrigin>()
            .Where(static o => o.Chain.Author is not null)
            .GroupBy(static o => (o.Chain.Author, o.Chain.AskedBy, Path: string.Join(" → ", o.Chain.Path), InMainThread: o.Tid == o.Process.Tgid))
            .Select(static same =>
            {
                string thread = same.Key.InMainThread ? "Thread#1" : "another thread";
                string asked = same.Key.AskedBy is not { } by ? ", who asked is not known" : by != same.Key.Author ? $", asked by {by}" : "";
                string path = same.First().Chain.Path.Length > 1 ? $" ({same.Key.Path})" : "";
                string when = same.Min(static o => o.BeforeForkNs) is { } before ? $", {before / 1e6:0} ms before the first fork" : "";
                return $"in {thread} by {same.Key.Author}{asked}{path}{when}";
            });
        string told = string.Join("; ", origins);
        string unseen = slots.All(static s => s.Origin is null) ? (stacksAwaited ? "; who set them is not known yet" : "; who set them was not seen")
            : slots.FirstOrDefault(static s => s.Origin?.Chain.Author is null) is { } slot ? $"; who set {KeysWithoutAuthor(slots)} is not known: {slot.Origin?.Chain.WhyUnknown ?? "the call was not seen with its stack"}"
            : "";
        return (told.Length > 0 ? $", set {told}" : "") + unseen;
    }

    private static string KeysWithoutAuthor(ImmutableArray<SharedSlot> slots) =>
        string.Join(", ", slots.Where(static s => s.Origin?.Chain.Author is null).Select(static s => $"key {s.Key}"));

    private static string Count(int count, string one, string? many = null) => count == 1 ? $"1 {one}" : $"{count} {many ?? one + "s"}";

    private static string Describe(Damage damage) =>
        damage.Complaint is { } complaint
            ? $"the memory manager of {Lower(damage.Role)} {damage.Process} complained{(damage.Count > 1 ? $" {damage.Count} times" : "")} of {complaint.What}{complaint.CalledFrom}"
            : $"{Lower(damage.Role)} {damage.Process} died of {SignalName(damage.Signal!.Value)}";

    private static string Lower(ProcessRole role) => role switch { ProcessRole.Root => "root", ProcessRole.Worker => "worker", _ => "launcher" };

    private static string SignalName(int signal) => signal switch { 6 => "signal 6 (SIGABRT)", 11 => "signal 11 (SIGSEGV)", _ => $"signal {signal}" };

    private static string Describe(CoverageGaps gaps, Instance instance)
    {
        var parts = new List<string>();
        void Add(CoverageGaps gap, string text)
        {
            if (gaps.HasFlag(gap))
            {
                parts.Add(text);
            }
        }
        Add(CoverageGaps.StartedBefore, "the server was started before the agent");
        Add(CoverageGaps.LibraryLate, $"a libcrypto ran {instance.LibraryGapNs / 1e6:0.0} ms before its probes were attached");
        Add(CoverageGaps.ProbeFailed, "a libcrypto could not be probed");
        Add(CoverageGaps.NoLibrary, "no libcrypto with symbols was seen in the server");
        Add(CoverageGaps.KeyUnread, "the key of a call could not be read");
        Add(CoverageGaps.LedgerFull, "a process has more slots than the ledger keeps");
        Add(CoverageGaps.ForkMissed, "a process appeared whose fork was not seen");
        return string.Join("; ", parts);
    }
}
