using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace KamOtel.Bpf;

/// <summary>A map of a <see cref="BpfObject"/>; lives as long as its object.</summary>
public readonly unsafe struct BpfMap
{
    private readonly BpfObject _owner;
    private readonly nint _map;
    private readonly string _name;

    internal BpfMap(BpfObject owner, nint map, string name) => (_owner, _map, _name) = (owner, map, name);

    /// <summary>The map's descriptor; valid after the load.</summary>
    public int Fd => Libbpf.bpf_map__fd(_map);

    /// <summary>The map's capacity (a ring's: bytes).</summary>
    public long Capacity => Libbpf.bpf_map__max_entries(_map);

    /// <summary>Sets the capacity. Before the load only.</summary>
    /// <exception cref="BpfException">The object is loaded already, or the size is not possible.</exception>
    public void SetCapacity(uint entries)
    {
        int error = Libbpf.bpf_map__set_max_entries(_map, entries);
        if (error < 0)
        {
            throw new BpfException($"map {_name} cannot have {entries} entries", -error);
        }
    }

    /// <summary>Sets an entry. The types must have exactly the map's key and value sizes.</summary>
    /// <exception cref="BpfException">The map is full, or memory short.</exception>
    public void Set<TKey, TValue>(TKey key, TValue value)
        where TKey : unmanaged
        where TValue : unmanaged
    {
        int error = Libbpf.bpf_map_update_elem(Fd, &key, &value, flags: 0);
        GC.KeepAlive(_owner);
        if (error < 0)
        {
            throw new BpfException($"map {_name} takes no entry", -error);
        }
    }

    /// <summary>Adds an entry; false when the key has one, which stays as it is.</summary>
    /// <exception cref="BpfException">The map is full.</exception>
    public bool TryAdd<TKey, TValue>(TKey key, TValue value)
        where TKey : unmanaged
        where TValue : unmanaged
    {
        int error = Libbpf.bpf_map_update_elem(Fd, &key, &value, Libbpf.NoExist);
        GC.KeepAlive(_owner);
        return error switch
        {
            >= 0 => true,
            -Libc.EEXIST => false,
            _ => throw new BpfException($"map {_name} takes no entry", -error),
        };
    }

    /// <summary>Removes an entry; false when there was none.</summary>
    public bool Remove<TKey>(TKey key)
        where TKey : unmanaged
    {
        int error = Libbpf.bpf_map_delete_elem(Fd, &key);
        GC.KeepAlive(_owner);
        return error >= 0;
    }

    /// <summary>Looks up an entry; false when there is none. The types must have exactly the map's key and value sizes.</summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public bool TryGet<TKey, TValue>(TKey key, out TValue value)
        where TKey : unmanaged
        where TValue : unmanaged
    {
        int error;
        fixed (TValue* found = &value)
        {
            error = Libbpf.bpf_map_lookup_elem(Fd, &key, found);
        }
        GC.KeepAlive(_owner);
        return error switch
        {
            >= 0 => true,
            -Libc.ENOENT => false,
            _ => throw new BpfException($"map {_name} cannot be read", -error),
        };
    }

    /// <summary>
    /// The keys that the map has now. What the kernel side adds meanwhile may be among them or not; entries may be
    /// removed while the list is walked.
    /// </summary>
    /// <exception cref="BpfException">The kernel refused.</exception>
    public List<TKey> Keys<TKey>()
        where TKey : unmanaged
    {
        var keys = new List<TKey>();
        TKey key;
        int error = Libbpf.bpf_map_get_next_key(Fd, null, &key);
        while (error >= 0)
        {
            keys.Add(key);
            error = Libbpf.bpf_map_get_next_key(Fd, &key, &key);
        }
        GC.KeepAlive(_owner);
        return error == -Libc.ENOENT ? keys : throw new BpfException($"map {_name} cannot be walked", -error);
    }

    /// <summary>Adds up a per-CPU counter.</summary>
    /// <exception cref="BpfException">There is no such entry.</exception>
    public ulong SumPerCpu(uint key)
    {
        int cpus = Libbpf.libbpf_num_possible_cpus();
        Span<ulong> values = cpus <= 256 ? stackalloc ulong[cpus] : new ulong[cpus];
        fixed (ulong* first = values)
        {
            int error = Libbpf.bpf_map_lookup_elem(Fd, &key, first);
            GC.KeepAlive(_owner);
            if (error < 0)
            {
                throw new BpfException($"map {_name} has no entry {key}", -error);
            }
        }
        ulong sum = 0;
        foreach (ulong value in values)
        {
            sum += value;
        }
        return sum;
    }

    /// <summary>Maps the memory of a global-variable section, shared with the kernel. After the load only.</summary>
    /// <exception cref="BpfException">The map is no such section.</exception>
    public SharedSection MapSection() => new(Fd, _name);
}

/// <summary>The memory of a global-variable section of a loaded object.</summary>
public sealed unsafe class SharedSection : SafeHandle
{
    internal SharedSection(int fd, string name)
        : base(0, ownsHandle: true)
    {
        nint address = Libc.mmap(0, (nuint)Environment.SystemPageSize, Libc.ProtRead | Libc.ProtWrite, Libc.MapShared, fd, 0);
        if (address == Libc.MapFailed)
        {
            throw new BpfException($"section {name} cannot be mapped", Marshal.GetLastPInvokeError());
        }
        SetHandle(address);
    }

    /// <inheritdoc/>
    public override bool IsInvalid => handle == 0;

    /// <summary>The head of the section, at most a page; <typeparamref name="T"/> must mirror it. Valid until the disposal.</summary>
    public ref T As<T>()
        where T : unmanaged => ref Unsafe.AsRef<T>((void*)handle);

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Libc.munmap(handle, (nuint)Environment.SystemPageSize) == 0;
}
