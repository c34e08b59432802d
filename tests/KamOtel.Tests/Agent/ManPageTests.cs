using KamOtel.Agent;
using KamOtel.Tests.Linux;

namespace KamOtel.Tests.Agent;

/// <summary>The man page says what the help says, in roff that nobody complains of.</summary>
public sealed class ManPageTests
{
    private static readonly CommandForm Program = CommandForm.Of(CommandLine.Root(TextWriter.Null, TextWriter.Null));

    private static readonly string Page = ManPage.Of(Program, "1.2.3", new DateOnly(2026, 2, 1));

    [Fact]
    public void Every_command_has_its_section_with_its_options_arguments_and_help()
    {
        foreach (CommandForm command in Program.Commands)
        {
            string section = Page.Split($"\n.SS {command.Name}\n").Length == 2 ? Page.Split($"\n.SS {command.Name}\n")[1].Split("\n.S")[0] : "";
            section.ShouldContain(ManPage.Text(command.Description));
            foreach (OptionForm option in command.Options)
            {
                section.ShouldContain($"\\fB{ManPage.Text(option.Long)}\\fR");
                section.ShouldContain(ManPage.Text(option.Description));
            }
            foreach (ValueForm argument in command.Arguments)
            {
                section.ShouldContain($".TP\n\\fI{argument.Name}\\fR\n");
            }
            command.Epilog.ShouldContain("Exit status: 0", customMessage: command.Name);
            foreach (string line in command.Epilog.Split('\n'))
            {
                section.ShouldContain(ManPage.Text(line.Trim()));
            }
        }
    }

    [Fact]
    public void Every_variable_and_the_file_have_their_place()
    {
        string environment = Page.Split("\n.SH ENVIRONMENT\n")[1].Split("\n.SH ")[0];
        foreach (Setting setting in Settings.All)
        {
            environment.ShouldContain($"\\fB{setting.Variable}\\fR=\\fI{ManPage.Text(setting.Form)}\\fR");
        }
        Page.Split("\n.SH FILES\n")[1].ShouldContain(Configuration.DefaultFile);
        Page.ShouldContain("\n.SH EXIT STATUS\n");
    }

    [Fact]
    public void The_same_definitions_make_the_same_page()
    {
        ManPage.Of(Program, "1.2.3", new DateOnly(2026, 2, 1)).ShouldBe(Page);
        Page.ShouldContain(".TH KAMOTEL 1 \"2026-02-01\" \"kamotel 1.2.3\"");
    }

    [Theory]
    [InlineData(".SH no section", "\\&.SH no section")]
    [InlineData("--json 'a' `b` ^~\\n", "\\-\\-json \\(aqa\\(aq \\(gab\\(ga \\(ha\\(ti\\en")]
    [InlineData("µs …", "\\[u00B5]s \\[u2026]")]
    public void Text_stays_as_it_is(string text, string roff) => ManPage.Text(text).ShouldBe(roff);

    [Fact]
    public void Groff_and_mandoc_have_nothing_to_say()
    {
        using var scratch = new Scratch();
        string file = scratch.Write("kamotel.1", Page);
        // What groff warns of goes to standard error.
        Tools.Run("bash", "-c", $"groff -ww -man -Tutf8 '{file}' 2>&1 >/dev/null").ShouldBeEmpty();
        // Long input lines do no harm: they are made, and nobody edits them.
        Tools.Run("bash", "-c", $"mandoc -T lint -W style '{file}' | grep -v 'input text line longer than 80 bytes' || true").ShouldBeEmpty();
    }

    [Fact]
    public void What_is_printed_is_what_was_written()
    {
        using var scratch = new Scratch();
        string text = Tools.Run("bash", "-c", $"mandoc -T utf8 -O width=200 '{scratch.Write("kamotel.1", Page)}' | sed 's/.\\x08//g'");
        text.ShouldContain("kamotel scan --json | jq -r '.instances[] | \"\\(.verdict) \\(.target)\"'");
        text.ShouldContain("KAMOTEL_RING_BYTES, …");
    }
}
