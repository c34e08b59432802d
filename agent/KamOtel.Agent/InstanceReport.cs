using System.Collections.Immutable;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>One server on the status page, with all that is known of it. Internal: it may change with every release.</summary>
internal sealed record InstanceReport(
    InstanceSummary Summary,
    ScannedContainer? Container,
    ImmutableArray<string> Modules,
    int? TlsThreadsMode,
    string? TlsBackEnd,
    ScannedMemory SharedMemory,
    ImmutableArray<SharedSlotReport> Slots,
    ImmutableArray<ProcessReport> Processes,
    ImmutableArray<Advice> Advice,
    ImmutableArray<TimedFault> Faults,
    CoverageReport Coverage,
    ImmutableArray<MomentReport> Timeline,
    long TimelineLeftOut)
{
    public static InstanceReport Of(InstanceSnapshot server, ServerHistory history) => new(
        InstanceSummary.Of(server, history),
        ScannedContainer.Of(server.Container),
        server.Facts.Modules,
        server.Facts.TlsThreadsMode,
        server.Facts.TlsBackEnd,
        ScannedMemory.Of(server.Facts.SharedMemory),
        [.. server.SharedSlots.Select(slot => SharedSlotReport.Of(slot, server))],
        [.. server.Processes.Select(process => ProcessReport.Of(process, server))],
        Advisor.For(server),
        [.. server.Faults.Select(static f => new TimedFault(ScannedFault.Of(f), WallClock.ToTime(f.TimeNs)))],
        CoverageReport.Of(server, history),
        [.. history.Moments.Select(moment => MomentReport.Of(moment, history.OriginNs))],
        history.LeftOut);

    public static string Address(ulong address) => $"0x{address:x}";

    public static double Milliseconds(ulong nanoseconds) => Math.Round(nanoseconds / 1e6, 3);
}

/// <summary>A slot that processes share.</summary>
/// <param name="Key">Its key.</param>
/// <param name="Value">What they all hold.</param>
/// <param name="Mapping">The shared memory that this points to.</param>
/// <param name="Name">What OpenSSL keeps there; null when it is not known.</param>
/// <param name="Author">The module that set it; null when it is not known.</param>
/// <param name="AskedBy">The module on whose behalf; null when it is not known.</param>
/// <param name="Path">From who asked to libcrypto; empty when it is not known.</param>
/// <param name="WhyUnknown">Why there is no author; null when there is one.</param>
/// <param name="Pid">The process that set it; null when that was not seen.</param>
/// <param name="Tid">Its thread.</param>
/// <param name="AtMs">When, in milliseconds since the exec; null when one of both was not seen.</param>
/// <param name="Frames">The stack of that call, innermost first.</param>
/// <param name="Holders">The processes whose Thread#1 holds it.</param>
/// <param name="Uses">How often they used it while that was watched.</param>
internal sealed record SharedSlotReport(
    uint Key,
    string Value,
    string Mapping,
    string? Name,
    string? Author,
    string? AskedBy,
    ImmutableArray<string> Path,
    string? WhyUnknown,
    int? Pid,
    int? Tid,
    double? AtMs,
    ImmutableArray<string> Frames,
    ImmutableArray<int> Holders,
    ImmutableArray<UseReport> Uses)
{
    public static SharedSlotReport Of(SharedSlot slot, InstanceSnapshot server)
    {
        ScannedSlot scanned = ScannedSlot.Of(slot);
        SlotOrigin? origin = slot.Origin;
        return new SharedSlotReport(
            scanned.Key,
            scanned.Value,
            scanned.Mapping,
            scanned.Name,
            scanned.Author,
            scanned.AskedBy,
            origin?.Chain.Path ?? [],
            origin is null ? Words.CallNotSeen : scanned.Author is null ? origin.Chain.WhyUnknown : null,
            origin?.Process.Tgid,
            origin?.Tid,
            origin is not null && server.SinceExec && origin.TimeNs >= server.StartedNs ? InstanceReport.Milliseconds(origin.TimeNs - server.StartedNs) : null,
            origin is null ? [] : [.. origin.Chain.Frames.Select(static f => f.ToString())],
            scanned.Holders,
            [.. server.SharedUses.Where(use => use.Key == slot.Key && slot.Holders.Contains(use.Process)).Select(static use => new UseReport(use.Process.Tgid, use.Count))]);
    }
}

/// <summary>How often a process used a shared slot.</summary>
internal sealed record UseReport(int Pid, long Count);

/// <summary>One process of a server.</summary>
/// <param name="Pid">The process.</param>
/// <param name="Parent">Who forked it; null for the first.</param>
/// <param name="Role">What it is to the server.</param>
/// <param name="Holding">What its Thread#1 holds.</param>
/// <param name="Inspection">How its latest inspection ended; null when there was none.</param>
/// <param name="Settled">It was old enough then to have given up what it would not keep.</param>
/// <param name="OtherThreadSlots">Live slots of its other threads.</param>
/// <param name="Slots">The live slots of its Thread#1.</param>
internal sealed record ProcessReport(
    int Pid, int? Parent, string Role, string Holding, string? Inspection, bool Settled, int OtherThreadSlots, ImmutableArray<SlotReport> Slots)
{
    public static ProcessReport Of(ProcessSnapshot process, InstanceSnapshot server) => new(
        process.Id.Tgid,
        process.Parent?.Tgid,
        Words.Of(process.Role),
        Words.Of(process.Holding),
        process.Inspection is { } status ? Words.Of(status) : null,
        process.Settled,
        process.OtherThreadSlots,
        [.. process.MainThreadSlots.Select(slot => SlotReport.Of(slot, process, server))]);
}

/// <summary>A live slot of a process's Thread#1.</summary>
/// <param name="Key">Its key, or the id that <c>set_local_ex</c> takes.</param>
/// <param name="Value">What it holds.</param>
/// <param name="Inherited">It had that from its parent.</param>
/// <param name="Shared">Which of the server's shared slots it is; null when it is none.</param>
/// <param name="Name">What OpenSSL keeps there; null when it is not known.</param>
internal sealed record SlotReport(uint Key, string Value, bool Inherited, int? Shared, string? Name)
{
    public static SlotReport Of(SlotSnapshot slot, ProcessSnapshot process, InstanceSnapshot server)
    {
        int? shared = null;
        for (int i = 0; i < server.SharedSlots.Length && shared is null && !slot.Key.Extended; i++)
        {
            SharedSlot candidate = server.SharedSlots[i];
            shared = candidate.Key == slot.Key.Key && candidate.Value == slot.Value && candidate.Holders.Contains(process.Id) ? i : null;
        }
        return new SlotReport(slot.Key.Key, InstanceReport.Address(slot.Value), slot.Inherited, shared, slot.Name);
    }
}

/// <summary>Crashes, or complaints of the memory manager, that are alike, with the time of the last.</summary>
internal sealed record TimedFault : ScannedFault
{
    public TimedFault(ScannedFault fault, DateTimeOffset lastAt)
        : base(fault) => LastAt = lastAt;

    /// <summary>When the last one was.</summary>
    public DateTimeOffset LastAt { get; }
}

/// <summary>What could be seen, and what could not.</summary>
internal sealed record CoverageReport(int Inspected, int Failed, bool SinceExec, ImmutableArray<GapReport> Gaps)
{
    public static CoverageReport Of(InstanceSnapshot server, ServerHistory history) => new(
        ScannedCoverage.Of(server).Inspected,
        InstanceSummary.FailedIn(server),
        server.SinceExec,
        [.. Words.Each(server.Gaps).Select(gap => new GapReport(Words.Of(gap), Words.MeaningOf(gap), history.Gaps.GetValueOrDefault(gap)))]);
}

/// <summary>What was not seen.</summary>
/// <param name="Gap">As in metrics.</param>
/// <param name="Meaning">The same for people.</param>
/// <param name="Detail">Of what exactly, the first time; null where there is no more to tell.</param>
internal sealed record GapReport(string Gap, string Meaning, string? Detail);

/// <summary>Something that happened to a server.</summary>
/// <param name="AtMs">When it began, in milliseconds since the exec, or since the server was found.</param>
/// <param name="DurationMs">How long it took; null for what takes no time, or is not over.</param>
/// <param name="Kind">What kind of thing.</param>
/// <param name="Severity"><c>info</c>, <c>notice</c>, <c>warning</c> or <c>error</c>.</param>
/// <param name="Pid">The process; null when it is of the server as a whole.</param>
/// <param name="Text">A sentence for people.</param>
/// <param name="Module">The module whose step it is, that made the call or that crashed; null for none.</param>
internal sealed record MomentReport(double? AtMs, double? DurationMs, string Kind, string Severity, int? Pid, string Text, string? Module)
{
    public static MomentReport Of(Moment moment, ulong originNs) => new(
        // What several processors tell comes a little out of order.
        moment.TimeNs >= originNs ? InstanceReport.Milliseconds(moment.TimeNs - originNs) : 0,
        moment.DurationNs is { } duration ? InstanceReport.Milliseconds(duration) : null,
        moment.Kind,
        Words.Of(moment.Severity),
        moment.Pid,
        moment.Text,
        moment.Module);
}
