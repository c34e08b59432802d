using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>libbpf's C interface (1.0 and later: pointers are null and errno set on error, numbers are −errno).</summary>
internal static unsafe partial class Libbpf
{
    private const string Library = "libbpf.so.1";

    /// <summary>BPF_NOEXIST: add, never replace.</summary>
    internal const ulong NoExist = 1;

    [LibraryImport(Library)]
    internal static partial byte* libbpf_version_string();

    [LibraryImport(Library)]
    internal static partial nint libbpf_set_print(delegate* unmanaged[Cdecl]<int, byte*, nint, int> print);

    [LibraryImport(Library)]
    internal static partial int libbpf_num_possible_cpus();

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint bpf_object__open_mem(byte* image, nuint size, in OpenOptions options);

    [LibraryImport(Library)]
    internal static partial int bpf_object__load(nint @object);

    [LibraryImport(Library)]
    internal static partial void bpf_object__close(nint @object);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial nint bpf_object__find_map_by_name(nint @object, string name);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial nint bpf_object__find_program_by_name(nint @object, string name);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint bpf_object__next_map(nint @object, nint map);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint bpf_object__next_program(nint @object, nint program);

    [LibraryImport(Library)]
    internal static partial int bpf_map__set_autocreate(nint map, [MarshalAs(UnmanagedType.U1)] bool autocreate);

    [LibraryImport(Library)]
    internal static partial int bpf_map__fd(nint map);

    [LibraryImport(Library)]
    internal static partial int bpf_map__set_max_entries(nint map, uint entries);

    [LibraryImport(Library)]
    internal static partial uint bpf_map__max_entries(nint map);

    [LibraryImport(Library)]
    internal static partial int bpf_map_update_elem(int fd, void* key, void* value, ulong flags);

    [LibraryImport(Library)]
    internal static partial int bpf_map_lookup_elem(int fd, void* key, void* value);

    [LibraryImport(Library)]
    internal static partial int bpf_map_get_next_key(int fd, void* key, void* next);

    [LibraryImport(Library)]
    internal static partial int bpf_map_delete_elem(int fd, void* key);

    [LibraryImport(Library)]
    internal static partial int bpf_program__set_autoload(nint program, [MarshalAs(UnmanagedType.U1)] bool autoload);

    [LibraryImport(Library)]
    internal static partial int bpf_program__set_expected_attach_type(nint program, int type);

    [LibraryImport(Library)]
    internal static partial int bpf_program__expected_attach_type(nint program);

    [LibraryImport(Library)]
    internal static partial byte* bpf_program__section_name(nint program);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8)]
    internal static partial int bpf_prog_load(int type, string name, string license, ulong* instructions, nuint count, in ProgramLoadOptions options);

    [LibraryImport(Library)]
    internal static partial int bpf_program__fd(nint program);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint bpf_program__attach(nint program);

    [LibraryImport(Library, StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    internal static partial nint bpf_program__attach_uprobe(
        nint program, [MarshalAs(UnmanagedType.U1)] bool onReturn, int pid, string path, nuint offset);

    [LibraryImport(Library, SetLastError = true)]
    internal static partial nint bpf_program__attach_iter(nint program, IteratorOptions* options);

    [LibraryImport(Library)]
    internal static partial int bpf_iter_create(int linkFd);

    [LibraryImport(Library)]
    internal static partial int bpf_link__fd(nint link);

    [LibraryImport(Library)]
    internal static partial int bpf_link__destroy(nint link);

    /// <summary>The head of <c>struct bpf_object_open_opts</c>: its size says how much of it we know.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct OpenOptions
    {
        public nuint Size;
        public byte* Name;
    }

    /// <summary>The head of <c>struct bpf_prog_load_opts</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct ProgramLoadOptions
    {
        public nuint Size;
        public int Attempts;
        public int ExpectedAttachType;
    }

    /// <summary><c>struct bpf_iter_attach_opts</c>.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct IteratorOptions
    {
        public nuint Size;
        public IteratorTask* Task;
        public uint TaskSize;
        private readonly uint _padding;
    }

    /// <summary>The member <c>task</c> of <c>union bpf_iter_link_info</c>; the union has 16 bytes.</summary>
    [StructLayout(LayoutKind.Sequential)]
    internal struct IteratorTask
    {
        public uint Tid;
        public uint Tgid;
        public uint PidFd;
        private readonly uint _padding;
    }
}
