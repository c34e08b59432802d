using System.CommandLine;
using System.CommandLine.Parsing;

namespace KamOtel.Agent;

/// <summary>The settings of a command: its options, with what the environment and the configuration file say beside them.</summary>
internal sealed class SettingOptions
{
    private readonly List<(Setting Setting, Option<string[]> Option)> _options = [];

    /// <summary>Options for those settings that the command knows.</summary>
    /// <param name="known">Which they are.</param>
    /// <param name="listensByDefault">Without <c>--listen</c> the command listens on its default address; else nowhere.</param>
    public SettingOptions(Func<Setting, bool> known, bool listensByDefault = true)
    {
        foreach (Setting setting in Settings.All.Where(known))
        {
            var option = new Option<string[]>(setting.Option)
            {
                Description = setting.Key == "listen" && !listensByDefault ? "where the status page, /metrics, /healthz and /readyz are served; port 0 picks a free one (default: they are not served)" : setting.Help,
                HelpName = setting.Form,
                Arity = ArgumentArity.OneOrMore, // Given twice, the last counts.
                AllowMultipleArgumentsPerToken = false,
            };
            option.CompletionSources.Add(setting.Values);
            _options.Add((setting, option));
        }
    }

    /// <summary>The option that names the configuration file.</summary>
    public Option<string?> File { get; } = new("--config") { Description = $"configuration file (default {Configuration.DefaultFile}, if it is there)", HelpName = "FILE" };

    /// <summary>Adds the settings' options to the command.</summary>
    public void AddTo(Command command)
    {
        foreach ((_, Option<string[]> option) in _options)
        {
            command.Add(option);
        }
    }

    /// <summary>The options in force.</summary>
    /// <exception cref="UsageException">Something is wrong; the message says where and how it should be.</exception>
    public RunOptions Load(ParseResult parsed)
    {
        // The parser is content when one of two has a value.
        if (parsed.CommandResult.Children.OfType<OptionResult>()
            .FirstOrDefault(static o => o.Option.Arity.MinimumNumberOfValues > 0 && o.IdentifierTokenCount > o.Tokens.Count) is { } empty)
        {
            throw new UsageException($"{empty.Option.Name}: a value is missing");
        }
        return Configuration.Load(
            parsed.GetValue(File),
            Environment.GetEnvironmentVariable,
            _options.Where(o => parsed.GetResult(o.Option) is { Implicit: false }).Select(o => (o.Setting, (IReadOnlyList<string>)Chosen(o.Setting, parsed.GetValue(o.Option)!))));
    }

    /// <summary>The setting is on the command line.</summary>
    public bool IsGiven(ParseResult parsed, string key) =>
        _options.Any(o => o.Setting.Key == key && parsed.GetResult(o.Option) is { Implicit: false });

    private static string[] Chosen(Setting setting, string[] values) => setting.IsList ? values : [values[^1]];
}
