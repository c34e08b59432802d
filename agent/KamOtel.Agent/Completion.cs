using System.Text;

namespace KamOtel.Agent;

/// <summary>Scripts that complete command lines, from the definitions of the commands. They are complete in themselves: no program runs at a Tab.</summary>
internal static class Completion
{
    /// <summary>The shells that there are scripts for.</summary>
    public static string[] Shells { get; } = ["bash", "zsh", "fish"];

    /// <summary>The script.</summary>
    /// <exception cref="UsageException">There is none for this shell.</exception>
    public static string For(string shell, CommandForm program) => shell switch
    {
        "bash" => Bash(program),
        "zsh" => Zsh(program),
        "fish" => Fish(program),
        _ => throw new UsageException($"'{shell}' is not one of {string.Join(", ", Shells)}"),
    };

    private static string Bash(CommandForm program)
    {
        var script = new Script();
        script.Line($"# bash completion of {program.Name}, made by '{program.Name} completion bash'");
        script.Line($"_{program.Name}()");
        script.Line("{");
        script.Line("    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command= rest= words= i");
        script.Line("    COMPREPLY=()");
        script.Line("    # --option=value: bash makes three words of it.");
        script.Line("    if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]] && ((COMP_CWORD > 1)); then prev=${COMP_WORDS[COMP_CWORD-2]}; fi");
        script.Line("    for ((i = 1; i < COMP_CWORD; i++)); do");
        script.Line("        if [[ ${COMP_WORDS[i]} == -- ]]; then rest=$((i + 1)); break; fi");
        script.Line($"        case $command,${{COMP_WORDS[i]}} in {string.Join(" | ", program.Commands.Select(static c => "," + c.Name))}) command=${{COMP_WORDS[i]}} ;; esac");
        script.Line("    done");
        script.Line("    if [[ $rest ]]; then");
        script.Line("        case $command in");
        foreach (CommandForm command in program.Commands.Where(static c => c.Arguments.Any(static a => a.IsCommand)))
        {
            script.Line($"            {command.Name})");
            script.Line("                if declare -F _command_offset >/dev/null; then _command_offset \"$rest\"");
            script.Line("                elif ((COMP_CWORD == rest)); then mapfile -t COMPREPLY < <(compgen -c -- \"$cur\")");
            script.Line("                else compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\"); fi");
            script.Line("                ;;");
        }
        script.Line("        esac");
        script.Line("        return");
        script.Line("    fi");
        script.Line("    case $command,$prev in");
        foreach (CommandForm command in program.Commands)
        {
            foreach (OptionForm option in command.Options.Where(static o => o.Value is not null))
            {
                script.Line($"        {string.Join(" | ", option.Names.Select(name => $"{command.Name},{name}"))}) {BashValue(option.Value!)} return ;;");
            }
        }
        script.Line("    esac");
        script.Line("    case $command in");
        foreach (CommandForm command in program.Commands.Prepend(program))
        {
            string name = command == program ? "''" : command.Name;
            IEnumerable<string> words = command.Options.SelectMany(static o => o.Names).Where(static n => n != "-?").Concat(command.Commands.Select(static c => c.Name)).Concat(command.Arguments.SelectMany(static a => a.Values));
            script.Line($"        {name}) words='{string.Join(' ', words)}' ;;");
        }
        script.Line("    esac");
        script.Line("    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")");
        string[] withFile = [.. program.Commands.Where(static c => c.Arguments.Any(static a => a.IsFile)).Select(static c => c.Name)];
        if (withFile.Length > 0)
        {
            script.Line("    case $command,$cur in");
            script.Line("        *,-*) ;;");
            script.Line($"        {string.Join(" | ", withFile.Select(static c => c + ",*"))}) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\") ;;");
            script.Line("    esac");
        }
        script.Line("}");
        script.Line($"complete -F _{program.Name} {program.Name}");
        return script.ToString();
    }

    private static string BashValue(ValueForm value) =>
        !value.Values.IsEmpty ? $"mapfile -t COMPREPLY < <(compgen -W '{string.Join(' ', value.Values)}' -- \"$cur\");"
        : value.IsDirectory ? "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- \"$cur\");"
        : value.IsFile ? "compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- \"$cur\");"
        : "";

    private static string Zsh(CommandForm program)
    {
        var script = new Script();
        script.Line($"#compdef {program.Name}");
        script.Line($"# zsh completion of {program.Name}, made by '{program.Name} completion zsh'");
        script.Line($"_{program.Name}() {{");
        script.Line("    local curcontext=$curcontext state line");
        script.Line("    typeset -A opt_args");
        script.Line("    _arguments -C \\");
        foreach (OptionForm option in program.Options)
        {
            script.Line($"        {ZshOption(option)} \\");
        }
        script.Line("        '1: :->command' '*:: :->arguments'");
        script.Line("    case $state in");
        script.Line("        command)");
        script.Line("            local -a commands");
        script.Line("            commands=(");
        foreach (CommandForm command in program.Commands)
        {
            script.Line($"                {ZshQuote($"{command.Name}:{command.Description}")}");
        }
        script.Line("            )");
        script.Line("            _describe -t commands command commands");
        script.Line("            ;;");
        script.Line("        arguments)");
        script.Line("            case $words[1] in");
        foreach (CommandForm command in program.Commands)
        {
            script.Line($"                {command.Name})");
            string[] specs = [.. command.Options.Select(ZshOption), .. command.Arguments.Select(static (a, i) => ZshArgument(a, i + 1))];
            script.Line($"                    _arguments {string.Join(" \\\n                        ", specs)}");
            script.Line("                    ;;");
        }
        script.Line("            esac");
        script.Line("            ;;");
        script.Line("    esac");
        script.Line("}");
        script.Line($"if [ \"$funcstack[1]\" = _{program.Name} ]; then _{program.Name} \"$@\"; else compdef _{program.Name} {program.Name}; fi");
        return script.ToString();
    }

    private static string ZshOption(OptionForm option)
    {
        // Zsh takes ? for a pattern, and nobody types it.
        string[] names = [.. option.Names.Where(static n => n != "-?")];
        string explanation = $"[{ZshEscape(option.Description)}]";
        string value = option.Value is { } v ? $":{ZshEscape(v.Name)}:{ZshAction(v)}" : "";
        string repeats = option.Repeats ? "*" : names.Length > 1 ? $"({string.Join(' ', names)})" : "";
        return string.Join(" ", names.Select(name => ZshQuote($"{repeats}{name}{(option.Value is null ? "" : "=")}{explanation}{value}")));
    }

    private static string ZshArgument(ValueForm value, int position) =>
        ZshQuote(value.IsCommand ? $"*::{value.Name}:_normal" : $"{position}:{value.Name}:{ZshAction(value)}");

    private static string ZshAction(ValueForm value) =>
        !value.Values.IsEmpty ? $"({string.Join(' ', value.Values)})"
        : value.IsDirectory ? "_files -/"
        : value.IsFile ? "_files"
        : " ";

    private static string ZshEscape(string text) =>
        text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("[", "\\[", StringComparison.Ordinal).Replace("]", "\\]", StringComparison.Ordinal).Replace(":", "\\:", StringComparison.Ordinal);

    private static string ZshQuote(string text) => $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private static string Fish(CommandForm program)
    {
        var script = new Script();
        script.Line($"# fish completion of {program.Name}, made by '{program.Name} completion fish'");
        script.Line($"complete -c {program.Name} -f");
        foreach (OptionForm option in program.Options)
        {
            script.Line($"complete -c {program.Name} -n __fish_use_subcommand{FishOption(option)}");
        }
        foreach (CommandForm command in program.Commands)
        {
            script.Line($"complete -c {program.Name} -n __fish_use_subcommand -a {command.Name} -d {FishQuote(command.Description)}");
            string here = $"complete -c {program.Name} -n '__fish_seen_subcommand_from {command.Name}'";
            foreach (OptionForm option in command.Options)
            {
                script.Line($"{here}{FishOption(option)}");
            }
            foreach (ValueForm argument in command.Arguments)
            {
                string action = !argument.Values.IsEmpty ? $" -a {FishQuote(string.Join(' ', argument.Values))}"
                    : argument.IsFile ? " -F"
                    : argument.IsDirectory ? " -a '(__fish_complete_directories)'"
                    : argument.IsCommand ? " -a '(__fish_complete_subcommand)'"
                    : "";
                if (action.Length > 0)
                {
                    script.Line(here + action);
                }
            }
        }
        return script.ToString();
    }

    private static string FishOption(OptionForm option)
    {
        string names = string.Concat(option.Names.Where(static n => n != "-?").Select(static n => n.StartsWith("--", StringComparison.Ordinal) ? $" -l {n[2..]}" : $" -s {n[1..]}"));
        string value = option.Value switch
        {
            null => "",
            { Values.IsEmpty: false } v => $" -x -a {FishQuote(string.Join(' ', v.Values))}",
            { IsFile: true } => " -r -F",
            { IsDirectory: true } => " -x -a '(__fish_complete_directories)'",
            _ => " -x",
        };
        return $"{names}{value} -d {FishQuote(option.Description)}";
    }

    private static string FishQuote(string text) => $"'{text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("'", "\\'", StringComparison.Ordinal)}'";

    /// <summary>Lines that end as shells want it, wherever they are made.</summary>
    private sealed class Script
    {
        private readonly StringBuilder _text = new();

        public void Line(string line) => _text.Append(line).Append('\n');

        public override string ToString() => _text.ToString();
    }
}
