namespace KamOtel.Diagnosis;

/// <summary>A process of an instance. It stays reachable after its end where the search for the root needs it.</summary>
internal sealed class TrackedProcess(ProcessId id, ProcessId? parentId, TrackedProcess? parent, Ledger ledger)
{
    public ProcessId Id { get; } = id;

    /// <summary>Who forked it, for people.</summary>
    public ProcessId? ParentId { get; set; } = parentId;

    /// <summary>The nearest ancestor that lives.</summary>
    public TrackedProcess? Parent { get; set; } = parent;

    /// <summary>Children that live.</summary>
    public List<TrackedProcess> Children { get; } = [];

    /// <summary>Children that it ever forked.</summary>
    public int Forked { get; set; }

    /// <summary>Boot time of its first fork in nanoseconds; null while there was none.</summary>
    public ulong? FirstForkNs { get; set; }

    /// <summary>The child, while it forked only one.</summary>
    public TrackedProcess? OnlyChild { get; set; }

    public bool Gone { get; set; }

    /// <summary>
    /// Calls that stored something in Thread#1 of this process before it forked, and of the launchers before it: what a
    /// debugger shows.
    /// </summary>
    public long MainThreadCallsBeforeFork { get; set; }

    public Ledger Ledger { get; } = ledger;

    /// <summary>The thread-local call that it made last, in any thread; null when none was seen.</summary>
    public (ObservationKind Kind, uint? Key, ulong TimeNs)? LastCall { get; set; }

    /// <summary>The latest inspection.</summary>
    public ProcessInspection? Inspection { get; set; }

    /// <summary>At its latest inspection it was old enough: what it inherited and still had then, it keeps.</summary>
    public bool Settled { get; set; }

    public IReadOnlyDictionary<SlotKey, Slot> MainThreadSlots => Ledger.Of(Id.Tgid);

    /// <summary>When it is old enough, in nanoseconds of boot time.</summary>
    public ulong SettlesAtNs(ulong settleNs) => ((Id.StartTicks + 1) * ProcessId.NanosecondsPerTick) + settleNs;

    /// <summary>It had the time to give up what it inherited.</summary>
    public bool IsSettled(ulong nowNs, ulong settleNs) => nowNs >= SettlesAtNs(settleNs);

    /// <summary>
    /// Where the root is, if it was here. Daemonising forks once or twice and lets the upper process end: the root
    /// moves down past a process that forked one child and ended, or whose only child did so.
    /// </summary>
    public TrackedProcess Descend()
    {
        TrackedProcess at = this;
        while (at is { Forked: 1, OnlyChild: { } child } && (at.Gone || child is { Gone: true, Forked: 1 }))
        {
            at = child;
        }
        return at;
    }

    /// <summary>A child went off to another program: it never was a worker.</summary>
    public void Disown(TrackedProcess child)
    {
        Forked--;
        OnlyChild = Forked == 1 ? Children.Find(c => !ReferenceEquals(c, child)) : null;
    }

    public bool IsAbove(TrackedProcess other)
    {
        for (TrackedProcess? at = other.Parent; at is not null; at = at.Parent)
        {
            if (ReferenceEquals(at, this))
            {
                return true;
            }
        }
        return false;
    }
}
