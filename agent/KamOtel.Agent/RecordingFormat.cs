using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>The first line of a recording. docs/recording.md describes the form.</summary>
internal sealed record RecordingHeader
{
    public const string FormatName = "kamotel-recording";

    /// <summary>Raised when a file of the new form would be misread by who knows only the old one.</summary>
    public const int CurrentVersion = 1;

    public required string Format { get; init; }

    public required int Version { get; init; }

    public string Kamotel { get; init; } = "";

    public DateTimeOffset RecordedAt { get; init; }

    public long BootToWallNs { get; init; }

    public string Kernel { get; init; } = "";

    public string Architecture { get; init; } = "";

    public required RecordedFleet Fleet { get; init; }
}

/// <summary>The options of the recorded fleet.</summary>
internal sealed record RecordedFleet(ulong SettleNs = 0, ulong InspectEveryNs = 0, int MaxSlotsPerProcess = 0, int MaxTargets = 0)
{
    public static RecordedFleet Of(FleetOptions options) => new(options.SettleNs, options.InspectEveryNs, options.MaxSlotsPerProcess, options.MaxTargets);

    /// <summary>Null when no agent could have had them: the file is damaged, or made to do harm.</summary>
    public FleetOptions? ToOptions() =>
        SettleNs <= 1_000_000_000_000 && InspectEveryNs <= 100_000_000_000_000 && MaxSlotsPerProcess is > 0 and <= 65536 && MaxTargets is > 0 and <= 65536
            ? new FleetOptions { SettleNs = SettleNs, InspectEveryNs = InspectEveryNs, MaxSlotsPerProcess = MaxSlotsPerProcess, MaxTargets = MaxTargets }
            : null;
}

/// <summary>Every other line.</summary>
[JsonPolymorphic(TypeDiscriminatorPropertyName = "t")]
[JsonDerivedType(typeof(ObservedLine), "observed")]
[JsonDerivedType(typeof(NamedLine), "named")]
[JsonDerivedType(typeof(LibraryLine), "library")]
[JsonDerivedType(typeof(ChainLine), "chain")]
[JsonDerivedType(typeof(StepLine), "step")]
[JsonDerivedType(typeof(LostLine), "lost")]
[JsonDerivedType(typeof(TimeLine), "time")]
[JsonDerivedType(typeof(JudgeLine), "judge")]
[JsonDerivedType(typeof(DueLine), "due")]
[JsonDerivedType(typeof(InspectedLine), "inspected")]
[JsonDerivedType(typeof(DyingLine), "dying")]
[JsonDerivedType(typeof(ComplainedLine), "complained")]
[JsonDerivedType(typeof(ConfirmedLine), "confirmed")]
[JsonDerivedType(typeof(AgentLine), "agent")]
[JsonDerivedType(typeof(GapLine), "gap")]
[JsonDerivedType(typeof(EndLine), "end")]
internal abstract record RecordingLine;

/// <summary>A line that is an input of the fleet.</summary>
internal abstract record InputLine : RecordingLine
{
    public abstract FleetInput ToInput();

    public static InputLine Of(FleetInput input) => input switch
    {
        ObservedInput i => new ObservedLine { Target = i.Target, Container = RecordedContainer.Of(i.Container) }.With(i.Observation),
        NamedInput i => new NamedLine { Instance = i.Instance, Target = i.Target },
        LibraryMappedInput i => new LibraryLine { Process = i.Process, Library = i.Library, Mapped = i.MappedNs, Probed = i.ProbedNs },
        AttributedInput i => new ChainLine
        {
            End = i.Chain.End,
            Detail = i.Chain.Detail,
            Frames = [.. i.Chain.Frames.Select(static f => new RecordedFrame(f.File, f.Module, f.IsProgram, f.Function, new Hex(f.Offset)))],
        }.With(i.Call),
        EnteredInput i => new StepLine { Step = i.Step, Module = i.Module }.With(i.Observation),
        EventsLostInput i => new LostLine { Count = i.Count, At = i.TimeNs },
        AdvancedInput i => new TimeLine { At = i.TimeNs },
        JudgedInput i => new JudgeLine { At = i.TimeNs },
        InspectionsTakenInput i => new DueLine { At = i.TimeNs },
        InspectedInput i => new InspectedLine
        {
            Instance = i.Instance,
            Found = [.. i.Found.Select(RecordedInspection.Of)],
            Facts = i.Facts is { } facts ? RecordedFacts.Of(facts) : null,
            At = i.DoneNs,
        },
        DyingInput i => new DyingLine { Copy = RecordedInspection.Of(i.Copy) }.With(i.Observation),
        ComplainedInput i => new ComplainedLine
        {
            Complaint = i.Complaint.Kind,
            Memory = i.Complaint.Address is { } address ? new Hex(address) : null,
            Module = i.Complaint.Module,
            Caller = i.Complaint.Caller,
        }.With(i.Observation),
        ConfirmedInput i => new ConfirmedLine { Instance = i.Instance, Uses = [.. i.Uses.Select(static u => new RecordedUse(u.Process, u.Key, u.Count))], Window = i.WindowNs, At = i.TimeNs },
        _ => throw new ArgumentException($"{input.GetType().Name} has no line", nameof(input)),
    };
}

/// <summary>A line with an observation.</summary>
internal abstract record ObservationLine : InputLine
{
    public ObservationKind Kind { get; init; }

    public ulong At { get; init; }

    public ProcessId Process { get; init; }

    public int Tid { get; init; }

    public InstanceId Instance { get; init; }

    public string? Name { get; init; }

    /// <summary>The name's bytes, where they are no plain text.</summary>
    public string? NameBytes { get; init; }

    public bool Watched { get; init; }

    public ProcessId Other { get; init; }

    public int Status { get; init; }

    public bool LastThread { get; init; }

    public uint? Key { get; init; }

    public Hex KeyAddress { get; init; }

    public Hex Value { get; init; }

    public bool HasStack { get; init; }

    public Hex Address { get; init; }

    public ObservationLine With(in Observation o)
    {
        string? name = o.Name == default ? null : o.Name.ToString();
        return this with
        {
            Kind = o.Kind,
            At = o.TimeNs,
            Process = o.Process,
            Tid = o.Tid,
            Instance = o.Instance,
            Name = name,
            NameBytes = name is null || TaskName.From(name) == o.Name ? null : Hexadecimal(o.Name),
            Watched = o.Watched,
            Other = o.Other,
            Status = o.Status,
            LastThread = o.LastThread,
            Key = o.Key,
            KeyAddress = new Hex(o.KeyAddress),
            Value = new Hex(o.Value),
            HasStack = o.HasStack,
            Address = new Hex(o.Address),
        };
    }

    private static string Hexadecimal(TaskName name) => Convert.ToHexString(name);

    protected Observation ToObservation() => new()
    {
        Kind = Kind,
        TimeNs = At,
        Process = Process,
        Tid = Tid,
        Instance = Instance,
        Name = NameBytes is not null ? TaskName.From(Convert.FromHexString(NameBytes)) : Name is null ? default : TaskName.From(Name),
        Watched = Watched,
        Other = Other,
        Status = Status,
        LastThread = LastThread,
        Key = Key,
        KeyAddress = KeyAddress.Value,
        Value = Value.Value,
        HasStack = HasStack,
        Address = Address.Value,
    };
}

internal sealed record ObservedLine : ObservationLine
{
    public string? Target { get; init; }

    public RecordedContainer? Container { get; init; }

    public override FleetInput ToInput() => new ObservedInput(ToObservation(), Target, Container?.ToContainer());
}

internal sealed record RecordedContainer(string? Id = null, string? HostName = null, string? PodUid = null)
{
    public static RecordedContainer? Of(Container? c) => c is null ? null : new(c.Id, c.HostName, c.PodUid);

    public Container ToContainer() => new(Id, HostName, PodUid);
}

internal sealed record NamedLine : InputLine
{
    public InstanceId Instance { get; init; }

    public required string Target { get; init; }

    public override FleetInput ToInput() => new NamedInput(Instance, Target);
}

internal sealed record LibraryLine : InputLine
{
    public ProcessId Process { get; init; }

    public required string Library { get; init; }

    public ulong Mapped { get; init; }

    public ulong? Probed { get; init; }

    public override FleetInput ToInput() => new LibraryMappedInput(Process, Library, Mapped, Probed);
}

internal sealed record ChainLine : ObservationLine
{
    public ChainEnd End { get; init; }

    public string Detail { get; init; } = "";

    public required RecordedFrame[] Frames { get; init; }

    public override FleetInput ToInput() => new AttributedInput(
        ToObservation(), new CallChain([.. Whole.Of(Frames).Select(static f => new CallFrame(f.File, f.Module, f.Program, f.Function, f.Offset.Value))], End, Detail));
}

internal sealed record RecordedFrame(string File, string? Module = null, bool Program = false, string? Function = null, Hex Offset = default);

internal sealed record StepLine : ObservationLine
{
    public StartStep Step { get; init; }

    public string? Module { get; init; }

    public override FleetInput ToInput() => new EnteredInput(ToObservation(), Step, Module);
}

internal sealed record LostLine : InputLine
{
    public ulong Count { get; init; }

    public ulong At { get; init; }

    public override FleetInput ToInput() => new EventsLostInput(Count, At);
}

internal sealed record TimeLine : InputLine
{
    public ulong At { get; init; }

    public override FleetInput ToInput() => new AdvancedInput(At);
}

internal sealed record JudgeLine : InputLine
{
    public ulong At { get; init; }

    public override FleetInput ToInput() => new JudgedInput(At);
}

internal sealed record DueLine : InputLine
{
    public ulong At { get; init; }

    public override FleetInput ToInput() => new InspectionsTakenInput(At);
}

internal sealed record InspectedLine : InputLine
{
    public InstanceId Instance { get; init; }

    public required RecordedInspection[] Found { get; init; }

    public RecordedFacts? Facts { get; init; }

    public ulong At { get; init; }

    public override FleetInput ToInput() => new InspectedInput(Instance, [.. Whole.Of(Found).Select(static f => f.ToInspection())], Facts?.ToFacts(), At);
}

internal sealed record DyingLine : ObservationLine
{
    public required RecordedInspection Copy { get; init; }

    public override FleetInput ToInput() => new DyingInput(ToObservation(), Copy.ToInspection());
}

internal sealed record ComplainedLine : ObservationLine
{
    public ComplaintKind Complaint { get; init; }

    /// <summary>The address that it is about.</summary>
    public Hex? Memory { get; init; }

    public string? Module { get; init; }

    public string? Caller { get; init; }

    public override FleetInput ToInput() => new ComplainedInput(ToObservation(), new Complaint(Complaint, Memory?.Value, Module, Caller));
}

internal sealed record ConfirmedLine : InputLine
{
    /// <summary>More than can be counted in any window; sums of it stay sums.</summary>
    private const long MaxCount = 1L << 32;

    public InstanceId Instance { get; init; }

    public required RecordedUse[] Uses { get; init; }

    public ulong Window { get; init; }

    public ulong At { get; init; }

    public override FleetInput ToInput() =>
        new ConfirmedInput(Instance, [.. Whole.Of(Uses).Select(static u => new SharedUse(u.Process, u.Key, u.Count is >= 0 and <= MaxCount ? u.Count : throw new FormatException("a count that cannot be")))], Window, At);
}

internal sealed record RecordedUse(ProcessId Process = default, uint Key = 0, long Count = 0);

internal sealed record RecordedInspection
{
    public ProcessId Process { get; init; }

    public ulong At { get; init; }

    public InspectionStatus Status { get; init; }

    public string Detail { get; init; } = "";

    public bool MapsLibcrypto { get; init; }

    public RecordedSlot[]? Slots { get; init; }

    public int OtherThreadSlots { get; init; }

    public static RecordedInspection Of(ProcessInspection i) => new()
    {
        Process = i.Process,
        At = i.TimeNs,
        Status = i.Status,
        Detail = i.Detail,
        MapsLibcrypto = i.MapsLibcrypto,
        Slots = i.MainThreadSlots.IsEmpty ? null : [.. i.MainThreadSlots.Select(static s => new RecordedSlot(s.Key, new Hex(s.Value), s.Owner, s.Memory is { } m ? RecordedMemory.Of(m) : null))],
        OtherThreadSlots = i.OtherThreadSlots,
    };

    public ProcessInspection ToInspection() => new()
    {
        Process = Process,
        TimeNs = At,
        Status = Status,
        Detail = Detail,
        MapsLibcrypto = MapsLibcrypto,
        MainThreadSlots = Slots is null ? [] : [.. Whole.Of(Slots).Select(static s => new HeldSlot(s.Key, s.Value.Value, s.Owner, s.Memory?.ToMemory()))],
        OtherThreadSlots = OtherThreadSlots,
    };
}

internal sealed record RecordedSlot(uint Key = 0, Hex Value = default, SlotOwner Owner = default, RecordedMemory? Memory = null);

internal sealed record RecordedMemory(string Name, Hex Start = default, Hex End = default, uint Major = 0, uint Minor = 0, ulong Inode = 0)
{
    public static RecordedMemory Of(SharedMemory m) => new(m.Name, new Hex(m.Start), new Hex(m.End), m.DeviceMajor, m.DeviceMinor, m.Inode);

    public SharedMemory ToMemory() => new(Name, Start.Value, End.Value, Major, Minor, Inode);
}

internal sealed record RecordedFacts(string[] Modules, string? Kamailio = null, string? OpenSsl = null, string? TlsBackEnd = null, int? TlsThreadsMode = null, RecordedPool? SharedMemory = null)
{
    public static RecordedFacts Of(ServerFacts f) => new([.. f.Modules], f.Kamailio, f.OpenSsl, f.TlsBackEnd, f.TlsThreadsMode, f.SharedMemory is { } pool ? RecordedPool.Of(pool) : null);

    public ServerFacts ToFacts() => new()
    {
        Kamailio = Kamailio,
        OpenSsl = OpenSsl,
        Modules = [.. Whole.Of(Modules)],
        TlsBackEnd = TlsBackEnd,
        TlsThreadsMode = TlsThreadsMode,
        SharedMemory = SharedMemory?.ToPool(),
    };
}

internal sealed record RecordedPool(Hex Start = default, Hex End = default, string? Manager = null, ulong? Used = null, ulong? Free = null, ulong? MaxUsed = null)
{
    public static RecordedPool Of(SharedMemoryPool p) => new(new Hex(p.Start), new Hex(p.End), p.Manager, p.Used, p.Free, p.MaxUsed);

    public SharedMemoryPool ToPool() =>
        new SharedMemoryPool(Start.Value, End.Value, Manager, Used, Free, MaxUsed) is { IsConsistent: true } pool ? pool : throw new FormatException("figures of shared memory that cannot be");
}

/// <summary>What the agent tells of itself beside its fleet: now and then, and at the end.</summary>
internal sealed record AgentLine : RecordingLine
{
    public required RecordedEvents[] Events { get; init; }

    public required RecordedLibrary[] Libraries { get; init; }

    public long AttachFailures { get; init; }

    public long Inspections { get; init; }

    public long ConfirmWindows { get; init; }

    public long UnwinderRestarts { get; init; }

    public long RingBytes { get; init; }

    public static AgentLine Of(AgentSnapshot s) => new()
    {
        Events = [.. s.Events.Select(static e => new RecordedEvents(e.Kind, e.Received, e.Lost))],
        Libraries = [.. s.Libraries.Select(static l => new RecordedLibrary(l.Path, [.. l.Functions.Select(static f => f.Name)], [.. l.Functions.Select(static f => new RecordedSite(f.Site, f.Reason))]))],
        AttachFailures = s.AttachFailures,
        Inspections = s.Inspections,
        ConfirmWindows = s.ConfirmWindows,
        UnwinderRestarts = s.UnwinderRestarts,
        RingBytes = s.RingBytes,
    };

    public AgentSnapshot ToSnapshot(DateTimeOffset time, FleetSnapshot fleet) => new(
        time,
        fleet,
        [.. Whole.Of(Events).Select(static e => new EventCount(e.Kind, e.Received, e.Lost))],
        [.. Whole.Of(Libraries).Select(static l => new ProbedLibrary(l.Path, [.. Whole.Of(l.Functions).Select((f, i) => l.Sites?.ElementAtOrDefault(i) is { } site ? new ProbedFunction(f, site.Site, site.Reason) : new ProbedFunction(f, "", ""))]))],
        AttachFailures,
        Inspections,
        ConfirmWindows,
        UnwinderRestarts,
        RingBytes,
        RingUsedBytes: 0);
}

internal sealed record RecordedEvents(string Kind, long Received = 0, long Lost = 0);

/// <summary><paramref name="Sites"/> came later: where each of the functions carries its probe.</summary>
internal sealed record RecordedLibrary(string Path, string[] Functions, RecordedSite[]? Sites = null);

internal sealed record RecordedSite(string Site = "", string Reason = "");

/// <summary>So many inputs came faster than they could be written; nothing after them was recorded.</summary>
internal sealed record GapLine : RecordingLine
{
    public long Count { get; init; }
}

/// <summary>Why a recording ended in order.</summary>
internal enum RecordingEnd
{
    /// <summary>By a signal.</summary>
    Stopped,

    /// <summary>Its time was over.</summary>
    Duration,

    /// <summary>It is as large as it may be.</summary>
    Size,

    /// <summary>Inputs came faster than they could be written.</summary>
    Overflow,
}

/// <summary>The last line.</summary>
internal sealed record EndLine : RecordingLine
{
    public RecordingEnd Why { get; init; }

    /// <summary>Boot time in nanoseconds.</summary>
    public ulong At { get; init; }

    /// <summary>Inputs in the file.</summary>
    public long Inputs { get; init; }
}

/// <summary>An address: a hexadecimal string in JSON, for its numbers are not exact above 2^53.</summary>
internal readonly record struct Hex(ulong Value);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingDefault,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true,
    MaxDepth = 16,
    Converters =
    [
        typeof(HexConverter), typeof(ProcessIdConverter), typeof(InstanceIdConverter), typeof(PlainTextConverter),
        typeof(WordConverter<ObservationKind>), typeof(WordConverter<ChainEnd>), typeof(WordConverter<StartStep>),
        typeof(WordConverter<InspectionStatus>), typeof(WordConverter<SlotOwner>), typeof(WordConverter<RecordingEnd>), typeof(WordConverter<ComplaintKind>),
    ])]
[JsonSerializable(typeof(RecordingHeader))]
[JsonSerializable(typeof(RecordingLine))]
internal sealed partial class RecordingJson : JsonSerializerContext;

/// <summary>Names of enumerations, in snake case; never numbers.</summary>
internal sealed class WordConverter<T>() : JsonStringEnumConverter<T>(JsonNamingPolicy.SnakeCaseLower, allowIntegerValues: false)
    where T : struct, Enum;

/// <summary><see cref="PlainText"/>: a file from elsewhere shall not speak to the terminal.</summary>
internal sealed class PlainTextConverter : JsonConverter<string>
{
    public override string? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        return reader.GetString() is { } text ? PlainText.Of(text) : null;
    }

    public override void Write(Utf8JsonWriter writer, string value, JsonSerializerOptions options) => writer.WriteStringValue(value);
}

internal sealed class HexConverter : JsonConverter<Hex>
{
    public override Hex Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
        reader.GetString() is { } text && text.StartsWith("0x", StringComparison.Ordinal) && ulong.TryParse(text.AsSpan(2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value)
            ? new Hex(value)
            : throw new JsonException("an address of the form 0x… is expected");

    public override void Write(Utf8JsonWriter writer, Hex value, JsonSerializerOptions options) => writer.WriteStringValue($"0x{value.Value:x}");
}

/// <summary><c>PID@TICKS</c>.</summary>
internal sealed class ProcessIdConverter : JsonConverter<ProcessId>
{
    public override ProcessId Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        (int pid, ulong since) = Identity.Parse(reader.GetString());
        return new ProcessId(pid, since);
    }

    public override void Write(Utf8JsonWriter writer, ProcessId value, JsonSerializerOptions options) =>
        writer.WriteStringValue(string.Create(CultureInfo.InvariantCulture, $"{value.Tgid}@{value.StartTicks}"));
}

/// <summary><c>PID@NANOSECONDS</c>.</summary>
internal sealed class InstanceIdConverter : JsonConverter<InstanceId>
{
    public override InstanceId Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options)
    {
        (int pid, ulong since) = Identity.Parse(reader.GetString());
        return new InstanceId(pid, since);
    }

    public override void Write(Utf8JsonWriter writer, InstanceId value, JsonSerializerOptions options) =>
        writer.WriteStringValue(string.Create(CultureInfo.InvariantCulture, $"{value.Tgid}@{value.SinceNs}"));
}

/// <summary>JSON may have a null where an item of a list is expected.</summary>
internal static class Whole
{
    public static T[] Of<T>(T[] items) =>
        Array.Exists(items, static i => i is null) ? throw new FormatException("an item of a list is null") : items;
}

internal static class Identity
{
    public static (int Pid, ulong Since) Parse(string? text)
    {
        text ??= "";
        int at = text.IndexOf('@', StringComparison.Ordinal);
        return at > 0
            && int.TryParse(text.AsSpan(0, at), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int pid)
            && ulong.TryParse(text.AsSpan(at + 1), NumberStyles.None, CultureInfo.InvariantCulture, out ulong since)
            ? (pid, since)
            : throw new JsonException("PID@START is expected");
    }
}
