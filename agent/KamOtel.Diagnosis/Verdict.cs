namespace KamOtel.Diagnosis;

/// <summary>The answer for one instance, worst last. <see cref="Unknown"/> is never shown as <see cref="Safe"/>.</summary>
public enum Verdict
{
    /// <summary>Blind, with a reason.</summary>
    Unknown,

    /// <summary>No live OpenSSL slot in root's Thread#1, and nothing was missed.</summary>
    Safe,

    /// <summary>Root's Thread#1 has live OpenSSL slots; no worker is known to share them.</summary>
    Exposed,

    /// <summary>A shared slot exists. Only inspection can say so.</summary>
    Hazard,

    /// <summary>A hazard, and damage was seen.</summary>
    Corrupted,
}

/// <summary>What could not be seen of an instance. None: full coverage from its exec on.</summary>
[Flags]
public enum CoverageGaps
{
    /// <summary>Nothing was missed.</summary>
    None = 0,

    /// <summary>The server ran before the agent did.</summary>
    StartedBefore = 1,

    /// <summary>A libcrypto was mapped before its probes were attached.</summary>
    LibraryLate = 2,

    /// <summary>The kernel side had to drop events.</summary>
    EventsLost = 4,

    /// <summary>A libcrypto could not be probed.</summary>
    ProbeFailed = 8,

    /// <summary>No libcrypto was seen in the server: none, or one without symbols.</summary>
    NoLibrary = 16,

    /// <summary>A key could not be read at a call.</summary>
    KeyUnread = 32,

    /// <summary>A process had more slots or threads than the ledger keeps.</summary>
    LedgerFull = 64,

    /// <summary>A process appeared without its fork having been seen.</summary>
    ForkMissed = 128,
}

/// <summary>What a process is to its instance.</summary>
public enum ProcessRole
{
    /// <summary>The process that forks the workers (after daemonising: the surviving one).</summary>
    Root,

    /// <summary>A forked process of the instance.</summary>
    Worker,

    /// <summary>A process of the daemonising double fork, above the root.</summary>
    Launcher,
}

/// <summary>When a call was made, seen from its process.</summary>
public enum CallPhase
{
    /// <summary>In root, before it forked its first worker: what every worker will inherit.</summary>
    BeforeFork,

    /// <summary>After the first fork, or in a worker.</summary>
    AfterFork,

    /// <summary>Not known: the process's past was not seen.</summary>
    Unknown,
}

/// <summary>What kind of value a set call stored.</summary>
public enum SlotValueKind
{
    /// <summary>The call stores no value (init, cleanup).</summary>
    None,

    /// <summary>Null: the slot is cleared.</summary>
    Null,

    /// <summary>OpenSSL's sentinel −1, which is no pointer.</summary>
    Sentinel,

    /// <summary>A pointer.</summary>
    Pointer,
}
