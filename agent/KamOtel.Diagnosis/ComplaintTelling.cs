namespace KamOtel.Diagnosis;

/// <summary>What the fleet adds to a complaint.</summary>
/// <param name="Role">The complaining process's role.</param>
/// <param name="Address">Where the memory lies that it is about, as far as that was known then.</param>
/// <param name="LastCall">The thread-local call that the process made last; null when none was seen.</param>
/// <param name="LeftOut">Complaints of this kind that were counted and not told since the one told before.</param>
public readonly record struct ComplaintContext(ProcessRole Role, AddressRelation Address, LastCall? LastCall, long LeftOut);

/// <summary>
/// Which of a server's complaints are told one by one: a memory manager that is out of its mind complains thousands of times
/// a second. Of each kind the first hundred are, then that at which their number has doubled, and the last. A shortage that
/// is told without end does not hide damage.
/// </summary>
internal sealed class ComplaintTelling
{
    private const long First = 100;

    private readonly Dictionary<ComplaintKind, Kind> _kinds = [];

    /// <summary>Takes a complaint; gives it back, with how many were left out, when it is to be told.</summary>
    public (Observation Observation, Complaint Complaint, ComplaintContext Context)? Take(in Observation observation, Complaint complaint, ComplaintContext context)
    {
        if (!_kinds.TryGetValue(complaint.Kind, out Kind? kind))
        {
            _kinds[complaint.Kind] = kind = new Kind();
        }
        kind.Count++;
        if (kind.Count > First && kind.Count < kind.Next)
        {
            kind.Left = (observation, complaint, context with { LeftOut = kind.LeftOut });
            kind.LeftOut++;
            return null;
        }
        (Observation, Complaint, ComplaintContext) told = (observation, complaint, context with { LeftOut = kind.LeftOut });
        kind.Next = 2 * Math.Max(kind.Count, First);
        kind.LeftOut = 0;
        kind.Left = null;
        return told;
    }

    /// <summary>The last one of each kind, where it was not told; it counts the others that were not.</summary>
    public IEnumerable<(Observation Observation, Complaint Complaint, ComplaintContext Context)> TakeLeft()
    {
        foreach (Kind kind in _kinds.OrderBy(static k => k.Key).Select(static k => k.Value))
        {
            if (kind.Left is { } left)
            {
                kind.Left = null;
                kind.LeftOut = 0;
                yield return left;
            }
        }
    }

    private sealed class Kind
    {
        public long Count { get; set; }

        /// <summary>The number at which one is told again.</summary>
        public long Next { get; set; }

        public long LeftOut { get; set; }

        public (Observation, Complaint, ComplaintContext)? Left { get; set; }
    }
}
