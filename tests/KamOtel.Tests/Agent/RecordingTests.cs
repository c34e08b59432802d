using System.IO.Compression;
using System.Text;
using CsCheck;
using KamOtel.Agent;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using KamOtel.Tests.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>What enters a fleet, in a file and back.</summary>
public sealed class RecordingTests
{
    private static readonly ulong[] Values = [0, SlotValue.Sentinel, History.Pointer, History.Pointer + 0x40];

    private static readonly Gen<string> Text = Gen.Char[' ', '~'].Array[0, 12].Select(static c => new string(c));

    private static readonly Gen<ulong> Number = Gen.OneOf(Gen.ULong, Gen.ULong[0, 3], Gen.Const(ulong.MaxValue));

    private static readonly Gen<ProcessId> Process = Gen.Select(Gen.Int, Number, static (pid, ticks) => new ProcessId(pid, ticks));

    private static readonly Gen<InstanceId> Instance = Gen.Select(Gen.Int, Number, static (pid, since) => new InstanceId(pid, since));

    private static readonly Gen<Observation> Observations =
        from kind in Any<ObservationKind>()
        from times in Number.Array[4]
        from process in Process
        from other in Process
        from instance in Instance
        from name in Gen.Byte.Array[0, 15]
        from numbers in Gen.Int.Array[2]
        from flags in Gen.Bool.Array[3]
        from key in Gen.UInt.Nullable()
        select new Observation
        {
            Kind = kind,
            TimeNs = times[0],
            KeyAddress = times[1],
            Value = times[2],
            Address = times[3],
            Process = process,
            Other = other,
            Instance = instance,
            Name = TaskName.From(name),
            Tid = numbers[0],
            Status = numbers[1],
            Watched = flags[0],
            LastThread = flags[1],
            HasStack = flags[2],
            Key = key,
        };

    private static readonly Gen<SharedMemory> Memory =
        Gen.Select(Text, Number, Number, Gen.UInt, Gen.UInt, Number, static (name, start, end, major, minor, inode) => new SharedMemory(name, start, end, major, minor, inode));

    private static readonly Gen<HeldSlot> Slots =
        Gen.Select(Gen.UInt, Number, Any<SlotOwner>(), Memory.Null(), static (key, value, owner, memory) => new HeldSlot(key, value, owner, memory));

    private static readonly Gen<ProcessInspection> Inspections =
        Gen.Select(Process, Number, Any<InspectionStatus>(), Text, Gen.Bool, Slots.Array[0, 4], Gen.Int, static (process, time, status, detail, maps, slots, others) => new ProcessInspection
        {
            Process = process,
            TimeNs = time,
            Status = status,
            Detail = detail,
            MapsLibcrypto = maps,
            MainThreadSlots = [.. slots],
            OtherThreadSlots = others,
        });

    private static readonly Gen<SharedMemoryPool> Pools =
        Gen.Select(Gen.ULong[0, 1UL << 47], Gen.ULong[1, 1UL << 40], Text.Null(), Gen.Double[0, 1], Gen.Double[0, 1], Gen.Bool, static (start, size, manager, used, most, known) =>
        {
            ulong max = (ulong)(size * most);
            ulong now = (ulong)(max * used);
            return known ? new SharedMemoryPool(start, start + size, manager, now, size - now, max) : new SharedMemoryPool(start, start + size, manager, null, null, null);
        });

    private static readonly Gen<ServerFacts> Facts =
        Gen.Select(Text.Null(), Text.Null(), Text.Array[0, 3], Text.Null(), Gen.Int.Nullable(), Pools.Null(), static (kamailio, openssl, modules, tls, mode, pool) =>
            new ServerFacts { Kamailio = kamailio, OpenSsl = openssl, Modules = [.. modules], TlsBackEnd = tls, TlsThreadsMode = mode, SharedMemory = pool });

    private static readonly Gen<CallChain> Chains =
        Gen.Select(
            Gen.Select(Text, Text.Null(), Gen.Bool, Text.Null(), Number, static (file, module, program, function, offset) => new CallFrame(file, module, program, function, offset)).Array[0, 4],
            Any<ChainEnd>(),
            Text,
            static (frames, end, detail) => new CallChain([.. frames], end, detail));

    private static readonly Gen<Container> Containers = Gen.Select(Text.Null(), Text.Null(), Text.Null(), static (id, host, pod) => new Container(id, host, pod));

    private static readonly Gen<FleetInput> Inputs = Gen.OneOf<FleetInput>(
        Gen.Select(Observations, Text.Null(), Containers.Null(), static (o, target, container) => (FleetInput)new ObservedInput(o, target, container)),
        Gen.Select(Instance, Text, static (i, target) => (FleetInput)new NamedInput(i, target)),
        Gen.Select(Process, Text, Number, Number.Nullable(), static (p, library, mapped, probed) => (FleetInput)new LibraryMappedInput(p, library, mapped, probed)),
        Gen.Select(Observations, Chains, static (o, chain) => (FleetInput)new AttributedInput(o, chain)),
        Gen.Select(Observations, Any<StartStep>(), Text.Null(), static (o, step, module) => (FleetInput)new EnteredInput(o, step, module)),
        Gen.Select(Number, Number, static (count, at) => (FleetInput)new EventsLostInput(count, at)),
        Number.Select(static at => (FleetInput)new AdvancedInput(at)),
        Number.Select(static at => (FleetInput)new JudgedInput(at)),
        Number.Select(static at => (FleetInput)new InspectionsTakenInput(at)),
        Gen.Select(Instance, Inspections.Array[0, 3], Facts.Null(), Number, static (i, found, facts, at) => (FleetInput)new InspectedInput(i, [.. found], facts, at)),
        Gen.Select(Observations, Inspections, static (o, copy) => (FleetInput)new DyingInput(o, copy)),
        Gen.Select(Observations, Any<ComplaintKind>(), Number.Nullable(), Text.Null(), Text.Null(), static (o, kind, address, module, caller) =>
            (FleetInput)new ComplainedInput(o, new Complaint(kind, address, module, caller))),
        Gen.Select(Instance, Gen.Select(Process, Gen.UInt, Gen.Long[0, 1L << 32], static (p, key, count) => new SharedUse(p, key, count)).Array[0, 3], Number, Number, static (i, uses, window, at) =>
            (FleetInput)new ConfirmedInput(i, [.. uses], window, at)));

    private static readonly Gen<(int Kind, int Process, int Value)[]> Histories =
        Gen.Select(Gen.Int[0, 99], Gen.Int[0, 30], Gen.Int[0, 3]).Array[0, 60];

    [Fact]
    public void Every_input_comes_back_as_it_was() =>
        Inputs.Array[1, 5].Sample(
            static inputs =>
            {
                using RecordingReader reader = Read(Write(inputs));
                foreach (FleetInput input in inputs)
                {
                    reader.Read().ShouldBeAssignableTo<InputLine>(reader.Problem).ShouldNotBeNull(reader.Problem).ToInput().ShouldBeEquivalentTo(input);
                }
                reader.Read().ShouldBeNull();
                reader.Problem.ShouldBeNull();
                reader.End!.Inputs.ShouldBe(inputs.Length);
            },
            iter: 1000);

    [Fact]
    public void A_replayed_history_makes_the_fleet_say_the_same() =>
        Histories.Sample(
            static steps =>
            {
                var journal = new Journal();
                var history = new History(journal: journal);
                Play(history, steps);
                _ = history.Fleet.Snapshot(history.Now);
                history.Fleet.Finish();
                FleetSnapshot end = history.Fleet.Snapshot(history.Now);

                using RecordingReader reader = Read(Write([.. journal.Inputs], history.Now));
                var sink = new RecordingSink();
                var replay = new Replay(reader, sink);
                replay.Run();

                replay.Inputs.ShouldBe(journal.Inputs.Count);
                sink.Told.ShouldBe(history.Sink.Told);
                sink.Crashes.ShouldBe(history.Sink.Crashes);
                sink.Complaints.ShouldBe(history.Sink.Complaints);
                sink.Times.ShouldBe(history.Sink.Times);
                sink.Verdicts.Select(static v => (v.Before, Shown(v.Now))).ShouldBe(history.Sink.Verdicts.Select(static v => (v.Before, Shown(v.Now))));
                replay.State.Fleet.TimeNs.ShouldBe(end.TimeNs);
                replay.State.Fleet.Instances.Select(Shown).ShouldBe(end.Instances.Select(Shown));
                replay.State.Fleet.Targets.Select(Shown).ShouldBe(end.Targets.Select(Shown));
            },
            iter: 500);

    [Fact]
    public void A_file_that_is_cut_anywhere_replays_to_its_last_whole_record_and_says_so()
    {
        byte[] whole = Small(out int inputs);
        long before = 0;
        for (int length = 0; length < whole.Length; length++)
        {
            RecordingReader reader;
            try
            {
                reader = Read(whole[..length]);
            }
            catch (RecordingException e)
            {
                e.ExitCode.ShouldBe(ExitCode.DataError);
                before.ShouldBe(0, "a header that could be read stays readable");
                continue;
            }
            using (reader)
            {
                var replay = new Replay(reader, sink: null);
                replay.Run();
                replay.Inputs.ShouldBeInRange(before, inputs);
                before = replay.Inputs;
                if (reader.End is null)
                {
                    reader.Problem.ShouldNotBeNull();
                    string remark = ReplayCommand.Remarks(replay, reader).ShouldHaveSingleItem();
                    remark.ShouldContain($"{replay.Inputs} inputs were replayed");
                    remark.ShouldContain($" of {length}, after ");
                }
            }
        }
        before.ShouldBe(inputs);
    }

    [Fact]
    public void A_file_that_is_damaged_anywhere_is_never_the_end_of_the_replay()
    {
        byte[] whole = Small(out int inputs);
        for (int at = 0; at < whole.Length; at++)
        {
            byte[] damaged = [.. whole];
            damaged[at] ^= 0x55;
            try
            {
                using RecordingReader reader = Read(damaged);
                var replay = new Replay(reader, sink: null);
                replay.Run();
                replay.Inputs.ShouldBeLessThanOrEqualTo(inputs);
            }
            catch (RecordingException e)
            {
                e.Message.ShouldContain("test.kamotel");
            }
        }
    }

    [Theory]
    [InlineData("", "does not begin with a whole line")]
    [InlineData("no JSON\n", "is no JSON")]
    [InlineData("[]\n", "does not say")]
    [InlineData("{\"format\":\"tar\",\"version\":1}\n", "does not say")]
    [InlineData("{\"format\":\"kamotel-recording\",\"version\":2,\"fleet\":7}\n", "of version 2")]
    [InlineData("{\"format\":\"kamotel-recording\",\"version\":1}\n", "header of the recording is damaged")]
    [InlineData("{\"format\":\"kamotel-recording\",\"version\":1,\"bootToWallNs\":9223372036854775807,\"fleet\":{\"maxSlotsPerProcess\":1,\"maxTargets\":1}}\n", "header of the recording is damaged")]
    [InlineData("{\"format\":\"kamotel-recording\",\"version\":1,\"bootToWallNs\":0,\"fleet\":{\"maxSlotsPerProcess\":-1,\"maxTargets\":1}}\n", "header of the recording is damaged")]
    public void What_is_no_recording_is_refused_with_what_was_expected(string text, string why)
    {
        RecordingException refused = Should.Throw<RecordingException>(() => Read(Zip(Encoding.UTF8.GetBytes(text))));
        refused.ExitCode.ShouldBe(ExitCode.DataError);
        refused.Message.ShouldContain("test.kamotel");
        refused.Message.ShouldContain(why);
    }

    [Theory]
    [InlineData("{\"t\":\"time\",\"at\":-1}")]
    [InlineData("{\"t\":\"unheard\"}")]
    [InlineData("{\"at\":1}")]
    [InlineData("null")]
    [InlineData("{\"t\":\"observed\",\"kind\":4}")]
    [InlineData("{\"t\":\"observed\",\"kind\":\"exec\",\"process\":\"1\"}")]
    [InlineData("{\"t\":\"observed\",\"kind\":\"exec\",\"nameBytes\":\"zz\"}")]
    [InlineData("{\"t\":\"observed\",\"kind\":\"set_local\",\"value\":\"0xfffffffffffffffff\"}")]
    [InlineData("{\"t\":\"inspected\",\"instance\":\"1@1\",\"found\":[null]}")]
    [InlineData("{\"t\":\"inspected\",\"instance\":\"1@1\"}")]
    [InlineData("{\"t\":\"inspected\",\"instance\":\"1@1\",\"found\":[{\"process\":\"1@1\",\"slots\":[null]}]}")]
    [InlineData("{\"t\":\"inspected\",\"instance\":\"1@1\",\"found\":[],\"facts\":{\"modules\":[],\"sharedMemory\":{\"start\":\"0x2\",\"end\":\"0x1\"}}}")]
    [InlineData("{\"t\":\"inspected\",\"instance\":\"1@1\",\"found\":[],\"facts\":{\"modules\":[],\"sharedMemory\":{\"start\":\"0x1\",\"end\":\"0x9\",\"used\":4,\"free\":5,\"maxUsed\":4}}}")]
    [InlineData("{\"t\":\"inspected\",\"instance\":\"1@1\",\"found\":[],\"facts\":{\"modules\":[],\"sharedMemory\":{\"start\":\"0x1\",\"end\":\"0x9\",\"used\":4}}}")]
    [InlineData("{\"t\":\"chain\",\"frames\":[{}]}")]
    [InlineData("{\"t\":\"confirmed\",\"instance\":\"1@1\",\"uses\":[{\"process\":\"1@1\",\"key\":1,\"count\":9223372036854775807}]}")]
    [InlineData("{\"t\":\"agent\",\"events\":[null],\"libraries\":[]}")]
    [InlineData("{\"t\":\"time\",\"at\":1}{\"t\":\"time\",\"at\":1}")]
    public void A_line_that_makes_no_sense_ends_the_replay_and_is_named(string line)
    {
        using RecordingReader reader = Read([.. Write([new AdvancedInput(7)], end: false), .. Zip(Encoding.UTF8.GetBytes(line + "\n{\"t\":\"end\"}\n"))]);
        var replay = new Replay(reader, sink: null);
        replay.Run();
        replay.Inputs.ShouldBe(1);
        reader.Problem.ShouldNotBeNull().ShouldContain("line 3");
    }

    [Fact]
    public void What_follows_the_end_is_not_passed_over_in_silence()
    {
        byte[] one = Write([new AdvancedInput(7)]);
        using RecordingReader reader = Read([.. one, .. one]);
        var replay = new Replay(reader, sink: null);
        replay.Run();
        replay.Inputs.ShouldBe(1);
        ReplayCommand.Remarks(replay, reader).ShouldHaveSingleItem().ShouldContain("after its last line there is more");
    }

    [Fact]
    public void A_line_without_end_takes_bounded_memory()
    {
        // A gigabyte of one line in a megabyte.
        var bomb = new MemoryStream();
        using (var gzip = new GZipStream(bomb, CompressionLevel.Fastest, leaveOpen: true))
        {
            byte[] spaces = new byte[1 << 20];
            spaces.AsSpan().Fill((byte)' ');
            for (int i = 0; i < 1024; i++)
            {
                gzip.Write(spaces);
            }
        }
        using RecordingReader reader = Read([.. Write([], end: false), .. bomb.ToArray()]);
        long before = GC.GetTotalAllocatedBytes();
        new Replay(reader, sink: null).Run();
        reader.Problem.ShouldNotBeNull().ShouldContain("has more than");
        (GC.GetTotalAllocatedBytes() - before).ShouldBeLessThan(64L << 20);
    }

    [Fact]
    public void A_file_from_elsewhere_does_not_speak_to_the_terminal()
    {
        using RecordingReader reader = Read(Write([new NamedInput(new InstanceId(1, 1), "a\u001b[2Jb\n")]));
        reader.Read().ShouldBeOfType<NamedLine>().Target.ShouldBe("a?[2Jb?");
    }

    [Fact]
    public void A_recording_is_never_larger_than_it_may_be_and_ends_in_order()
    {
        const long Most = 20_000;
        var file = new MemoryStream();
        using var writer = new RecordingWriter(file, Header(), Most);
        ulong at = 0;
        while (writer.TryWrite(new NamedLine { Instance = new InstanceId(1, at++), Target = Guid.NewGuid().ToString() }))
        {
        }
        writer.End(RecordingEnd.Size, lost: 0, at);
        file.Length.ShouldBe(writer.Bytes);
        file.Length.ShouldBeInRange(Most / 2, Most);
        using RecordingReader reader = Read(file.ToArray());
        while (reader.Read() is not null)
        {
        }
        reader.End.ShouldBe(new EndLine { Why = RecordingEnd.Size, At = at, Inputs = writer.Inputs });
    }

    [Fact]
    public async Task A_full_disk_ends_the_recording_with_its_reason()
    {
        bool ended = false;
        using var recorder = new Recorder(new RecordingWriter(new FullDisk(after: 1000), Header()), @for: null);
        recorder.Begin(new AgentState(), () => ended = true, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        for (ulong i = 0; i < 50_000; i++)
        {
            recorder.Take(new NamedInput(new InstanceId(1, i), Guid.NewGuid().ToString()));
        }
        await recorder.FinishAsync();
        ended.ShouldBeTrue();
        recorder.Failure.ShouldBe("No space left on device");
        recorder.End.ShouldBeNull();
    }

    [Fact]
    public async Task What_comes_faster_than_it_can_be_written_ends_the_recording_and_is_counted()
    {
        var file = new MemoryStream();
        using var recorder = new Recorder(new RecordingWriter(file, Header()), @for: null);
        for (ulong i = 0; i < 100_100; i++)
        {
            recorder.Take(new AdvancedInput(i));
        }
        recorder.Begin(new AgentState(), static () => { }, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await recorder.FinishAsync();
        recorder.End.ShouldBe(RecordingEnd.Overflow);
        recorder.Lost.ShouldBe(100);
        using RecordingReader reader = Read(file.ToArray());
        var replay = new Replay(reader, sink: null);
        replay.Run();
        replay.Inputs.ShouldBe(100_000);
        ReplayCommand.Remarks(replay, reader).ShouldHaveSingleItem().ShouldContain("100 inputs came faster");
    }

    [Theory]
    [InlineData("90", 90)]
    [InlineData("1.5m", 90)]
    [InlineData("250ms", 0.25)]
    [InlineData("1h", 3600)]
    public void A_time_is_a_number_with_a_unit(string text, double seconds) => Quantity.Time("--for", text).ShouldBe(TimeSpan.FromSeconds(seconds));

    [Theory]
    [InlineData("0")]
    [InlineData("-5s")]
    [InlineData("s")]
    [InlineData("5 days")]
    public void What_is_no_time_is_a_mistake(string text) => Should.Throw<UsageException>(() => Quantity.Time("--for", text)).Message.ShouldContain($"'{text}'");

    [Theory]
    [InlineData("65536", 65536)]
    [InlineData("1.5MiB", 1572864)]
    public void A_size_is_a_number_with_a_unit(string text, long bytes) => Quantity.Bytes("--max-size", text).ShouldBe(bytes);

    private static Gen<T> Any<T>()
        where T : struct, Enum
    {
        T[] all = Enum.GetValues<T>();
        return Gen.Int[0, all.Length - 1].Select(i => all[i]);
    }

    private static void Play(History history, (int Kind, int Process, int Value)[] steps)
    {
        var alive = new List<int>();
        int next = 10;
        foreach ((int kind, int process, int value) in steps)
        {
            if (alive.Count == 0 || kind < 5)
            {
                _ = kind % 2 == 0 ? history.Exec(next) : history.Seed(next);
                alive.Add(next++);
                continue;
            }
            int pid = alive[process % alive.Count];
            switch (kind)
            {
                case < 25:
                    history.Fork(pid, next);
                    alive.Add(next++);
                    break;
                case < 33:
                    history.Exit(pid, value == 0 ? 11 : 0);
                    _ = alive.Remove(pid);
                    break;
                case < 55:
                    history.Set(pid, (uint)(process % 4), Values[value], value == 1 ? pid + 1000 : pid);
                    break;
                case < 60:
                    history.Library(pid, lateNs: value - 1);
                    break;
                case < 65:
                    history.Fleet.Name(history.InstanceOf(pid), $"server {value}");
                    break;
                case < 68:
                    history.Fleet.EventsLost((ulong)value, history.Now);
                    break;
                case < 70:
                    history.Dying(pid, value == 0 ? 6 : 11, history.Found(pid, History.Shared()), hasStack: value < 2);
                    break;
                case 70 when history.Fatal.HasStack:
                    // Of whoever was told last, alive or not.
                    history.Unwound(CallChain.Unknown(ChainEnd.Truncated, $"{value}"));
                    break;
                case < 72:
                    history.Complain(pid, (ComplaintKind)(process % 5), value == 0 ? null : Values[value], value == 3 ? null : "tls");
                    break;
                case < 76:
                    history.Fleet.Confirmed(history.InstanceOf(pid), [new SharedUse(History.Id(pid), 0, value)], History.Second, history.Now);
                    break;
                case < 84:
                    history.Settle();
                    break;
                case < 88:
                    _ = history.Fleet.Snapshot(history.Now);
                    break;
                case < 91:
                    history.Wait(70 * History.Second);
                    break;
                default:
                    history.SettleAndInspect(other => value switch
                    {
                        0 => history.Found(other),
                        1 => history.Found(other, History.Private()),
                        2 when other % 5 == 0 => history.Found(other) with { Status = InspectionStatus.Gone },
                        _ => history.Found(other, History.Shared()),
                    });
                    break;
            }
        }
    }

    /// <summary>A snapshot with all that is in it, to be compared.</summary>
    private static string Shown<T>(T value) => System.Text.Json.JsonSerializer.Serialize(value);

    private static byte[] Small(out int inputs)
    {
        var journal = new Journal();
        var history = new History(journal: journal);
        history.Exec(10).Set(10).Fork(10, 11).Fork(10, 12).SettleAndInspect(pid => history.Found(pid, History.Shared())).Exit(12, 11);
        inputs = journal.Inputs.Count;
        using var file = new MemoryStream();
        using (var writer = new RecordingWriter(file, Header()))
        {
            foreach (FleetInput input in journal.Inputs)
            {
                writer.TryWrite(InputLine.Of(input)).ShouldBeTrue();
                writer.Flush();
            }
            writer.End(RecordingEnd.Stopped, lost: 0, history.Now);
        }
        return file.ToArray();
    }

    private static RecordingHeader Header() => Recorder.HeaderOf(BootClock.Sample(), new FleetOptions());

    private static byte[] Write(FleetInput[] inputs, ulong atNs = 0, bool end = true)
    {
        using var file = new MemoryStream();
        using (var writer = new RecordingWriter(file, Header()))
        {
            foreach (FleetInput input in inputs)
            {
                writer.TryWrite(InputLine.Of(input)).ShouldBeTrue();
            }
            writer.Flush();
            if (end)
            {
                writer.End(RecordingEnd.Stopped, lost: 0, atNs);
            }
        }
        return file.ToArray();
    }

    private static RecordingReader Read(byte[] file) => new(new MemoryStream(file), "test.kamotel");

    private static byte[] Zip(byte[] text)
    {
        using var file = new MemoryStream();
        using (var gzip = new GZipStream(file, CompressionLevel.Fastest, leaveOpen: true))
        {
            gzip.Write(text);
        }
        return file.ToArray();
    }

    private sealed class Journal : IFleetJournal
    {
        public List<FleetInput> Inputs { get; } = [];

        public void Take(FleetInput input) => Inputs.Add(input);
    }

    /// <summary>Takes so many bytes, and no more.</summary>
    private sealed class FullDisk(int after) : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count)
        {
            base.Write(buffer, offset, count);
            if (Length > after)
            {
                throw new IOException("No space left on device");
            }
        }
    }
}
