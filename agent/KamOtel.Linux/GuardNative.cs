using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using static KamOtel.Linux.SpawnNative;

namespace KamOtel.Linux;

/// <summary>The system calls that start a guard: as a child that inherits everything, which .NET starts none as.</summary>
internal static unsafe partial class GuardNative
{
    private const int NoSignal = 0x4000;
    private const short SpawnSetSigDefault = 4;
    private const short SpawnSetSigMask = 8;

    /// <summary>
    /// Starts a program from its descriptor, with this process's environment and streams, every signal blocked and as usual.
    /// <paramref name="kept"/> keeps its number there. Returns 0, or errno.
    /// </summary>
    public static int Spawn(SafeFileHandle program, SafeFileHandle kept, IReadOnlyList<string> arguments, out int pid)
    {
        // Larger than either type is on glibc and musl.
        byte* actions = stackalloc byte[1024];
        byte* attributes = stackalloc byte[1024];
        byte* signals = stackalloc byte[128];
        byte** words = (byte**)NativeMemory.AllocZeroed((nuint)arguments.Count + 1, (nuint)sizeof(byte*));
        int child = 0;
        pid = 0;
        try
        {
            for (int i = 0; i < arguments.Count; i++)
            {
                words[i] = Copy(arguments[i]);
            }

            int error = FileActionsInit(actions);
            if (error != 0)
            {
                return error;
            }

            error = AttributesInit(attributes);
            if (error == 0)
            {
                new Span<byte>(signals, 128).Fill(0xff);
                _ = AttributesSetMask(attributes, signals);
                _ = AttributesSetDefault(attributes, signals);
                _ = AttributesSetFlags(attributes, SpawnSetSigMask | SpawnSetSigDefault);

                // Onto itself: that opens it to the child.
                int descriptor = (int)kept.DangerousGetHandle();
                error = FileActionsDuplicate(actions, descriptor, descriptor);
                nint* environment = (nint*)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), "environ");
                error = error != 0 ? error : Spawn(&child, RegularFile.PathOf(program), actions, attributes, words, (byte**)*environment);
                _ = AttributesDestroy(attributes);
            }

            _ = FileActionsDestroy(actions);
            pid = child;
            return error;
        }
        finally
        {
            for (int i = 0; i < arguments.Count; i++)
            {
                NativeMemory.Free(words[i]);
            }

            NativeMemory.Free(words);
        }
    }

    /// <summary>Sends one byte. Nobody there is no error: who is gone need not be told.</summary>
    public static void Send(SafeFileHandle socket, byte value) => _ = Send(socket, &value, 1, NoSignal);

    /// <summary>This process may execute the file.</summary>
    public static bool IsExecutable(string path) => Access(path, 1) == 0;

    private static byte* Copy(string text)
    {
        int length = Encoding.UTF8.GetByteCount(text);
        byte* copy = (byte*)NativeMemory.Alloc((nuint)length + 1);
        _ = Encoding.UTF8.GetBytes(text, new Span<byte>(copy, length));
        copy[length] = 0;
        return copy;
    }

    [LibraryImport("libc", EntryPoint = "posix_spawn", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Spawn(int* pid, string path, byte* actions, byte* attributes, byte** arguments, byte** environment);

    [LibraryImport("libc", EntryPoint = "send", SetLastError = true)]
    private static partial nint Send(SafeFileHandle socket, byte* buffer, nuint size, int flags);

    [LibraryImport("libc", EntryPoint = "access", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Access(string path, int mode);
}
