using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Fuzz;

/// <summary>
/// Spoils honest files, stacks, registers and mappings, and has them unwound by the real, isolated process. It may die, which is
/// counted; what must not happen is an exception, an answer that breaks its own rules, memory without bound, or that a stack
/// that was not spoiled comes back otherwise than before. One worker a thread.
/// </summary>
internal sealed class UnwinderFuzz : IDisposable
{
    /// <summary>Inputs for each spoiled set of files: a new file costs more than a new stack.</summary>
    private const int InputsPerFile = 100;
    private const long MostResident = 160L << 20;
    private static readonly ulong[] s_interesting = [0, 1, 7, 8, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 1ul << 40, long.MaxValue, 1ul << 63, ulong.MaxValue];

    private readonly IReadOnlyList<StackSeed> _seeds;
    private readonly Random _random;
    private readonly Unwinder _unwinder = new(new() { StartsAtOnce = int.MaxValue });
    private readonly Dictionary<CodeFile, (SafeFileHandle Handle, byte[] Honest)> _spoilable = [];
    private readonly long[] _ends = new long[Enum.GetValues<UnwindEnd>().Length];
    private long _key;
    private long _inputs;
    private long _resident;

    public UnwinderFuzz(IReadOnlyList<StackSeed> seeds, string folder, int seed)
    {
        _seeds = seeds;
        _random = new Random(seed);
        foreach (CodeFile file in seeds.SelectMany(static seed => seed.Code.Mappings).Select(static mapping => mapping.File).Distinct())
        {
            if (RandomAccess.GetLength(file.Handle) <= 64 * 1024)
            {
                byte[] honest = File.ReadAllBytes(file.Path);
                string path = Path.Combine(folder, $"spoiled-{seed}-{_spoilable.Count}");
                _spoilable.Add(file, (File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite, FileOptions.DeleteOnClose), honest));
            }
        }
    }

    public long Inputs => Interlocked.Read(ref _inputs);

    public long Restarts => _unwinder.Restarts;

    public long Resident => Interlocked.Read(ref _resident);

    /// <summary>What went wrong, and is allowed to: how the process ended, and how often.</summary>
    public ConcurrentDictionary<string, long> Deaths { get; } = new();

    public long Count(UnwindEnd end) => Interlocked.Read(ref _ends[(int)end]);

    /// <summary>One set of spoiled files, with all its inputs.</summary>
    /// <exception cref="InvalidOperationException">Something happened that must not.</exception>
    public void Run()
    {
        StackSeed seed = Pick(_seeds);
        AddressSpace code = Spoil(seed.Code, out List<CodeFile> files);
        for (int i = 0; i < InputsPerFile; i++)
        {
            StackCopy stack = Spoil(seed, code);
            UnwoundStack answer = _unwinder.Unwind(code, stack);
            Check(answer, code, stack);
            _ = Interlocked.Increment(ref _ends[(int)answer.End]);
            _ = Interlocked.Increment(ref _inputs);
            if (answer.End == UnwindEnd.Failed)
            {
                string death = answer.Detail.Split(" over ")[0];
                _ = Deaths.AddOrUpdate(death, 1, static (_, count) => count + 1);
                break;
            }
        }

        foreach (CodeFile file in files)
        {
            _unwinder.Forget(file);
        }

        _unwinder.Forget(code);
        CheckHonest();
    }

    public void Dispose()
    {
        _unwinder.Dispose();
        foreach ((SafeFileHandle handle, _) in _spoilable.Values)
        {
            handle.Dispose();
        }
    }

    private static void Check(UnwoundStack answer, AddressSpace code, StackCopy stack)
    {
        bool sound = Enum.IsDefined(answer.End)
            && answer.Detail.Length <= 400
            && answer.Detail.All(static c => !char.IsControl(c))
            && answer.Frames.Length <= 256
            && answer.Frames.IsEmpty == (answer.End == UnwindEnd.Failed)
            && (answer.Frames.IsEmpty || answer.Frames[0].Address == stack.Registers[16]);
        for (int i = 0; i < answer.Frames.Length && sound; i++)
        {
            UnwoundFrame frame = answer.Frames[i];
            sound = frame.Mapping is { } mapping
                ? code.Mappings.Contains(mapping) && frame.Address >= mapping.Start && frame.Address <= mapping.End
                : i == answer.Frames.Length - 1 && answer.End == UnwindEnd.UnknownCode;
            sound &= frame.Function is null ? frame.Offset == 0 : frame.Function.Length is > 0 and <= 255 && frame.Function.All(static c => !char.IsControl(c));
        }

        if (!sound)
        {
            throw new InvalidOperationException($"an answer that is none: {answer.End}, {answer.Frames.Length} frames, {answer.Detail}");
        }
    }

    private void CheckHonest()
    {
        StackSeed seed = Pick(_seeds);
        UnwoundStack answer = _unwinder.Unwind(seed.Code, new([.. seed.Registers], [new(seed.Registers[7], seed.Stack, default)]));
        if (!answer.Frames.Select(static frame => frame.Address).SequenceEqual(seed.Frames))
        {
            throw new InvalidOperationException($"an honest stack came back spoiled: {answer.End}, {answer.Frames.Length} frames of {seed.Frames.Length}, {answer.Detail}");
        }

        if (_random.Next(64) == 0 && _unwinder.ProcessNumber is { } pid)
        {
            long resident = File.ReadLines($"/proc/{pid}/status").Where(static line => line.StartsWith("VmHWM:", StringComparison.Ordinal))
                .Select(static line => long.Parse(line.Split(' ')[^2]) * 1024).FirstOrDefault();
            _ = Interlocked.Exchange(ref _resident, Math.Max(_resident, resident));
            if (resident > MostResident)
            {
                throw new InvalidOperationException($"the unwinder holds {resident} bytes");
            }
        }
    }

    private AddressSpace Spoil(AddressSpace code, out List<CodeFile> files)
    {
        var spoiled = new Dictionary<CodeFile, CodeFile>();
        foreach (CodeFile file in code.Mappings.Select(static mapping => mapping.File).Distinct())
        {
            if (!_spoilable.TryGetValue(file, out (SafeFileHandle Handle, byte[] Honest) place) || _random.Next(4) == 0)
            {
                continue;
            }

            byte[] bytes = [.. place.Honest];
            for (int changes = 1 << _random.Next(6); changes > 0; changes--)
            {
                SpoilBytes(bytes);
            }

            // Some end too early; nobody has them mapped at this time.
            int length = _random.Next(32) == 0 ? _random.Next(bytes.Length) : bytes.Length;
            RandomAccess.SetLength(place.Handle, length);
            RandomAccess.Write(place.Handle, bytes.AsSpan(0, length), 0);
            var handle = new SafeFileHandle(place.Handle.DangerousGetHandle(), ownsHandle: false);
            spoiled.Add(file, new(handle, file.Path, new(0, 0, 0, (ulong)length, ++_key), deleted: false));
        }

        files = [.. spoiled.Values];
        bool shift = _random.Next(8) == 0;
        return AddressSpace.Create(code.Mappings.Select(mapping =>
        {
            mapping = spoiled.TryGetValue(mapping.File, out CodeFile? file) ? mapping with { File = file } : mapping;
            return !shift || _random.Next(3) != 0 ? mapping : _random.Next(3) switch
            {
                0 => mapping with { Offset = Value(mapping.Offset) },
                1 => mapping with { Start = mapping.Start - (ulong)(_random.Next(4) << 12) },
                _ => mapping with { End = Value(mapping.End) },
            };
        }));
    }

    /// <summary>Where it hurts: headers, unwind tables, symbols. What these are, the honest file tells.</summary>
    private void SpoilBytes(byte[] bytes)
    {
        (int start, int length) = Region(bytes);
        if (length < 8)
        {
            return;
        }

        int at = start + _random.Next(length - 7);
        switch (_random.Next(7))
        {
            case 0:
                bytes[at] ^= (byte)(1 << _random.Next(8));
                break;
            case 1:
                bytes[at] = (byte)_random.Next(256);
                break;
            case 2:
                MemoryMarshal.Write(bytes.AsSpan(at), (uint)Pick(s_interesting));
                break;
            case 3:
                MemoryMarshal.Write(bytes.AsSpan(at & ~7), Pick(s_interesting));
                break;
            case 4:
                // Numbers of variable length without an end.
                bytes.AsSpan(at, _random.Next(1, 8)).Fill((byte)(_random.Next(2) == 0 ? 0xff : 0x80));
                break;
            case 5:
                MemoryMarshal.Write(bytes.AsSpan(at), MemoryMarshal.Read<uint>(bytes.AsSpan(at)) + (uint)_random.Next(-64, 64));
                break;
            default:
                int from = start + _random.Next(length - 7);
                int count = Math.Min(_random.Next(1, 64), start + length - Math.Max(at, from));
                bytes.AsSpan(from, count).CopyTo(bytes.AsSpan(at));
                break;
        }
    }

    private (int Start, int Length) Region(byte[] bytes)
    {
        ulong start;
        ulong length;
        int choice = _random.Next(16);
        if (choice == 0)
        {
            (start, length) = (0, 64);
        }
        else if (choice < 3)
        {
            (start, length) = (MemoryMarshal.Read<ulong>(bytes.AsSpan(32)), 56ul * MemoryMarshal.Read<ushort>(bytes.AsSpan(56)));
        }
        else if (choice == 3)
        {
            (start, length) = (0, (ulong)bytes.Length);
        }
        else if (choice < 10 && UnwindTables(bytes) is { } tables)
        {
            (start, length) = tables;
        }
        else
        {
            // A section: those that the unwinder reads are a fair part of the few there are.
            ulong table = MemoryMarshal.Read<ulong>(bytes.AsSpan(40));
            ulong count = MemoryMarshal.Read<ushort>(bytes.AsSpan(60));
            if (choice < 6 || count == 0)
            {
                (start, length) = (table, 64 * count);
            }
            else
            {
                ulong at = table + (64 * (ulong)_random.Next((int)count));
                if (table > (ulong)bytes.Length || at > (ulong)bytes.Length - 64)
                {
                    return default;
                }

                (start, length) = (MemoryMarshal.Read<ulong>(bytes.AsSpan((int)at + 24)), MemoryMarshal.Read<ulong>(bytes.AsSpan((int)at + 32)));
            }
        }

        return start < (ulong)bytes.Length ? ((int)start, (int)Math.Min(length, (ulong)bytes.Length - start)) : default;
    }

    /// <summary>The search table, and the unwind information that linkers put behind it.</summary>
    private static (ulong Start, ulong Length)? UnwindTables(byte[] bytes)
    {
        const uint SearchTable = 0x6474e550;
        ulong first = MemoryMarshal.Read<ulong>(bytes.AsSpan(32));
        int at = first < (ulong)bytes.Length ? (int)first : -1;
        for (int i = MemoryMarshal.Read<ushort>(bytes.AsSpan(56)); i > 0 && at >= 0 && at <= bytes.Length - 56; i--, at += 56)
        {
            if (MemoryMarshal.Read<uint>(bytes.AsSpan(at)) == SearchTable)
            {
                return (MemoryMarshal.Read<ulong>(bytes.AsSpan(at + 8)), MemoryMarshal.Read<ulong>(bytes.AsSpan(at + 32)) + 1024);
            }
        }

        return null;
    }

    private StackCopy Spoil(StackSeed seed, AddressSpace code)
    {
        ulong[] registers = [.. seed.Registers];
        byte[] stack = [.. seed.Stack];
        for (int i = _random.Next(3); i > 0; i--)
        {
            int number = _random.Next(17);
            registers[number] = Word(seed, code, registers[number]);
        }

        if (_random.Next(2) == 0)
        {
            registers[16] = CodeAddress(code);
        }

        for (int i = 1 << _random.Next(6); i > 0; i--)
        {
            int at = _random.Next(stack.Length / 8) * 8;
            MemoryMarshal.Write(stack.AsSpan(at), Word(seed, code, MemoryMarshal.Read<ulong>(stack.AsSpan(at))));
        }

        ulong address = _random.Next(16) == 0 ? Value(registers[7]) : seed.Registers[7];
        byte[] holes = _random.Next(4) == 0 ? [(byte)_random.Next(256)] : [];
        int cut = _random.Next(8) == 0 ? _random.Next(stack.Length) : stack.Length;
        ImmutableArray<StackWindow> windows = _random.Next(8) == 0
            ? [new(address, stack.AsMemory(0, cut / 2), holes), new(address + (ulong)(cut / 2), stack.AsMemory(cut / 2), holes)]
            : [new(address, stack.AsMemory(0, cut), holes)];
        return new([.. registers], windows);
    }

    private ulong Word(StackSeed seed, AddressSpace code, ulong honest) => _random.Next(4) switch
    {
        0 => CodeAddress(code),
        1 => seed.Registers[7] + (ulong)_random.Next(seed.Stack.Length + 64),
        _ => Value(honest),
    };

    private ulong Value(ulong honest) => _random.Next(4) switch
    {
        0 => Pick(s_interesting),
        1 => honest + (ulong)_random.Next(-4096, 4096),
        2 => honest ^ (1ul << _random.Next(64)),
        _ => (ulong)_random.NextInt64(),
    };

    /// <summary>Mostly in files that were spoiled: these are the small ones.</summary>
    private ulong CodeAddress(AddressSpace code)
    {
        if (code.Mappings.IsEmpty)
        {
            return 0;
        }

        CodeMapping mapping = Pick(code.Mappings);
        return mapping.Start + (ulong)_random.NextInt64((long)Math.Min(mapping.End - mapping.Start, 1ul << 20));
    }

    private T Pick<T>(IReadOnlyList<T> items) => items[_random.Next(items.Count)];
}
