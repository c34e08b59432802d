using System.Diagnostics;
using System.Globalization;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Fuzz;

/// <summary>An honest stack with the code that it belongs to: what is then spoiled.</summary>
internal sealed record StackSeed(AddressSpace Code, ulong[] Registers, byte[] Stack, ulong[] Frames)
{
    private const int Window = 4096;

    /// <summary>Compiles the programs of <c>tests/targets</c> into a folder, and takes a stack of each kind.</summary>
    public static List<StackSeed> Collect(string targets, string folder)
    {
        string program = Path.Combine(folder, "stacks");
        Compile(["-O2", "-fomit-frame-pointer", "-rdynamic", "-o", program, $"{targets}/stacks.c", "-pthread", "-ldl"]);
        var libraries = new List<string>();
        foreach ((string name, string[] options) in ((string, string[])[])[("first", ["-s"]), ("second", ["-Wl,--no-eh-frame-hdr"]), ("third", ["-fno-omit-frame-pointer", "-Wl,-z,ibtplt"])])
        {
            string path = Path.Combine(folder, $"lib{name}.so");
            Compile(["-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-fomit-frame-pointer", $"-DNAME={name}", "-o", path, $"{targets}/stacks_library.c", .. options]);
            libraries.Add($"{path}:{name}");
        }

        return
        [
            Take(program, [.. libraries]),
            Take(program, "signal", libraries[0]),
            Take(program, "thread", libraries[1], libraries[2]),
            Take(program, libraries[2], "deep=20", libraries[0]),
        ];
    }

    private static void Compile(string[] arguments)
    {
        using Process process = Process.Start(new ProcessStartInfo("gcc", arguments) { UseShellExecute = false })!;
        process.WaitForExit();
        if (process.ExitCode != 0)
        {
            throw new InvalidOperationException($"gcc ended with {process.ExitCode}");
        }
    }

    private static StackSeed Take(string program, params string[] steps)
    {
        using Process process = Process.Start(new ProcessStartInfo(program, steps) { UseShellExecute = false, RedirectStandardInput = true, RedirectStandardOutput = true })!;
        ulong[] registers = Read(process.StandardOutput);
        _ = Read(process.StandardOutput);
        byte[] stack = new byte[Window];
        using (FileStream memory = File.OpenRead($"/proc/{process.Id}/mem"))
        {
            memory.Position = (long)registers[7];
            stack = stack[..memory.ReadAtLeast(stack, Window, throwOnEndOfStream: false)];
        }

        var files = new Dictionary<string, CodeFile>();
        var mappings = new List<CodeMapping>();
        foreach (Mapping mapping in new ProcFs().ReadMaps(process.Id, onlyCode: true).Value)
        {
            if (!files.TryGetValue(mapping.Path!, out CodeFile? file))
            {
                SafeFileHandle handle = RegularFile.Open(mapping.Path!).Value;
                file = new(handle, mapping.Path!, FileKey.Of(handle).Value, deleted: false);
                files.Add(mapping.Path!, file);
            }

            mappings.Add(new(mapping.Start, mapping.End, mapping.Offset, file));
        }

        process.StandardInput.Close();
        process.WaitForExit();
        var code = AddressSpace.Create(mappings);
        using var unwinder = new Unwinder(new() { Deadline = TimeSpan.FromSeconds(30) });
        UnwoundStack unwound = unwinder.Unwind(code, new([.. registers], [new(registers[7], stack, default)]));
        return unwound.Frames.Length < 5
            ? throw new InvalidOperationException($"{string.Join(' ', steps)}: {unwound.End}: {unwound.Detail}")
            : new(code, registers, stack, [.. unwound.Frames.Select(static frame => frame.Address)]);
    }

    private static ulong[] Read(StreamReader output) =>
        [.. output.ReadLine()!.Split(' ').Skip(1).Select(static word => ulong.Parse(word, NumberStyles.HexNumber, CultureInfo.InvariantCulture))];
}
