using System.Globalization;
using System.Text;

namespace KamOtel.Agent;

/// <summary>The man page, kamotel(1), from the definitions of the commands, their help texts and the table of settings.</summary>
internal static class ManPage
{
    /// <summary>The page in roff.</summary>
    /// <param name="program">The program.</param>
    /// <param name="version">Its version.</param>
    /// <param name="date">When it was built.</param>
    public static string Of(CommandForm program, string version, DateOnly date)
    {
        var page = new StringBuilder();
        void Line(string line) => page.Append(line).Append('\n');
        Line($".\\\" Made by '{program.Name} man' from the definitions of the commands.");
        Line($".TH {program.Name.ToUpperInvariant()} 1 \"{date.ToString("yyyy-MM-dd", CultureInfo.InvariantCulture)}\" \"{program.Name} {Text(version)}\" \"KamOtel\"");
        Line(".SH NAME");
        Line($"{program.Name} \\- watch SIP servers for OpenSSL state that their processes share");
        Line(".SH SYNOPSIS");
        for (int i = 0; i < program.Commands.Length; i++)
        {
            if (i > 0)
            {
                Line(".br");
            }
            Line(Synopsis(program, program.Commands[i]));
        }
        Line(".SH DESCRIPTION");
        Line(Text(program.Description));
        Line(".PP");
        Line("These options are the program's own:");
        foreach (OptionForm option in program.Options)
        {
            Option(page, option);
        }
        Line(".SH COMMANDS");
        foreach (CommandForm command in program.Commands)
        {
            Line($".SS {Text(command.Name)}");
            Line(Synopsis(program, command));
            Paragraphs(page, command.Description);
            foreach (ValueForm argument in command.Arguments)
            {
                Line(".TP");
                Line($"\\fI{Text(argument.Name)}\\fR");
                Line(Text(argument.Description.Length > 0 ? argument.Description : argument.Name) + Choice(argument));
            }
            foreach (OptionForm option in command.Options)
            {
                Option(page, option);
            }
            Paragraphs(page, command.Epilog);
        }
        Line(".SH ENVIRONMENT");
        Line("A variable counts for each command that has the option; the command line wins.");
        foreach (Setting setting in Settings.All)
        {
            Line(".TP");
            Line($"\\fB{Text(setting.Variable)}\\fR=\\fI{Text(setting.Form)}\\fR");
            Line(Text($"As {setting.Option}: {setting.Help}.{(setting.IsList ? " Several values are separated by commas." : "")}"));
        }
        Line(".TP");
        Line("\\fBOTEL_EXPORTER_OTLP_ENDPOINT\\fR, \\fBOTEL_\\fR*");
        Line(Text("Where OTLP is sent to; nothing is sent without it. The other standard variables of the OpenTelemetry SDK count."));
        Line(".TP");
        Line("\\fBNO_COLOR\\fR");
        Line(Text("When it is set and not empty, --color=auto means never."));
        Line(".TP");
        Line("\\fBNOTIFY_SOCKET\\fR");
        Line(Text("Set by systemd for Type=notify: it is told when the probes are attached."));
        Line(".SH FILES");
        Line(".TP");
        Line($"\\fI{Text(Configuration.DefaultFile)}\\fR");
        Line(Text($"The configuration file, when --config names no other: an object with the keys {string.Join(", ", Settings.All.Select(static s => s.Key))}. The environment wins over it."));
        Line(".SH EXIT STATUS");
        Line("Each command tells its own above. The numbers from 64 on are those of");
        Line(".IR sysexits.h .");
        Line(".SH SEE ALSO");
        Line(".BR kamailio (8),");
        Line(".BR systemd.exec (5),");
        Line(".BR capabilities (7),");
        Line(".BR bpf (2)");
        return page.ToString();
    }

    /// <summary>Text as it is, for roff: nothing of it is an instruction, and quotes and dashes can be copied.</summary>
    internal static string Text(string text)
    {
        var escaped = new StringBuilder();
        foreach (Rune rune in text.EnumerateRunes())
        {
            _ = rune.Value switch
            {
                '\\' => escaped.Append("\\e"),
                '-' => escaped.Append("\\-"),
                '\'' => escaped.Append("\\(aq"),
                '`' => escaped.Append("\\(ga"),
                '^' => escaped.Append("\\(ha"),
                '~' => escaped.Append("\\(ti"),
                > 0x7e => escaped.Append(CultureInfo.InvariantCulture, $"\\[u{rune.Value:X4}]"),
                _ => escaped.Append(rune),
            };
        }
        return escaped.Length > 0 && escaped[0] == '.' ? $"\\&{escaped}" : escaped.ToString();
    }

    private static string Synopsis(CommandForm program, CommandForm command) =>
        $"\\fB{program.Name} {Text(command.Name)}\\fR [\\fIOPTION\\fR]...{string.Concat(command.Arguments.Select(static a => a.IsCommand ? $" \\-\\- \\fI{Text(a.Name)}\\fR..." : $" \\fI{Text(a.Name)}\\fR"))}";

    private static void Option(StringBuilder page, OptionForm option)
    {
        string value = option.Value is { } v ? $" \\fI{Text(v.Name)}\\fR" : "";
        page.Append(".TP\n").AppendJoin(", ", option.Names.Select(name => $"\\fB{Text(name)}\\fR{value}")).Append('\n')
            .Append(Text(option.Description)).Append('\n');
    }

    private static string Choice(ValueForm value) => value.Values.IsEmpty ? "" : Text($": {string.Join(", ", value.Values)}");

    /// <summary>Text in paragraphs. One that begins with "Example" is shown as it is written.</summary>
    private static void Paragraphs(StringBuilder page, string text)
    {
        foreach (string paragraph in text.ReplaceLineEndings("\n").Split("\n\n", StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            string[] lines = paragraph.Split('\n');
            page.Append(".PP\n");
            if (!lines[0].StartsWith("Example", StringComparison.Ordinal))
            {
                foreach (string line in lines)
                {
                    page.Append(Text(line.Trim())).Append('\n');
                }
                continue;
            }
            page.Append(Text(lines[0])).Append("\n.PP\n.RS 4\n.nf\n");
            foreach (string line in lines[1..])
            {
                page.Append(Text(line.Trim())).Append('\n');
            }
            page.Append(".fi\n.RE\n");
        }
    }
}
