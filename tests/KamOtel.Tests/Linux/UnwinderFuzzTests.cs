using System.Diagnostics;
using KamOtel.Fuzz;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class UnwinderFuzzTests
{
    /// <summary><c>make fuzz</c> in little: always the same inputs.</summary>
    [Fact]
    public void Spoiled_files_stacks_registers_and_mappings_harm_nobody()
    {
        using var scratch = new Scratch();
        Tools.Require(System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture == System.Runtime.InteropServices.Architecture.X64, "x86-64");
        using var fuzz = new UnwinderFuzz(StackSeed.Collect(Tools.Targets, scratch.Folder), scratch.Folder, 1);
        long start = Stopwatch.GetTimestamp();

        while (fuzz.Inputs < 20_000 && Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(10))
        {
            fuzz.Run();
        }

        fuzz.Inputs.ShouldBeGreaterThan(1000);
        foreach (UnwindEnd end in Enum.GetValues<UnwindEnd>().Where(static end => end is not (UnwindEnd.Failed or UnwindEnd.TooDeep)))
        {
            fuzz.Count(end).ShouldBeGreaterThan(0, $"{end}");
        }
    }
}
