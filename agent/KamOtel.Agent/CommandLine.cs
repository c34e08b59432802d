using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using System.CommandLine.Parsing;
using System.Globalization;
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

    private const string RecordEpilog = """
        Watches as 'kamotel run' does, with the same settings and OTLP, and writes what it observes into FILE, for its owner only.
        /metrics is served when --listen is given here. The file has no command line, no environment and nothing of what
        is in memory but the addresses in OpenSSL's slots; docs/recording.md describes it. What was written a second ago is
        safe, whatever happens.

        Exit status: 0 stopped by a signal, --for or --max-size, 64 usage, 69 something needed is not there, 73 the file exists
        or cannot be made, 74 the file could not be written to its end, 77 a privilege is missing.

        Examples:
          kamotel record start.kamotel --for 60s
          zcat start.kamotel | jq -c 'select(.t == "observed")'
        """;

    private const string ReplayEpilog = """
        Needs no root, no kernel with BTF and no server. A server that ended is shown as it was when it did, with its last hazard.
        OTLP is sent when OTEL_EXPORTER_OTLP_ENDPOINT is set, with the times of the recording.

        Exit status: 0 every server was safe or exposed, 1 a server had a hazard or worse, 2 could not tell (or no server ran),
        64 usage, 65 the file is no recording or of another version, 66 it is not there or cannot be read.

        Examples:
          kamotel replay start.kamotel --trace
          kamotel replay start.kamotel --json | jq -r '.instances[] | "\(.verdict) \(.target)"'
        """;

    private const string CheckEpilog = """
        Needs root. The command runs as if it had been started here: with this environment, folder and terminal. Of what it
        writes nothing changes; with --json its standard output goes to standard error. Servers count that descend from it, also
        in the background; its own program is watched too when it is a SIP server of another name than --watch says. When the
        time is over it gets SIGTERM, and so does what it leaves behind; Ctrl-C does that earlier, and a second one kills.
        Only warnings are logged unless --log-level says otherwise.

        Exit status: 0 every server is safe or exposed, 1 a server has a hazard or worse, 2 could not tell: no server, not ready
        in time, ended by itself, the command failed, a signal came; with --each 1 comes before 2, and 2 before 0. 64 usage,
        69 something needed is not there, 73 the report cannot be made, 74 it could not be written to its end, 77 a privilege
        is missing, 126 the command cannot be executed, 127 it is not there; from 64 on nothing was run, but for 74.

        Examples:
          kamotel check -- kamailio -f kamailio.cfg -DD -E
          kamotel check --for 30s --junit kamotel.xml --each *.cfg -- kamailio -f {} -DD -E
        """;

    private const string CompletionEpilog = """
        The script needs no other program. bash loads it at the first Tab, from the folder of the first example; with others than root,
        from ~/.local/share/bash-completion/completions.

        Exit status: 0, or 64 usage.

        Examples:
          kamotel completion bash > /usr/share/bash-completion/completions/kamotel
          kamotel completion zsh > /usr/share/zsh/vendor-completions/_kamotel
          kamotel completion fish > /usr/share/fish/vendor_completions.d/kamotel.fish
        """;

    private const string ManEpilog = """
        Exit status: 0, or 64 usage.

        Example:
          kamotel man | man -l -
        """;

    /// <summary>What the program is called.</summary>
    public const string Program = "kamotel";

    /// <summary>The version, and the source it was built from.</summary>
    public static (string Version, string Revision) Build { get; } = ReadBuild();

    /// <summary>Does what the arguments say. Returns the exit code.</summary>
    public static Task<int> RunAsync(string[] arguments, TextWriter output, TextWriter error)
    {
        return InvokeAsync(Root(output, error).Parse(arguments), output, error);
    }

    /// <summary>All commands.</summary>
    public static RootCommand Root(TextWriter output, TextWriter error)
    {
        var root = new RootCommand("KamOtel watches SIP servers for OpenSSL thread-local state that their processes share.")
        {
            RunCommand(output),
            Scan(output, error),
            Check(output, error),
            DoctorOf(output, error),
            Drill(output, error),
            Record(output, error),
            Replay(output, error),
            CompletionOf(output),
            Man(output),
        };
        foreach (VersionOption version in root.Options.OfType<VersionOption>())
        {
            version.Action = new PrintVersion();
        }
        foreach (HelpOption help in root.Options.OfType<HelpOption>())
        {
            help.Action = new PrintHelp();
        }
        return root;
    }

    /// <summary>What stands below a command's options in the help.</summary>
    public static string EpilogOf(Command command) => command.Name switch
    {
        _ when command is RootCommand => RootEpilog,
        "run" => RunEpilog,
        "scan" => ScanEpilog,
        "check" => CheckEpilog,
        "record" => RecordEpilog,
        "replay" => ReplayEpilog,
        "doctor" => DoctorCommand.Epilog,
        "drill" => DrillCommand.Epilog,
        "completion" => CompletionEpilog,
        "man" => ManEpilog,
        _ => "",
    };

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
            LeastPrivilege.ForAgent(loaded);
            StoryPrinter? story = parsed.GetValue(follow) ? new StoryPrinter(output, colored) : null;
            return await AgentHost.RunAsync(loaded, story, recorder: null, cancellation);
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
            RunOptions loaded = settings.Load(parsed);
            LeastPrivilege.ForAgent(loaded);
            return ScanCommand.Run(loaded, parsed.GetValue(json), colored, output, error);
        });
        return scan;
    }

    private static Command Check(TextWriter output, TextWriter error)
    {
        var command = new Argument<string[]>("COMMAND") { Description = "the command that starts the server, with its arguments, after --", Arity = ArgumentArity.OneOrMore };
        var each = new Option<string[]>("--each") { Description = $"run the command once for each VALUE, which takes the place of {CheckOptions.Placeholder} in it, and print one table", HelpName = "VALUE", AllowMultipleArgumentsPerToken = true, Arity = ArgumentArity.OneOrMore };
        var watched = new Option<string>("--for") { Description = "how long to watch once the server is ready: a number with ms, s, m or h (default 10s)", HelpName = "DURATION" };
        var ready = new Option<string>("--ready-within") { Description = "how long it may take to become ready (default 60s)", HelpName = "DURATION" };
        var stop = new Option<string>("--stop-within") { Description = "how long it may take to end after SIGTERM; then it is killed (default 10s)", HelpName = "DURATION" };
        var json = new Option<bool>("--json") { Description = "print a JSON document (docs/scan.schema.json) in place of the table, and nothing else on standard output" };
        var junit = new Option<string>("--junit") { Description = "write a JUnit report, too", HelpName = "FILE" };
        Option<string> color = Color("the table");
        var settings = new SettingOptions(static s => !s.Serves && s.Key is not "inspectEvery");
        var check = new Command("check", "Run a server under watch, stop it, and tell whether it is safe.") { command, watched, ready, stop, each, json, junit, settings.File, color };
        settings.AddTo(check);
        check.SetAction(parsed =>
        {
            bool colored = IsColored(parsed.GetValue(color));
            RunOptions loaded = settings.Load(parsed);
            // That it attached is no news where the server's own output is to be read.
            loaded.LogLevel = loaded.LogLevel == LogLevel.Information && !settings.IsGiven(parsed, "logLevel") ? LogLevel.Warning : loaded.LogLevel;
            if (!parsed.Tokens.Any(static t => t.Type == TokenType.DoubleDash))
            {
                throw new UsageException("put -- before the command: what comes after it is the command's");
            }
            int behind = parsed.Tokens.Count - 1 - parsed.Tokens.ToList().FindIndex(static t => t.Type == TokenType.DoubleDash);
            if (parsed.GetResult(command)!.Tokens is { } given && given.Count > behind)
            {
                throw new UsageException($"'{given[0].Value}' before -- is no option of kamotel check, nor the value of one");
            }
            return CheckCommand.Run(
                loaded,
                new CheckOptions(
                    [.. parsed.GetValue(command)!],
                    [.. parsed.GetValue(each) ?? []],
                    Quantity.Time("--for", parsed.GetValue(watched)) ?? TimeSpan.FromSeconds(10),
                    Quantity.Time("--ready-within", parsed.GetValue(ready)) ?? TimeSpan.FromSeconds(60),
                    Quantity.Time("--stop-within", parsed.GetValue(stop)) ?? TimeSpan.FromSeconds(10),
                    parsed.GetValue(json),
                    parsed.GetValue(junit),
                    colored),
                output,
                error);
        });
        return check;
    }

    private static Command DoctorOf(TextWriter output, TextWriter error)
    {
        var json = new Option<bool>("--json") { Description = "print a JSON document (docs/doctor.schema.json) in place of the table" };
        Option<string> color = Color("the table");
        var settings = new SettingOptions(static _ => true);
        var doctor = new Command("doctor", "Tell what kamotel can do on this machine, and what to change.") { settings.File, json, color };
        settings.AddTo(doctor);
        doctor.SetAction((parsed, _) =>
        {
            bool colored = IsColored(parsed.GetValue(color));
            RunOptions loaded = settings.Load(parsed);
            LeastPrivilege.ForAgent(loaded);
            return DoctorCommand.RunAsync(loaded, parsed.GetValue(json), colored, output, error);
        });
        return doctor;
    }

    private static Command Drill(TextWriter output, TextWriter error)
    {
        var agent = new Option<string>("--agent") { Description = "the agent that shall see it (default http://127.0.0.1:9464)", HelpName = "URL" };
        var held = new Option<string>("--for") { Description = "how long the hazard is held: a number with ms, s, m or h (default: until it is seen, 30s at most)", HelpName = "DURATION" };
        var name = new Option<string>("--name") { Description = "what the server's program is called: a name that the agent watches (default kamailio)", HelpName = "NAME" };
        var json = new Option<bool>("--json") { Description = "print a JSON document, and nothing else on standard output" };
        var drill = new Command("drill", "Start a harmless server with a hazard, and see that the agent tells it.") { agent, held, name, json };
        drill.SetAction((parsed, cancellation) => DrillCommand.RunAsync(
            new DrillOptions(
                DrillCommand.AddressOf(parsed.GetValue(agent) ?? "http://127.0.0.1:9464"),
                Quantity.Time("--for", parsed.GetValue(held)),
                DrillCommand.NameOf(parsed.GetValue(name) ?? "kamailio"),
                parsed.GetValue(json)),
            output,
            error,
            cancellation));
        return drill;
    }

    private static Command Record(TextWriter output, TextWriter error)
    {
        var file = new Argument<string>("FILE") { Description = "the recording: a new file" };
        var limit = new Option<string>("--for") { Description = "end after so long: a number with ms, s, m or h (default: a signal ends it)", HelpName = "DURATION" };
        var size = new Option<string>("--max-size") { Description = "end when the file is so large: bytes, or a number with KiB, MiB or GiB, from 64KiB on (default 256MiB)", HelpName = "SIZE" };
        var force = new Option<bool>("--force") { Description = "replace FILE if it is there" };
        var follow = new Option<bool>("--follow") { Description = "print what happens on standard output, a line an event" };
        Option<string> color = Color("--follow");
        var settings = new SettingOptions(static _ => true, listensByDefault: false);
        var record = new Command("record", "Watch the SIP servers of this host and write what is observed into a file.") { file, limit, size, force, settings.File, follow, color };
        settings.AddTo(record);
        record.SetAction(async (parsed, cancellation) =>
        {
            bool colored = IsColored(parsed.GetValue(color));
            RunOptions loaded = settings.Load(parsed);
            // Beside an agent that runs as a service it would find that address taken.
            loaded.Listen = settings.IsGiven(parsed, "listen") ? loaded.Listen : null;
            var options = new RecordOptions(
                FileOf(parsed.GetValue(file)!, "standard output"), parsed.GetValue(force), Quantity.Bytes("--max-size", parsed.GetValue(size)) ?? 256L << 20, Quantity.Time("--for", parsed.GetValue(limit)));
            StoryPrinter? story = parsed.GetValue(follow) ? new StoryPrinter(output, colored) : null;
            LeastPrivilege.ForRecord(loaded);
            return await RecordCommand.RunAsync(loaded, options, story, error, cancellation);
        });
        return record;
    }

    private static Command Replay(TextWriter output, TextWriter error)
    {
        var file = new Argument<string>("FILE") { Description = "a recording, as 'kamotel record' writes it" };
        var json = new Option<bool>("--json") { Description = "print a JSON document (docs/scan.schema.json) in place of the table" };
        var trace = new Option<bool>("--trace") { Description = "draw the starts of the servers, and what was found later, as spans" };
        var follow = new Option<bool>("--follow") { Description = "print what happened, a line an event" };
        Option<string> color = Color("what is printed");
        var settings = new SettingOptions(static s => s.Serves || s.Key is "logLevel" or "logFormat", listensByDefault: false);
        var replay = new Command("replay", "Tell what a recording tells, as if it happened again.") { file, json, trace, follow, color, settings.File };
        settings.AddTo(replay);
        replay.SetAction(async (parsed, cancellation) =>
        {
            var options = new ReplayOptions(
                FileOf(parsed.GetValue(file)!, "standard input"), parsed.GetValue(json), parsed.GetValue(trace), parsed.GetValue(follow), IsColored(parsed.GetValue(color)));
            if (options.Json && (options.Trace || options.Follow))
            {
                throw new UsageException("--json cannot be combined with --trace or --follow");
            }
            RunOptions loaded = settings.Load(parsed);
            loaded.Listen = settings.IsGiven(parsed, "listen") ? loaded.Listen : null;
            // Certificates and passwords of the service are not those of whoever looks at a recording.
            if (!settings.IsGiven(parsed, "tlsCertificate"))
            {
                (loaded.TlsCertificate, loaded.TlsKey, loaded.TlsClientCa) = ("", "", "");
            }
            loaded.BasicAuth = settings.IsGiven(parsed, "basicAuth") ? loaded.BasicAuth : "";
            LeastPrivilege.ForReplay(loaded);
            return await ReplayCommand.RunAsync(loaded, options, output, error, cancellation);
        });
        return replay;
    }

    private static Command CompletionOf(TextWriter output)
    {
        var shell = new Argument<string>("SHELL") { Description = "bash, zsh or fish" };
        shell.CompletionSources.Add(Completion.Shells);
        var completion = new Command("completion", "Print the script that completes command lines in a shell.") { shell };
        completion.SetAction((parsed, cancellation) =>
            output.WriteAsync(Completion.For(parsed.GetValue(shell)!, CommandForm.Of(parsed.RootCommandResult.Command)).AsMemory(), cancellation));
        return completion;
    }

    private static Command Man(TextWriter output)
    {
        var man = new Command("man", "Print the man page, kamotel(1).");
        man.SetAction((parsed, cancellation) =>
        {
            // Whoever builds a package says when, so that it can be built again alike.
            string? epoch = Environment.GetEnvironmentVariable("SOURCE_DATE_EPOCH");
            DateTime built = long.TryParse(epoch, NumberStyles.None, CultureInfo.InvariantCulture, out long seconds) && seconds <= int.MaxValue ? DateTime.UnixEpoch.AddSeconds(seconds) : DateTime.UtcNow;
            return output.WriteAsync(ManPage.Of(CommandForm.Of(parsed.RootCommandResult.Command), Build.Version, DateOnly.FromDateTime(built)).AsMemory(), cancellation);
        });
        return man;
    }

    /// <summary>A dash stands for a standard stream elsewhere; here it would make a file of that name.</summary>
    private static string FileOf(string file, string stream) => file == "-" ? throw new UsageException($"FILE: '-' is no file, and {stream} does not do; name a file (./- for one of that name)") : file;

    private static Option<string> Color(string of)
    {
        var color = new Option<string>("--color") { Description = $"colours of {of}: auto, always or never (default auto; NO_COLOR counts)", HelpName = "WHEN" };
        color.CompletionSources.Add("auto", "always", "never");
        return color;
    }

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
        catch (CommandException e)
        {
            await error.WriteLineAsync($"kamotel: error: {e.Message}");
            return e.ExitCode;
        }
        catch (RecordingException e)
        {
            await error.WriteLineAsync($"kamotel: error: {e.Message}");
            return e.ExitCode;
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
            parseResult.InvocationConfiguration.Output.WriteLine(EpilogOf(parseResult.CommandResult.Command));
            return code;
        }
    }
}
