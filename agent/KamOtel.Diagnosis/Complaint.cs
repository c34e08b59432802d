namespace KamOtel.Diagnosis;

/// <summary>What a server's own memory manager complained of.</summary>
public enum ComplaintKind
{
    /// <summary>Memory was freed twice.</summary>
    AlreadyFreed,

    /// <summary>The beginning, the end or the neighbour of a fragment was overwritten.</summary>
    Overwritten,

    /// <summary>A pointer was freed that leads out of the memory managed.</summary>
    BadPointer,

    /// <summary>The sizes that a fragment, or the lists of free ones, tell do not agree.</summary>
    BadFragment,

    /// <summary>There was no room in shared memory: no corruption, the server goes on without.</summary>
    OutOfSharedMemory,
}

/// <summary>A complaint, as the server was about to log it.</summary>
/// <param name="Kind">Of what.</param>
/// <param name="Address">The memory that it was about; null where the message has none, or it could not be read.</param>
/// <param name="Module">Who called the memory manager, such as <c>tls</c> or <c>core</c>; null where it is not known.</param>
/// <param name="Caller">Where in its source, such as <c>tls_init.c: ser_free</c>; null where it is not known.</param>
public sealed record Complaint(ComplaintKind Kind, ulong? Address, string? Module, string? Caller)
{
    /// <summary>It tells of damage, not of a shortage.</summary>
    public bool IsDamage => Kind != ComplaintKind.OutOfSharedMemory;

    /// <summary>What it is about, for people.</summary>
    public string What => Describe(Kind);

    /// <summary><c> (called from tls: tls_init.c: ser_free)</c>, for people; empty where nothing of it is known.</summary>
    public string CalledFrom => (Module, Caller) is (null, null) ? "" : $" (called from {string.Join(": ", new[] { Module, Caller }.OfType<string>())})";

    /// <summary>What complaints of this kind are about, for people.</summary>
    public static string Describe(ComplaintKind kind) => kind switch
    {
        ComplaintKind.AlreadyFreed => "memory freed twice",
        ComplaintKind.Overwritten => "memory overwritten",
        ComplaintKind.BadPointer => "a pointer out of its memory",
        ComplaintKind.BadFragment => "sizes that do not agree",
        _ => "no room in shared memory",
    };
}
