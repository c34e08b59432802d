using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Extensions.Logging.Abstractions;

namespace KamOtel.KernelTests;

/// <summary>Programs that are tried one by one.</summary>
public sealed class KernelTrialTests
{
    [Fact]
    public void Every_program_of_the_object_is_tried_and_works_alone()
    {
        Machine.MustRunBpf();
        using var scratch = new Scratch();
        string file = Path.Combine(scratch.Path, "kamotel.bpf.o");
        File.WriteAllBytes(file, KernelSide.Embedded());
        string[] functions =
        [
            .. Machine.Run("readelf", "-sW", file).Split('\n').Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
                .Where(static words => words.Length == 8 && words[3] == "FUNC" && words[4] == "GLOBAL").Select(static words => words[7]),
        ];
        KernelTrial.Programs.Keys.Order(StringComparer.Ordinal).ShouldBe(functions.Order(StringComparer.Ordinal));

        using var sample = new SampleFunction();
        foreach (string program in KernelTrial.Programs.Keys.Where(KernelTrial.IsExpected))
        {
            using KernelTrial trial = KernelTrial.Load(program, Environment.SystemPageSize, NullLogger.Instance);
            trial.Attach(sample.Path, SampleFunction.OffsetOf(EntryInstruction.Push));
        }
    }

    [Fact]
    public void A_probe_on_a_sample_function_is_hit_and_leaves_with_its_trial()
    {
        Machine.MustRunBpf();
        ProcessId self = new ProcFs().ReadStat(Environment.ProcessId).Value.Id;
        using var sample = new SampleFunction();
        using (KernelTrial trial = KernelTrial.Load("kamotel_set", Environment.SystemPageSize, NullLogger.Instance))
        {
            foreach (EntryInstruction entry in Enum.GetValues<EntryInstruction>())
            {
                trial.Attach(sample.Path, SampleFunction.OffsetOf(entry));
            }
            sample.Call(EntryInstruction.Push, 3);
            trial.TakeRecords().ShouldBe(0, "nobody is watched yet");
            trial.WatchSelf(self);
            foreach (EntryInstruction entry in Enum.GetValues<EntryInstruction>())
            {
                sample.Call(entry, 3);
                trial.TakeRecords().ShouldBe(3, entry.ToString());
            }
        }
        Machine.ObjectIds(Machine.Descriptors(), "prog").ShouldBeEmpty();
        sample.Call(EntryInstruction.Subtract, 1);
    }
}
