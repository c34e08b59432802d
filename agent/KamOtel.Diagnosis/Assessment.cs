namespace KamOtel.Diagnosis;

/// <summary>A verdict with its reason.</summary>
/// <param name="Verdict">The verdict.</param>
/// <param name="Reason">Why, in one sentence for people.</param>
/// <param name="Gaps">What was not seen.</param>
internal readonly record struct Assessment(Verdict Verdict, string Reason, CoverageGaps Gaps)
{
    /// <summary>
    /// What the ledger alone can say: at most <see cref="Verdict.Exposed"/>, and <see cref="Verdict.Safe"/> only for a
    /// server that was seen from its exec without a gap.
    /// </summary>
    public static Assessment Of(Instance instance)
    {
        CoverageGaps gaps = instance.Gaps;
        if (!instance.LibrarySeen && instance.ReadyNs is not null)
        {
            gaps |= CoverageGaps.NoLibrary;
        }
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
                $"Thread#1 of root holds pointers in {rootSlots} OpenSSL slot{(rootSlots == 1 ? "" : "s")}, {workers}; only inspection can tell whether they are shared{seen}",
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
