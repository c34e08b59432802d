using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.Reflection;
using KamOtel.Bpf;

namespace KamOtel.Agent;

/// <summary>The commands of <c>kamotel</c>.</summary>
internal static class CommandLine
{
    private const string RootEpilog = """
        'kamotel COMMAND --help' tells more of a command.
        """;

    private const string RunEpilog = """
        Every option but --config, --follow and --color can also be set by a KAMOTEL_* variable (KAMOTEL_LISTEN,
        KAMOTEL_RING_BYTES, …) or a key in appsettings.json (listen, ringBytes, …); the command line wins, then the
        environment. OTLP is sent when OTEL_EXPORTER_OTLP_ENDPOINT is set; the other standard OTEL_* variables count.

        Exit status: 0 stopped by a signal, 64 usage, 69 something needed is not there (a kernel with BTF, libbpf,
        the port), 70 a fault of kamotel's, 77 a privilege is missing.

        Example:
          kamotel run --follow --listen 127.0.0.1:9464
        """;

    private const string ScanEpilog = """
        Needs root, and neither the agent nor a restart of the server. A server that was started less than --settle
        seconds ago is waited for. KAMOTEL_* variables and the configuration file count as for 'kamotel run'.

        Exit status: 0 every server is safe or exposed, 1 a server has a hazard or worse, 2 could not tell (or no server
        is running), 64 usage.

        Example:
          kamotel scan --json | jq -r '.instances[] | "\(.verdict) \(.target)"'
        """;

    /// <summary>The version, and the source it was built from.</summary>
    public static (string Version, string Revision) Build { get; } = ReadBuild();

    /// <summary>Does what the arguments say. Returns the exit code.</summary>
    public static Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error)
    {
        var root = new RootCommand("KamOtel watches SIP servers for OpenSSL thread-local state that their processes share.")
        {
            RunCommand(output),
            Scan(output, error),
        };
        foreach (VersionOption version in root.Options.OfType<VersionOption>())
        {
            version.Action = new PrintVersion();
        }
        foreach (HelpOption help in root.Options.OfType<HelpOption>())
        {
            help.Action = new PrintHelp();
        }

        return InvokeAsync(root.Parse(arguments), output, error);
    }

    private static Command RunCommand(TextWriter output)
    {
        var follow = new Option<bool>("--follow") { Description = "print what happens on standard output, a line an event" };
        Option<string> color = Color("--follow");
        var settings = new SettingOptions(static _ => true);
        var run = new Command("run", "Watch the SIP servers of this host and serve what is seen.") { settings.File, follow, color };
        settings.AddTo(run);
        run.SetAction(async (parsed, cancellation) =>
        {
            bool colored = IsColored(parsed.GetValue(color));
            RunOptions loaded = settings.Load(parsed);
            StoryPrinter? story = parsed.GetValue(follow) ? new StoryPrinter(output, colored) : null;
            return await AgentHost.RunAsync(loaded, story, cancellation);
        });
        return run;
    }

    private static Command Scan(TextWriter output, TextWriter error)
    {
        var json = new Option<bool>("--json") { Description = "print a JSON document (docs/scan.schema.json) in place of the table" };
        Option<string> color = Color("the table");
        var settings = new SettingOptions(static s => s.Key is "watch" or "settle" or "logLevel" or "logFormat");
        var scan = new Command("scan", "Tell what is true now of the SIP servers that run on this host.") { settings.File, json, color };
        settings.AddTo(scan);
        scan.SetAction(parsed =>
        {
            bool colored = IsColored(parsed.GetValue(color));
            return ScanCommand.Run(settings.Load(parsed), parsed.GetValue(json), colored, output, error);
        });
        return scan;
    }

    private static Option<string> Color(string of) =>
        new("--color") { Description = $"colours of {of}: auto, always or never (default auto; NO_COLOR counts)", HelpName = "WHEN" };

    private static bool IsColored(string? when) => when switch
    {
        "always" => true,
        "never" => false,
        "auto" or null => !Console.IsOutputRedirected && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")),
        _ => throw new UsageException($"--color: '{when}' is not one of auto, always, never"),
    };

    private static async Task<int> InvokeAsync(ParseResult parsed, TextWriter output, TextWriter error)
    {
        try
        {
            if (parsed.Errors.Count > 0)
            {
                throw new UsageException(
                    parsed.UnmatchedTokens.Count > 0 ? $"'{parsed.UnmatchedTokens[0]}' is no command or option of kamotel"
                    : parsed.Tokens.Count == 0 ? "a command is missing"
                    : parsed.Errors[0].Message);
            }
            return await parsed.InvokeAsync(new InvocationConfiguration
            {
                Output = output,
                Error = error,
                EnableDefaultExceptionHandler = false,
                // The host ends on signals itself, in order.
                ProcessTerminationTimeout = null,
            });
        }
        catch (UsageException e)
        {
            await error.WriteLineAsync($"kamotel: error: {e.Message}\nTry 'kamotel {(parsed.CommandResult.Command is RootCommand ? "" : parsed.CommandResult.Command.Name + " ")}--help'.");
            return ExitCode.Usage;
        }
        catch (BpfException e)
        {
            await error.WriteLineAsync($"kamotel: error: {e.Message}");
            return e.Denied ? ExitCode.NoPermission : ExitCode.Unavailable;
        }
        catch (IOException e)
        {
            await error.WriteLineAsync($"kamotel: error: {e.Message}");
            return ExitCode.Unavailable;
        }
#pragma warning disable CA1031 // Whatever it is: the exit code is the one for it, and the place is told to whom it is reported.
        catch (Exception e)
#pragma warning restore CA1031
        {
            await error.WriteLineAsync($"kamotel: fault, please report it: {e}");
            return ExitCode.Software;
        }
    }

    private static (string Version, string Revision) ReadBuild()
    {
        string text = typeof(CommandLine).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";
        string[] parts = text.Split('+', 2);
        return (parts[0], parts.Length > 1 ? parts[1][..Math.Min(12, parts[1].Length)] : "unknown");
    }

    private sealed class PrintVersion : SynchronousCommandLineAction
    {
        public override bool Terminating => true;

        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            string libbpf;
            try
            {
                libbpf = BpfObject.LibbpfVersion;
            }
            catch (BpfException)
            {
                libbpf = "missing";
            }
            parseResult.InvocationConfiguration.Output.WriteLine($"kamotel {Build.Version} (revision {Build.Revision}, libbpf {libbpf})");
            return ExitCode.Ok;
        }
    }

    private sealed class PrintHelp : SynchronousCommandLineAction
    {
        public override bool Terminating => true;

        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            int code = new HelpAction().Invoke(parseResult);
            parseResult.InvocationConfiguration.Output.WriteLine(parseResult.CommandResult.Command.Name switch
            {
                "run" => RunEpilog,
                "scan" => ScanEpilog,
                _ => RootEpilog,
            });
            return code;
        }
    }
}
