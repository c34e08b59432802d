using System.Collections.Immutable;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

/// <summary><c>tests/targets/stacks.c</c>, standing still in a call chain of known truth until it is told to go on.</summary>
internal sealed class UnwindTarget : IDisposable
{
    private readonly Process _process;

    private UnwindTarget(Process process) => _process = process;

    public int Pid => _process.Id;

    public ulong[] Registers { get; private set; } = [];

    /// <summary>Return addresses that the functions found themselves, innermost first; the outermost ones are not told.</summary>
    public ulong[] Truth { get; private set; } = [];

    public ulong StackPointer => Registers[7];

    public static string Compile(Scratch scratch, string compiler = "gcc", params string[] options)
    {
        Tools.Require(RuntimeInformation.ProcessArchitecture == Architecture.X64, "x86-64, the only machine whose stacks are unwound");
        string path = scratch["stacks"];
        Tools.Run(compiler, ["-O2", "-fomit-frame-pointer", "-rdynamic", "-o", path, $"{Tools.Targets}/stacks.c", "-pthread", "-ldl", .. options]);
        return path;
    }

    /// <summary>A library whose only names are those that the loader needs, and no frame pointer in it.</summary>
    public static string CompileLibrary(Scratch scratch, string name, params string[] options)
    {
        string path = scratch[$"lib{name}.so"];
        Tools.Run("gcc", ["-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fomit-frame-pointer", "-Wl,-z,lazy", "-s", $"-DNAME={name}", "-o", path, $"{Tools.Targets}/stacks_library.c", .. options]);
        return path;
    }

    public static string CompileStepper(Scratch scratch)
    {
        string path = scratch["steps"];
        Tools.Run("gcc", ["-O2", "-o", path, $"{Tools.Targets}/steps.c"]);
        return path;
    }

    public static UnwindTarget Start(string program, params string[] steps)
    {
        var target = new UnwindTarget(Tools.Start(program, steps));
        target.ReadPosition();
        return target;
    }

    /// <summary>Lets it go on to where it stands next.</summary>
    public void GoOn()
    {
        _process.StandardInput.Write('\n');
        _process.StandardInput.Flush();
        ReadPosition();
    }

    /// <summary>The code that it has mapped now.</summary>
    public AddressSpace Code() => CodeOf(Pid);

    public static AddressSpace CodeOf(int pid)
    {
        var files = new Dictionary<string, CodeFile>();
        var mappings = new List<CodeMapping>();
        foreach (Mapping mapping in new ProcFs().ReadMaps(pid, onlyCode: true).Value)
        {
            if (!files.TryGetValue(mapping.Path!, out CodeFile? file))
            {
                SafeFileHandle handle = mapping.Deleted
                    ? new ProcFs().OpenMapping(pid, mapping.Start, mapping.End).Value
                    : RegularFile.Open(mapping.Path!).Value;
                file = new CodeFile(handle, mapping.Path!, FileKey.Of(handle).Value, mapping.Deleted);
                files.Add(mapping.Path!, file);
            }

            mappings.Add(new(mapping.Start, mapping.End, mapping.Offset, file));
        }

        return AddressSpace.Create(mappings);
    }

    /// <summary>The stack from the stack pointer on, at most as long as told, from one window.</summary>
    public StackCopy Copy(int most = 64 * 1024, params int[] holes)
    {
        byte[] bitmap = new byte[16];
        foreach (int hole in holes)
        {
            bitmap[hole / 8] |= (byte)(1 << (hole % 8));
        }

        return new([.. Registers], [Window(StackPointer, most) with { Holes = bitmap }]);
    }

    /// <summary>The two ends of the stack.</summary>
    public StackCopy CopyEnds(int inner, int outer)
    {
        ulong end = StackEnd();
        return new([.. Registers], [Window(StackPointer, inner), Window(end - (ulong)outer, outer)]);
    }

    /// <summary>The frames up to the last told one are the true ones.</summary>
    public void ShouldHaveTrueFrames(UnwoundStack stack, int? count = null)
    {
        ulong[] told = [Registers[^1], .. Truth];
        ulong[] found = [.. stack.Frames.Select(static frame => frame.Address)];
        int compared = count ?? told.Length;
        found.Length.ShouldBeGreaterThanOrEqualTo(compared, stack.Detail);
        found.Take(compared).ShouldBe(told.Take(compared));
    }

    public void Dispose()
    {
        _process.StandardInput.Close();
        _process.WaitForExit();
        _process.Dispose();
    }

    private ulong StackEnd() =>
        new ProcFs().ReadMaps(Pid).Value.Single(mapping => mapping.Start <= StackPointer && StackPointer < mapping.End).End;

    private StackWindow Window(ulong address, int most)
    {
        byte[] bytes = new byte[Math.Min((ulong)most, StackEnd() - address)];
        ProcessMemory.TryRead(Pid, address, bytes, out ProcFailure failure).ShouldBeTrue(failure.Detail);
        return new(address, bytes, default);
    }

    private void ReadPosition()
    {
        Registers = Read("registers");
        Truth = Read("truth");
    }

    private ulong[] Read(string word)
    {
        string[] words = (_process.StandardOutput.ReadLine() ?? throw new InvalidOperationException("the target ended")).Split(' ');
        words[0].ShouldBe(word);
        return [.. words.Skip(1).Select(static text => ulong.Parse(text, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
    }
}
