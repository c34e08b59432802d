using System.Buffers.Binary;
using System.Globalization;
using System.Text.RegularExpressions;

namespace KamOtel.KernelTests;

/// <summary>Where the C libraries of this machine keep thread-local values, as their own files tell.</summary>
internal static partial class SlotTables
{
    /// <summary>glibc: what it tells libthread_db.</summary>
    public static long GlibcOffset()
    {
        string libc = Path.Combine(Path.GetDirectoryName(Machine.Libcrypto)!, "libc.so.6");
        string symbol = Machine.Run("nm", "-D", libc).Split('\n').Single(static line => line.Contains(" _thread_db_pthread_specific", StringComparison.Ordinal));
        ulong address = ulong.Parse(symbol.Split(' ')[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        // The descriptor is {size in bits, elements, offset}, three 32-bit numbers.
        string dump = Machine.Run("objdump", "-s", $"--start-address=0x{address:x}", $"--stop-address=0x{address + 12:x}", libc);
        string[] words = dump.Split('\n', StringSplitOptions.RemoveEmptyEntries)[^1].Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return BinaryPrimitives.ReadInt32LittleEndian(Convert.FromHexString(words[3]));
    }

    /// <summary>musl: what its own pthread_getspecific does.</summary>
    public static long MuslOffset() =>
        long.Parse(
            TableLoad().Match(Machine.Run("objdump", "-d", "--disassemble=pthread_getspecific", Machine.MuslLoader!)).Groups["offset"].Value,
            NumberStyles.HexNumber,
            CultureInfo.InvariantCulture);

    [GeneratedRegex(@"mov\s+0x(?<offset>[0-9a-f]+)\(%rax\),%rax", RegexOptions.ExplicitCapture | RegexOptions.CultureInvariant)]
    private static partial Regex TableLoad();
}
