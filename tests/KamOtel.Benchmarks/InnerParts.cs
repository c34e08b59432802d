using System.Runtime.InteropServices;
using BenchmarkDotNet.Attributes;
using KamOtel.Agent;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Benchmarks;

/// <summary>What <see cref="InnerBench"/> measures. Public, for BenchmarkDotNet derives from it.</summary>
public class InnerParts
{
    private const int Servers = 10;
    private const int Workers = 7;
    private const string Function = "CRYPTO_THREAD_set_local";

    private readonly Fleet _fleet = new(new FleetOptions(), SilentSink.Instance);
    private byte[] _call = [];
    private byte[] _code = [];
    private ulong _nowNs = 1_000_000_000;

    /// <summary>Ten servers of eight processes.</summary>
    [GlobalSetup]
    public void SetUp()
    {
        for (uint server = 1; server <= Servers; server++)
        {
            uint root = server * 100;
            var exec = new Events.ExecRecord { Header = Of(ObservationKind.Exec, root, root) };
            exec.Header.Flags = 1;
            "server"u8.CopyTo(MemoryMarshal.AsBytes(new Span<Events.ExecRecord>(ref exec))[Marshal.SizeOf<Events.Header>()..]);
            Observe(ref exec);
            for (uint worker = 1; worker <= Workers; worker++)
            {
                var fork = new Events.ForkRecord { Header = Of(ObservationKind.Fork, root, root), ChildStartNs = _nowNs, ChildTgid = root + worker };
                Observe(ref fork);
            }
        }
        var call = new Events.CallRecord { Header = Of(ObservationKind.SetLocal, 100, 100), KeyAddress = 4096, Value = 8192, Key = 3 };
        call.Header.Flags = 4;
        _call = MemoryMarshal.AsBytes(new Span<Events.CallRecord>(ref call)).ToArray();
        using var library = File.OpenHandle(Build.FindLibrary());
        ElfFunction function = ElfFile.Open(library).Value.FindFunctions([Function]).Value.Found[0];
        _code = new byte[function.Size];
        _ = RandomAccess.Read(library, _code, (long)function.FileOffset);
        if (_fleet.Snapshot(_nowNs).Instances is not { Length: Servers } all || all[0].Processes.Length != Workers + 1)
        {
            throw new InvalidOperationException("the fleet is not what it should be");
        }
    }

    /// <summary>A record of a call becomes an observation.</summary>
    [Benchmark]
    public bool Decode() => Events.TryDecode(_call, out _);

    /// <summary>And reaches the fleet.</summary>
    [Benchmark]
    public void DecodeToFleet()
    {
        _ = Events.TryDecode(_call, out Observation observation);
        _fleet.Observe(in observation);
    }

    /// <summary>What the exporters read is made anew.</summary>
    [Benchmark]
    public object Snapshot() => _fleet.Snapshot(_nowNs);

    /// <summary>A function's cheapest instruction is chosen.</summary>
    [Benchmark]
    public object ChooseSite() => ProbeSite.Choose(_code, arguments: 2, keyByPointer: true, callsAreSafe: true);

    private Events.Header Of(ObservationKind kind, uint root, uint tgid) => new()
    {
        TimeNs = ++_nowNs,
        StartNs = root * 1_000_000_000UL,
        InstanceNs = root * 1_000_000_000UL,
        InstanceTgid = root,
        Tgid = tgid,
        Tid = tgid,
        Kind = (ushort)kind,
    };

    private void Observe<T>(ref T record)
        where T : unmanaged
    {
        if (!Events.TryDecode(MemoryMarshal.AsBytes(new Span<T>(ref record)), out Observation observation))
        {
            throw new InvalidOperationException($"{typeof(T).Name} cannot be decoded");
        }
        _fleet.Observe(in observation);
    }
}
