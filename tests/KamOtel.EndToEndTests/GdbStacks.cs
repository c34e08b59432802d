using System.Text.Json;
using System.Text.RegularExpressions;

namespace KamOtel.EndToEndTests;

/// <summary>One frame of a stack.</summary>
/// <param name="Function">The function, where GDB knows a name for it.</param>
/// <param name="Object">The file that the code is of.</param>
/// <param name="Offset">Where in that file.</param>
internal sealed record GdbFrame(string? Function, string Object, ulong Offset)
{
    /// <summary>Kamailio's module that the file is.</summary>
    public string? Module => Path.GetDirectoryName(Object)!.EndsWith("/kamailio/modules", StringComparison.Ordinal) ? Library : null;

    /// <summary><c>libpq</c> for <c>libpq.so.5.15</c>.</summary>
    public string Library => Path.GetFileName(Object).Split(".so")[0];

    /// <summary>For messages.</summary>
    public override string ToString() => $"{Function ?? $"0x{Offset:x}"}@{Library}";
}

/// <summary>A call of <c>CRYPTO_THREAD_set_local</c> in Thread#1 before the first fork.</summary>
/// <param name="Key">The pthread key.</param>
/// <param name="Value">What the slot is set to.</param>
/// <param name="Frames">Who called whom, the innermost first: <c>CRYPTO_THREAD_set_local</c> itself.</param>
/// <param name="End">Why GDB went no further: <c>outermost</c> where there is nothing more.</param>
internal sealed record GdbCall(uint Key, ulong Value, GdbFrame[] Frames, string End)
{
    /// <summary>Null, sentinel or pointer.</summary>
    public string ValueKind => SetLocalCall.KindOf(Value);

    /// <summary>The innermost of Kamailio's modules.</summary>
    public string? Author => Modules.FirstOrDefault();

    /// <summary>The outermost of them.</summary>
    public string? AskedBy => Modules.LastOrDefault();

    /// <summary>
    /// The libraries between the author and libcrypto, in the order of the calls. libc is left out: it only calls back
    /// what was given to <c>pthread_once</c>.
    /// </summary>
    public string[] Libraries =>
    [
        .. Frames.TakeWhile(static frame => frame.Module is null)
            .Select(static frame => frame.Library)
            .Where(static library => library is not ("libcrypto" or "libc"))
            .Distinct()
            .Reverse(),
    ];

    private IEnumerable<string> Modules => Frames.Select(static frame => frame.Module).OfType<string>();

    /// <summary>For messages.</summary>
    public override string ToString() => $"[{Key}] = 0x{Value:x}: {string.Join(" < ", Frames.Select(static frame => frame.ToString()))} ({End})";
}

/// <summary>
/// The second opinion on who it was: a server that runs under GDB for its whole life. Up to the first fork GDB notes each
/// call with its stack; afterwards the server runs at full speed, and others may watch it all the time.
/// </summary>
internal sealed partial class GdbStacks
{
    private static readonly string Recorder =
        Path.Combine(Requirements.Repository, "tests", "KamOtel.EndToEndTests", "set_local.gdb.py");

    private readonly KamailioServer _server;
    private readonly GdbRoot _root;

    private GdbStacks(KamailioServer server, GdbRoot root, GdbCall[] calls)
    {
        _server = server;
        _root = root;
        Calls = calls;
    }

    /// <summary>The process that forks the workers.</summary>
    public int Root => _root.Root;

    /// <summary>The calls, in order.</summary>
    public IReadOnlyList<GdbCall> Calls { get; }

    /// <summary>Starts a server under GDB and waits until a worker answers.</summary>
    /// <param name="server">The server, which is then to be ended by <see cref="End"/>.</param>
    /// <param name="name">From <see cref="ServerName.New"/>: whoever watches it sees this server.</param>
    public static async Task<GdbStacks> Start(KamailioServer server, string name)
    {
        Requirements.Program("gdb");
        using var scratch = new Scratch();
        // A stack shall not end at main: what is below shows that it is whole.
        await File.WriteAllTextAsync(
            scratch["script"],
            $"""
            set pagination off
            set confirm off
            set debuginfod enabled off
            set startup-with-shell off
            set disable-randomization off
            set follow-fork-mode parent
            set detach-on-fork on
            set backtrace past-main on
            set backtrace past-entry on
            set backtrace limit unlimited
            handle all nostop noprint pass
            python LOG = "{scratch["calls"]}"
            source {Recorder}
            python SetSpecific("pthread_setspecific")
            catch fork
            catch vfork
            run
            python tell_root()
            delete
            continue

            """);
        await server.StartUnder("gdb", ["-batch", "-nx", "-x", scratch["script"], "--args"], name);
        string[] lines = await File.ReadAllLinesAsync(scratch["calls"]);
        GdbRoot root = JsonSerializer.Deserialize<GdbRoot>(lines[^1], JsonSerializerOptions.Web)!;
        root.Root.ShouldBeGreaterThan(0, $"GDB did not get as far as the first fork\n{server}");
        Proc.Children(root.Root).ShouldNotBeEmpty("the first fork was that of a worker");
        return new GdbStacks(server, root, [.. lines[..^1].Select(static line => JsonSerializer.Deserialize<GdbCall>(line, JsonSerializerOptions.Web)!)]);
    }

    /// <summary>
    /// What OpenSSL 3 keeps in the slot, told by what its source alone does with it: only one key of libcrypto has a
    /// destructor; only the configuration's guard and the error queue are ever set to the sentinel, the first of them
    /// by <c>OPENSSL_init_crypto</c> itself. Null: it is another one.
    /// </summary>
    public string? SlotName(uint key) =>
        _root.Destructors.TryGetValue(key, out string? destructor) && Path.GetFileName(destructor).StartsWith("libcrypto", StringComparison.Ordinal)
            ? "destructor_key"
        : Calls.FirstOrDefault(call => call.Key == key && call.ValueKind == "sentinel") is not { } guarded
            ? null
        : guarded.Frames[1].Function == "OPENSSL_init_crypto"
            ? "in_init_config"
            : "err_state";

    /// <summary>Ends the server in order, and GDB with it.</summary>
    public async Task End()
    {
        Libc.Send(Root, Signal.Terminate).ShouldBeTrue($"Kamailio ended by itself\n{_server}");
        Ended ended = await _server.Process!.End();
        ended.Code.ShouldBe(0, ended.ToString());
        InOrder().IsMatch(ended.Output).ShouldBeTrue(ended.ToString());
    }

    /// <summary>For messages.</summary>
    public override string ToString() => string.Join('\n', Calls.Select(static call => call.ToString()));

    [GeneratedRegex(@"^\[Inferior 1 \(process \d+\) exited normally\]$", RegexOptions.Multiline)]
    private static partial Regex InOrder();

    private sealed record GdbRoot(int Root, Dictionary<uint, string> Destructors);
}
