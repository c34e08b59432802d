namespace KamOtel.Diagnosis;

/// <summary>A process of an instance. It stays reachable after its end where the search for the root needs it.</summary>
internal sealed class Process(ProcessId id, ProcessId? parentId, Process? parent, Ledger ledger)
{
    public ProcessId Id { get; } = id;

    /// <summary>Who forked it, for people.</summary>
    public ProcessId? ParentId { get; set; } = parentId;

    /// <summary>The nearest ancestor that lives.</summary>
    public Process? Parent { get; set; } = parent;

    /// <summary>Children that live.</summary>
    public List<Process> Children { get; } = [];

    /// <summary>Children that it ever forked.</summary>
    public int Forked { get; set; }

    /// <summary>The child, while it forked only one.</summary>
    public Process? OnlyChild { get; set; }

    public bool Gone { get; set; }

    public Ledger Ledger { get; } = ledger;

    public IReadOnlyDictionary<SlotKey, Slot> MainThreadSlots => Ledger.Of(Id.Tgid);

    /// <summary>
    /// Where the root is, if it was here. Daemonising forks once or twice and lets the upper process end: the root
    /// moves down past a process that forked one child and ended, or whose only child did so.
    /// </summary>
    public Process Descend()
    {
        Process at = this;
        while (at is { Forked: 1, OnlyChild: { } child } && (at.Gone || child is { Gone: true, Forked: 1 }))
        {
            at = child;
        }
        return at;
    }

    public bool IsAbove(Process other)
    {
        for (Process? at = other.Parent; at is not null; at = at.Parent)
        {
            if (ReferenceEquals(at, this))
            {
                return true;
            }
        }
        return false;
    }
}
