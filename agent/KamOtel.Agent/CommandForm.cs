using System.Collections.Immutable;
using System.CommandLine;
using System.CommandLine.Completions;

namespace KamOtel.Agent;

/// <summary>A command as the man page and the completions need it, read from its definition.</summary>
/// <param name="Name">What is typed.</param>
/// <param name="Description">What it does.</param>
/// <param name="Arguments">What it takes beside options.</param>
/// <param name="Options">Its options.</param>
/// <param name="Commands">The commands below it.</param>
/// <param name="Epilog">What stands below its options in the help.</param>
internal sealed record CommandForm(
    string Name, string Description, ImmutableArray<ValueForm> Arguments, ImmutableArray<OptionForm> Options, ImmutableArray<CommandForm> Commands, string Epilog)
{
    /// <summary>Reads a definition, with all that is below it. What is hidden there is not here.</summary>
    public static CommandForm Of(Command command) => new(
        command is RootCommand ? CommandLine.Program : command.Name,
        command.Description ?? "",
        [.. command.Arguments.Where(static a => !a.Hidden).Select(static a => new ValueForm(a.Name, a.Description ?? "", ValuesOf(a)))],
        [.. Inherited(command).Concat(command.Options).Where(static o => !o.Hidden).Distinct().Select(OptionForm.Of).OrderBy(static o => o.Long, StringComparer.Ordinal)],
        [.. command.Subcommands.Where(static c => !c.Hidden).Select(Of)],
        CommandLine.EpilogOf(command));

    internal static ImmutableArray<string> ValuesOf(Symbol symbol) =>
        [.. symbol.GetCompletions(CompletionContext.Empty).Select(static item => item.Label).Where(static label => !label.StartsWith('-'))];

    private static IEnumerable<Option> Inherited(Command command) =>
        command.Parents.OfType<Command>().SelectMany(static parent => Inherited(parent).Concat(parent.Options.Where(static o => o.Recursive)));
}

/// <summary>An option.</summary>
/// <param name="Long">Its name with two dashes.</param>
/// <param name="Others">Its other names.</param>
/// <param name="Description">What it does.</param>
/// <param name="Value">What it takes; null: nothing.</param>
/// <param name="Repeats">It may be given more than once.</param>
internal sealed record OptionForm(string Long, ImmutableArray<string> Others, string Description, ValueForm? Value, bool Repeats)
{
    /// <summary>All of its names.</summary>
    public IEnumerable<string> Names => Others.Prepend(Long);

    public static OptionForm Of(Option option)
    {
        bool takes = option.Arity.MaximumNumberOfValues > 0 && option.ValueType != typeof(bool);
        return new(
            option.Name,
            [.. option.Aliases.Where(static name => !name.StartsWith('/'))],
            option.Description ?? "",
            takes ? new ValueForm(option.HelpName ?? "VALUE", "", CommandForm.ValuesOf(option)) : null,
            takes && option.Arity.MaximumNumberOfValues > 1);
    }
}

/// <summary>A value: of an option, or beside options.</summary>
/// <param name="Name">The word for it; <c>FILE</c>, <c>DIRECTORY</c> and <c>COMMAND</c> mean what they say.</param>
/// <param name="Description">What it is for.</param>
/// <param name="Values">The values that it can have; empty when they are not fixed.</param>
internal sealed record ValueForm(string Name, string Description, ImmutableArray<string> Values)
{
    public bool IsFile => Name == "FILE";

    public bool IsDirectory => Name == "DIRECTORY";

    public bool IsCommand => Name == "COMMAND";
}
