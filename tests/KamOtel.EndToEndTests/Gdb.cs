using System.Globalization;
using System.Runtime.InteropServices;

namespace KamOtel.EndToEndTests;

/// <summary>A call of <c>CRYPTO_THREAD_set_local</c> as a debugger or the agent tells it.</summary>
/// <param name="Key">The pthread key.</param>
/// <param name="Value">null, sentinel or pointer.</param>
internal readonly record struct SetLocalCall(uint Key, string Value)
{
    /// <summary>The kind of a value, as the agent calls it.</summary>
    public static string KindOf(ulong value) => value switch
    {
        0 => "null",
        ulong.MaxValue => "sentinel",
        _ => "pointer",
    };
}

/// <summary>The second opinion: GDB with a breakpoint, as the people who found the bug used it.</summary>
internal static class Gdb
{
    /// <summary>
    /// Runs the server up to its first fork and returns the calls of Thread#1, in order. Nothing of it lives on.
    /// </summary>
    public static async Task<SetLocalCall[]> CallsBeforeFirstFork(KamailioServer server)
    {
        Requirements.Program("gdb");
        using var scratch = new Scratch();
        (string key, string value) = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? ("$x0", "$x1") : ("$rdi", "$rsi");
        // An agent that runs on this machine hides GDB's breakpoint: its probe has the same instruction. So this Kamailio has
        // a name that nobody watches, and a libcrypto that nobody probed.
        Libcrypto.CopyTo(scratch["hidden"]);
        string[] command = await server.Command();
        string link = scratch[ServerName.New()];
        _ = File.CreateSymbolicLink(link, command[0]);
        // The log holds GDB's own words; what Kamailio writes does not get between.
        await File.WriteAllTextAsync(
            scratch["script"],
            $"""
            set pagination off
            set confirm off
            set debuginfod enabled off
            set startup-with-shell off
            set breakpoint pending on
            set environment LD_LIBRARY_PATH {scratch["hidden"]}
            set logging file {scratch["log"]}
            set logging enabled on
            dprintf CRYPTO_THREAD_set_local,"SET %d %u %lu\n",$_thread,*(unsigned int *){key},{value}
            catch fork
            catch vfork
            run
            printf "STOPPED %d\n",$_thread
            info breakpoints
            kill

            """);
        Ended ended = await RunningProgram.Run(
            "gdb", ["-batch", "-nx", "-x", scratch["script"], "--args", link, .. command[1..]], await server.Environment());
        ended.Code.ShouldBe(0, ended.ToString());
        string[] log = await File.ReadAllLinesAsync(scratch["log"]);
        string told = string.Join('\n', log);
        told.ShouldContain("STOPPED 1", customMessage: "GDB did not get as far as the first fork");
        told.ShouldContain("catchpoint already hit 1 time");
        return
        [
            .. log.Where(static line => line.StartsWith("SET 1 ", StringComparison.Ordinal))
                .Select(static line => line.Split(' '))
                .Select(static words => new SetLocalCall(
                    uint.Parse(words[2], CultureInfo.InvariantCulture), SetLocalCall.KindOf(ulong.Parse(words[3], CultureInfo.InvariantCulture)))),
        ];
    }
}
