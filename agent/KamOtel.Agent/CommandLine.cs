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

    private static readonly string[] Colors = ["auto", "always", "never"];

    /// <summary>The version, and the source it was built from.</summary>
    public static (string Version, string Revision) Build { get; } = ReadBuild();

    /// <summary>Does what the arguments say. Returns the exit code.</summary>
    public static Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error)
    {
        var config = new Option<string?>("--config") { Description = $"configuration file (default {Configuration.DefaultFile}, if it is there)", HelpName = "FILE" };
        var follow = new Option<bool>("--follow") { Description = "print what happens on standard output, a line an event" };
        var color = new Option<string>("--color") { Description = "colours of --follow: auto, always or never (default auto; NO_COLOR counts)", HelpName = "WHEN" };
        var run = new Command("run", "Watch the SIP servers of this host and serve what is seen.") { config, follow, color };
        var options = new List<(Setting Setting, Option<string[]> Option)>();
        foreach (Setting setting in Settings.All)
        {
            var option = new Option<string[]>(setting.Option)
            {
                Description = setting.Help,
                HelpName = setting.Form,
                Arity = ArgumentArity.OneOrMore, // Given twice, the last counts.
                AllowMultipleArgumentsPerToken = false,
            };
            options.Add((setting, option));
            run.Add(option);
        }
        run.SetAction(async (parsed, cancellation) =>
        {
            string when = parsed.GetValue(color) ?? "auto";
            if (!Colors.Contains(when))
            {
                throw new UsageException($"--color: '{when}' is not one of auto, always, never");
            }
            RunOptions loaded = Configuration.Load(
                parsed.GetValue(config),
                Environment.GetEnvironmentVariable,
                options.Where(o => parsed.GetResult(o.Option) is { Implicit: false }).Select(o => (o.Setting, (IReadOnlyList<string>)Chosen(o.Setting, parsed.GetValue(o.Option)!))));
            bool colored = when == "always" || (when == "auto" && !Console.IsOutputRedirected && string.IsNullOrEmpty(Environment.GetEnvironmentVariable("NO_COLOR")));
            StoryPrinter? story = parsed.GetValue(follow) ? new StoryPrinter(output, colored) : null;
            return await AgentHost.RunAsync(loaded, story, cancellation);
        });

        var root = new RootCommand("KamOtel watches SIP servers for OpenSSL thread-local state that their processes share.") { run };
        foreach (VersionOption version in root.Options.OfType<VersionOption>())
        {
            version.Action = new PrintVersion();
        }
        foreach (HelpOption help in root.Options.OfType<HelpOption>())
        {
            help.Action = new PrintHelp((HelpAction)help.Action!);
        }

        return InvokeAsync(root.Parse(arguments), output, error);
    }

    private static string[] Chosen(Setting setting, string[] values) => setting.IsList ? values : [values[^1]];

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

    private sealed class PrintHelp(HelpAction inner) : SynchronousCommandLineAction
    {
        public override bool Terminating => true;

        public override bool ClearsParseErrors => true;

        public override int Invoke(ParseResult parseResult)
        {
            int code = inner.Invoke(parseResult);
            parseResult.InvocationConfiguration.Output.WriteLine(parseResult.CommandResult.Command is RootCommand ? RootEpilog : RunEpilog);
            return code;
        }
    }
}
