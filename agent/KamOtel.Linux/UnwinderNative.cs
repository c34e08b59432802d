using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using static KamOtel.Linux.SpawnNative;

namespace KamOtel.Linux;

/// <summary>The system calls for a child process that .NET cannot start: it starts none without pipes and by descriptor.</summary>
internal static unsafe partial class UnwinderNative
{
    public const short PollIn = 1;
    public const short PollOut = 4;
    public const int Again = 11;
    public const int SigKill = 9;

    private const int Unix = 1;
    private const int SeqPacket = 5;
    private const int SocketLevel = 1;
    private const int SendBuffer = 7;
    private const int Rights = 1;
    private const int DontWait = 0x40;
    private const int NoSignal = 0x4000;
    private const int CloseOnExecReceived = 0x40000000;
    private const int NoHang = 1;
    private const uint MemfdCloseOnExec = 1;
    private const uint MemfdAllowSealing = 2;
    private const uint MemfdExecutable = 0x10;
    private const int AddSeals = 1033;
    private const int SealAll = 1 | 2 | 4 | 8; // no more seals, shrinking, growing, writing
    private const int SealSize = 1 | 2 | 4;
    private const int DuplicateCloseOnExec = 1030;
    private const short SpawnSetSigDefault = 4;
    private const short SpawnSetSigMask = 8;

    /// <summary>errno of the last call on this thread.</summary>
    private static int LastError => Marshal.GetLastPInvokeError();

    /// <summary>Two connected ends of a socket that keeps messages apart. False leaves the reason in errno.</summary>
    public static bool TrySocketPair(out SafeFileHandle ours, out SafeFileHandle theirs)
    {
        int* ends = stackalloc int[2];
        bool made = SocketPair(Unix, SeqPacket | Native.CloseOnExec, 0, ends) == 0;
        ours = new SafeFileHandle(made ? ends[0] : -1, ownsHandle: true);
        theirs = new SafeFileHandle(made ? ends[1] : -1, ownsHandle: true);
        if (made)
        {
            // As far as the machine allows; a message that does not fit is answered as failed.
            int size = 2 * UnwinderProtocol.MaxMessage;
            _ = SetSocketOption(ours, SocketLevel, SendBuffer, &size, sizeof(int));
        }

        return made;
    }

    /// <summary>Nameless memory that can be executed as a file, and never changed.</summary>
    public static SafeFileHandle CreateProgram(string name, ReadOnlySpan<byte> image)
    {
        // Kernels before 6.3 do not know the last flag, and make every one executable.
        SafeFileHandle file = CreateMemory(name, MemfdCloseOnExec | MemfdAllowSealing | MemfdExecutable);
        if (file.IsInvalid && LastError == Native.InvalidArgument)
        {
            file.Dispose();
            file = CreateMemory(name, MemfdCloseOnExec | MemfdAllowSealing);
        }

        if (!file.IsInvalid)
        {
            RandomAccess.Write(file, image, 0);
            _ = Control(file, AddSeals, SealAll);
        }

        return file;
    }

    /// <summary>Nameless memory of one page.</summary>
    public static SafeFileHandle CreatePage()
    {
        SafeFileHandle file = CreateMemory("kamotel-unwind-progress", MemfdCloseOnExec | MemfdAllowSealing);
        if (!file.IsInvalid)
        {
            RandomAccess.SetLength(file, 4096);
            _ = Control(file, AddSeals, SealSize);
        }

        return file;
    }

    /// <summary>Takes all permissions from a file of ours.</summary>
    public static bool CloseToAll(SafeFileHandle file) => ChangeMode(file, 0) == 0;

    /// <summary>
    /// Starts a program from its descriptor with two descriptors as its 3 and 4, without environment, with every signal as usual.
    /// Returns 0, or errno.
    /// </summary>
    public static int Spawn(SafeFileHandle program, SafeFileHandle third, SafeFileHandle fourth, out int pid)
    {
        // Larger than either type is on glibc and musl.
        byte* actions = stackalloc byte[1024];
        byte* attributes = stackalloc byte[1024];
        byte* signals = stackalloc byte[128];
        fixed (byte* name = "kamotel-unwind\0"u8)
        {
            byte** arguments = stackalloc byte*[2] { name, null };
            byte** environment = stackalloc byte*[1] { null };
            int child = 0;
            pid = 0;

            // Out of the way of 3 and 4, so that neither duplicate overwrites what the next one needs.
            using SafeFileHandle socket = Duplicate(third);
            using SafeFileHandle page = Duplicate(fourth);
            using SafeFileHandle image = Duplicate(program);
            if (socket.IsInvalid || page.IsInvalid || image.IsInvalid)
            {
                return LastError;
            }

            int error = FileActionsInit(actions);
            if (error != 0)
            {
                return error;
            }

            error = AttributesInit(attributes);
            if (error == 0)
            {
                new Span<byte>(signals, 128).Clear();
                _ = AttributesSetMask(attributes, signals);
                new Span<byte>(signals, 128).Fill(0xff);
                _ = SignalRemove(signals, SigKill);
                _ = SignalRemove(signals, 19);
                _ = AttributesSetDefault(attributes, signals);
                _ = AttributesSetFlags(attributes, SpawnSetSigMask | SpawnSetSigDefault);
                error = FileActionsDuplicate(actions, (int)socket.DangerousGetHandle(), 3);
                error = error != 0 ? error : FileActionsDuplicate(actions, (int)page.DangerousGetHandle(), 4);
                error = error != 0 ? error : Spawn(&child, RegularFile.PathOf(image), actions, attributes, arguments, environment);
                _ = AttributesDestroy(attributes);
            }

            _ = FileActionsDestroy(actions);
            pid = child;
            return error;
        }
    }

    /// <summary>Sends one message of several parts, and a descriptor unless it is −1. False leaves the reason in <paramref name="errno"/>.</summary>
    public static bool TrySend(SafeFileHandle socket, ReadOnlySpan<MemoryRange> parts, int descriptor, out int errno)
    {
        ControlMessage control = new() { Length = (nuint)(sizeof(ControlMessage) - 4), Level = SocketLevel, Type = Rights, Descriptor = descriptor };
        fixed (MemoryRange* vector = parts)
        {
            var message = new Message
            {
                Parts = vector,
                PartCount = (nuint)parts.Length,
                Control = descriptor < 0 ? null : &control,
                ControlLength = descriptor < 0 ? 0 : (nuint)sizeof(ControlMessage),
            };
            nint sent;
            do
            {
                sent = SendMessage(socket, &message, DontWait | NoSignal);
                errno = sent < 0 ? LastError : 0;
            }
            while (errno == Native.Interrupted);
            return sent >= 0;
        }
    }

    /// <summary>Receives one message without waiting: its length as it was sent, 0 at the end, −1 with <paramref name="errno"/>. Descriptors are refused.</summary>
    public static nint Receive(SafeFileHandle socket, Span<byte> buffer, out int errno)
    {
        const int Truncated = 0x20;
        fixed (byte* start = buffer)
        {
            nint length;
            do
            {
                // Without room for them, descriptors that come along are closed by the kernel.
                length = Receive(socket, start, (nuint)buffer.Length, DontWait | Truncated | CloseOnExecReceived);
                errno = length < 0 ? LastError : 0;
            }
            while (errno == Native.Interrupted);
            return length;
        }
    }

    /// <summary>Waits for a socket. False when the time is over.</summary>
    public static bool Wait(SafeFileHandle socket, short events, int milliseconds)
    {
        bool added = false;
        try
        {
            socket.DangerousAddRef(ref added);
            var descriptor = new PollDescriptor { Descriptor = (int)socket.DangerousGetHandle(), Events = events };
            int ready = Poll(&descriptor, 1, milliseconds);

            // A signal came: the caller looks again, and knows the time.
            return ready > 0 || (ready < 0 && LastError == Native.Interrupted);
        }
        finally
        {
            if (added)
            {
                socket.DangerousRelease();
            }
        }
    }

    /// <summary>Ends a child of ours that was not waited for yet. False when the kernel does not let us.</summary>
    public static bool Kill(int pid) => SendSignal(pid, SigKill) == 0 || LastError != Native.NotPermitted;

    /// <summary>Waits for a child's end, which must be near. The status is as waitpid(2) gives it; −1 when somebody else took it.</summary>
    public static int Reap(int pid)
    {
        int status;
        int result;
        do
        {
            result = WaitPid(pid, &status, 0);
        }
        while (result < 0 && LastError == Native.Interrupted);
        return result == pid ? status : -1;
    }

    /// <summary>Whether a child has ended; then it is waited for.</summary>
    public static bool HasEnded(int pid, out int status)
    {
        int value;
        int result = WaitPid(pid, &value, NoHang);
        status = result == pid ? value : -1;
        return result != 0;
    }

    private static SafeFileHandle Duplicate(SafeFileHandle file) => new(Control(file, DuplicateCloseOnExec, 10), ownsHandle: true);

    [LibraryImport("libc", EntryPoint = "socketpair", SetLastError = true)]
    private static partial int SocketPair(int domain, int type, int protocol, int* ends);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static partial int SetSocketOption(SafeFileHandle socket, int level, int name, void* value, uint length);

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial SafeFileHandle CreateMemory(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "fchmod", SetLastError = true)]
    private static partial int ChangeMode(SafeFileHandle file, uint mode);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial nint Control(SafeFileHandle file, int command, nint argument);

    [LibraryImport("libc", EntryPoint = "sigdelset")]
    private static partial int SignalRemove(byte* signals, int signal);

    [LibraryImport("libc", EntryPoint = "posix_spawn", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Spawn(int* pid, string path, byte* actions, byte* attributes, byte** arguments, byte** environment);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMessage(SafeFileHandle socket, Message* message, int flags);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    private static partial nint Receive(SafeFileHandle socket, byte* buffer, nuint size, int flags);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static partial int Poll(PollDescriptor* descriptors, nuint count, int milliseconds);

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int SendSignal(int pid, int signal);

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static partial int WaitPid(int pid, int* status, int options);

    /// <summary>struct cmsghdr with one descriptor, padded as the kernel counts.</summary>
    private struct ControlMessage
    {
        public nuint Length;
        public int Level;
        public int Type;
        public int Descriptor;
        public int Padding;
    }

    /// <summary>struct msghdr.</summary>
    private struct Message
    {
        public void* Name;
        public uint NameLength;
        public MemoryRange* Parts;
        public nuint PartCount;
        public void* Control;
        public nuint ControlLength;
        public int Flags;
    }

    private struct PollDescriptor
    {
        public int Descriptor;
        public short Events;
        public short Returned;
    }
}
