using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using KamOtel.Bpf;

namespace KamOtel.KernelTests;

/// <summary>
/// What it costs a kernel to verify the programs: its limit is a million instructions, and a kernel that loses its way in a
/// loop or a branch walks many more of them than another does.
/// </summary>
public sealed unsafe partial class VerifierTests
{
    /// <summary>BPF_LOG_STATS.</summary>
    private const uint Statistics = 4;

    private const int LogSize = 4096;

    [Fact]
    public void The_kernel_walks_no_more_instructions_than_the_guide_allows()
    {
        Machine.MustRunBpf();
        Dictionary<string, int> allowed = Allowed();
        Dictionary<string, (int Instructions, int States)> walked = Verify();
        foreach ((string program, (int instructions, int states)) in walked.OrderBy(static p => p.Key, StringComparer.Ordinal))
        {
            TestContext.Current.TestOutputHelper!.WriteLine($"{program} {instructions} instructions {states} states");
        }
        walked.Keys.Order(StringComparer.Ordinal).ShouldBe(KernelTrial.Programs.Keys.Where(KernelTrial.IsExpected).Order(StringComparer.Ordinal));
        allowed.Keys.Order(StringComparer.Ordinal).ShouldBe(KernelTrial.Programs.Keys.Order(StringComparer.Ordinal), "docs/kernels.md has a row for each program");
        walked.Where(p => p.Value.Instructions > allowed[p.Key]).Select(p => $"{p.Key}: {p.Value.Instructions}, allowed {allowed[p.Key]}").ShouldBeEmpty();
    }

    /// <summary>The last column of the table in docs/kernels.md, by program.</summary>
    private static Dictionary<string, int> Allowed() =>
        File.ReadLines(Path.Combine(Machine.Repository, "docs", "kernels.md")).Select(static line => Row().Match(line)).Where(static row => row.Success)
            .ToDictionary(static row => row.Groups["program"].Value, static row => int.Parse(row.Groups["allowed"].Value, NumberStyles.AllowThousands, CultureInfo.InvariantCulture), StringComparer.Ordinal);

    /// <summary>Loads the object once, with a log for each program.</summary>
    private static Dictionary<string, (int Instructions, int States)> Verify()
    {
        var logs = new Dictionary<string, nint>(StringComparer.Ordinal);
        byte[] image = KernelSide.Embedded();
        nint opened;
        fixed (byte* bytes = image)
        {
            opened = bpf_object__open_mem(bytes, (nuint)image.Length, 0);
        }
        try
        {
            for (nint program = 0; (program = bpf_object__next_program(opened, program)) != 0;)
            {
                string name = Marshal.PtrToStringUTF8(bpf_program__name(program))!;
                if (!KernelTrial.IsExpected(name))
                {
                    _ = bpf_program__set_autoload(program, false);
                    continue;
                }
                nint log = logs[name] = (nint)NativeMemory.AllocZeroed(LogSize);
                _ = bpf_program__set_log_level(program, Statistics);
                _ = bpf_program__set_log_buf(program, log, LogSize);
            }
            bpf_object__load(opened).ShouldBe(0);
            return logs.ToDictionary(static p => p.Key, static p => Parse(Marshal.PtrToStringUTF8(p.Value)!), StringComparer.Ordinal);
        }
        finally
        {
            bpf_object__close(opened);
            foreach (nint log in logs.Values)
            {
                NativeMemory.Free((void*)log);
            }
        }
    }

    private static (int Instructions, int States) Parse(string log)
    {
        Match said = Processed().Match(log);
        said.Success.ShouldBeTrue(log);
        return (int.Parse(said.Groups["instructions"].Value, CultureInfo.InvariantCulture), int.Parse(said.Groups["states"].Value, CultureInfo.InvariantCulture));
    }

    [GeneratedRegex(@"processed (?<instructions>\d+) insns .* total_states (?<states>\d+) ")]
    private static partial Regex Processed();

    [GeneratedRegex(@"^\| `(?<program>kamotel_\w+)` \|.*\| (?<allowed>[\d,]+) \|$")]
    private static partial Regex Row();

    [LibraryImport("libbpf.so.1")]
    private static partial nint bpf_object__open_mem(byte* image, nuint size, nint options);

    [LibraryImport("libbpf.so.1")]
    private static partial nint bpf_object__next_program(nint @object, nint program);

    [LibraryImport("libbpf.so.1")]
    private static partial nint bpf_program__name(nint program);

    [LibraryImport("libbpf.so.1")]
    private static partial int bpf_program__set_autoload(nint program, [MarshalAs(UnmanagedType.U1)] bool autoload);

    [LibraryImport("libbpf.so.1")]
    private static partial int bpf_program__set_log_level(nint program, uint level);

    [LibraryImport("libbpf.so.1")]
    private static partial int bpf_program__set_log_buf(nint program, nint buffer, nuint size);

    [LibraryImport("libbpf.so.1")]
    private static partial int bpf_object__load(nint @object);

    [LibraryImport("libbpf.so.1")]
    private static partial void bpf_object__close(nint @object);
}
