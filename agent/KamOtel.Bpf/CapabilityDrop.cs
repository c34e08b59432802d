using System.Runtime.InteropServices;
using System.Text;

namespace KamOtel.Bpf;

/// <summary>Gives capabilities up, for good and for all threads.</summary>
public static unsafe partial class CapabilityDrop
{
    private const int SetPcap = 8;
    private const int ReadBounding = 23;
    private const int DropBounding = 24;
    private const int SetNoNewPrivileges = 38;

    /// <summary>_LINUX_CAPABILITY_VERSION_3.</summary>
    private const uint Version = 0x20080522;

    /// <summary>
    /// Leaves this process no capability but these, and no way to get another. Does not return when there was something to give
    /// up: capabilities belong to threads, and the runtime has some already, so the program begins anew, in the same process, with
    /// the same arguments. Who has no CAP_SETPCAP was given a list of its own, and keeps it.
    /// </summary>
    /// <param name="kept">Names, <c>CAP_BPF</c> for one. CAP_SETPCAP is not among them.</param>
    public static void KeepOnly(IEnumerable<string> kept)
    {
        ulong keep = Capabilities.MaskOf(kept);
        if ((Capabilities.Own.Effective >> SetPcap & 1) == 0 || (keep >> SetPcap & 1) != 0)
        {
            return;
        }
        for (int capability = 0; capability < 64; capability++)
        {
            if ((keep >> capability & 1) == 0 && prctl(ReadBounding, (nuint)capability, 0, 0, 0) == 1 && prctl(DropBounding, (nuint)capability, 0, 0, 0) != 0)
            {
                return; // Then it would come back.
            }
        }
        var header = new Header { Version = Version };
        Sets* sets = stackalloc Sets[2];
        if (capget(&header, sets) != 0)
        {
            return;
        }
        // What another user than root takes along is what may be inherited.
        sets[0].Inheritable &= (uint)keep;
        sets[1].Inheritable &= (uint)(keep >> 32);
        _ = capset(&header, sets);
        _ = prctl(SetNoNewPrivileges, 1, 0, 0, 0);
        Restart();
        // It did not go that way: the threads to come have no more than is kept.
        for (int i = 0; i < 2; i++)
        {
            uint mask = (uint)(keep >> (32 * i));
            sets[i].Permitted &= mask;
            sets[i].Effective &= mask;
        }
        _ = capset(&header, sets);
    }

    private static void Restart()
    {
        if (Environment.ProcessPath is not { } path)
        {
            return;
        }
        byte[] arguments = File.ReadAllBytes("/proc/self/cmdline");
        nint[] words = new nint[arguments.AsSpan().Count((byte)0) + 1];
        byte[] program = Encoding.UTF8.GetBytes(path + '\0');
        fixed (byte* first = arguments, file = program)
        fixed (nint* list = words)
        {
            int count = 0;
            for (int at = 0; at < arguments.Length; at += arguments.AsSpan(at).IndexOf((byte)0) + 1)
            {
                words[count++] = (nint)(first + at);
            }
            nint* environment = (nint*)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), "environ");
            _ = execve(file, list, *environment);
        }
    }

    [LibraryImport("libc")]
    private static partial int prctl(int option, nuint second, nuint third, nuint fourth, nuint fifth);

    [LibraryImport("libc")]
    private static partial int capget(Header* header, Sets* sets);

    [LibraryImport("libc")]
    private static partial int capset(Header* header, Sets* sets);

    [LibraryImport("libc")]
    private static partial int execve(byte* path, nint* arguments, nint environment);

    private struct Header
    {
        public uint Version;
        public int Pid;
    }

    private struct Sets
    {
        public uint Effective;
        public uint Permitted;
        public uint Inheritable;
    }
}
