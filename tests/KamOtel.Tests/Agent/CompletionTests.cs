using System.CommandLine;
using KamOtel.Agent;
using KamOtel.Tests.Linux;

namespace KamOtel.Tests.Agent;

/// <summary>The scripts do in a real shell what they are made for.</summary>
public sealed class CompletionTests : IDisposable
{
    // What a Tab offers, in each shell: the command line, and what must be among the offers; or, with "=", all of them.
    private static readonly (string Line, string Offers)[] Cases =
    [
        ("kamotel ", "run scan doctor record replay completion man"),
        ("kamotel run --co", "=--color --config --confirm"),
        ("kamotel run --color ", "=always auto never"),
        ("kamotel scan --log-level e", "=error"),
        ("kamotel run --log-format ", "=json text"),
        ("kamotel doctor --system-libraries ", "=false true"),
        ("kamotel completion ", "bash fish zsh"),
        ("kamotel replay --tr", "=--trace"),
    ];

    private readonly Scratch _scratch = new();

    [Theory]
    [InlineData("bash")]
    [InlineData("zsh")]
    [InlineData("fish")]
    public void A_tab_offers_what_there_is(string shell)
    {
        string script = _scratch.Write(shell, Completion.For(shell, Program()));
        foreach ((string line, string offers) in Cases)
        {
            string[] wanted = offers.TrimStart('=').Split(' ');
            string[] offered = Offered(shell, script, line);
            (offers[0] == '=' ? offered : [.. offered.Intersect(wanted)]).Order(StringComparer.Ordinal)
                .ShouldBe(wanted.Order(StringComparer.Ordinal), $"{shell}: {line}: {string.Join(' ', offered)}");
        }
    }

    [Theory]
    [InlineData("bash")]
    [InlineData("zsh")]
    [InlineData("fish")]
    public void Files_are_offered_where_one_is_meant_and_folders_where_one_is(string shell)
    {
        string script = _scratch.Write(shell, Completion.For(shell, Program()));
        _ = _scratch.Write("here/file", "");
        _ = Directory.CreateDirectory(_scratch["here/folder"]);
        Offered(shell, script, $"kamotel replay {_scratch["here"]}/fi").ShouldHaveSingleItem().ShouldEndWith("file");
        Offered(shell, script, $"kamotel run --config {_scratch["here"]}/fi").ShouldHaveSingleItem().ShouldEndWith("file");
        Offered(shell, script, $"kamotel run --library-path {_scratch["here"]}/f").ShouldHaveSingleItem().TrimEnd('/').ShouldEndWith("folder");
        Offered(shell, script, "kamotel run --listen ").ShouldBeEmpty();
    }

    [Fact]
    public void Bash_completes_a_value_behind_an_equals_sign_too()
    {
        string script = _scratch.Write("bash", Completion.For("bash", Program()));
        Drive(script, "kamotel", "run", "--color", "=", "a").ShouldBe(["always", "auto"]);
        Drive(script, "kamotel", "run", "--color", "=").ShouldBe(["always", "auto", "never"]);
    }

    [Theory]
    [InlineData("bash")]
    [InlineData("zsh")]
    [InlineData("fish")]
    public void Every_command_and_option_is_in_the_script(string shell)
    {
        CommandForm program = Program();
        string script = Completion.For(shell, program);
        program.Commands.Select(static c => c.Name).ShouldContain("doctor");
        foreach (CommandForm command in program.Commands)
        {
            foreach (OptionForm option in command.Options)
            {
                string[] about = shell switch
                {
                    "bash" => [.. script.Split('\n').Where(l => l.StartsWith($"        {command.Name}) words='", StringComparison.Ordinal))],
                    "fish" => [.. script.Split('\n').Where(l => l.Contains($"from {command.Name}'", StringComparison.Ordinal))],
                    _ => script.Split($"                {command.Name})\n")[1].Split(";;")[0].Split('\n'),
                };
                string[] written = shell switch
                {
                    "bash" => [$" {option.Long} ", $"'{option.Long} ", $" {option.Long}'", $"'{option.Long}'"],
                    "fish" => [$" -l {option.Long[2..]} "],
                    _ => [$"'{option.Long}[", $"'{option.Long}=[", $"*{option.Long}=[", $"){option.Long}["],
                };
                about.Any(l => written.Any(w => l.Contains(w, StringComparison.Ordinal))).ShouldBeTrue($"{shell}: {command.Name} {option.Long}");
            }
        }
    }

    [Fact]
    public void A_command_that_runs_another_completes_that_one()
    {
        var root = new RootCommand("x") { new Command("check", "It's [a] check: of one.") { new Option<bool>("--json") { Description = "it's [new]: a: b" }, new Argument<string[]>("COMMAND") } };
        string script = _scratch.Write("bash", Completion.For("bash", CommandForm.Of(root)));
        Drive(script, "kamotel", "check", "--", "ba").ShouldContain("bash");
        Drive(script, "kamotel", "check", "--", "ls", "/etc/pass").ShouldContain("/etc/passwd");
        Drive(script, "kamotel", "check", "--j").ShouldBe(["--json"]);
        foreach (string shell in Completion.Shells)
        {
            _ = Tools.Run(shell, "-n", _scratch.Write(shell, Completion.For(shell, CommandForm.Of(root))));
        }
        Offered("zsh", _scratch["zsh"], "kamotel check --j").ShouldBe(["--json"]);
        Offered("fish", _scratch["fish"], "kamotel check --j").ShouldBe(["--json"]);
    }

    public void Dispose() => _scratch.Dispose();

    private static CommandForm Program() => CommandForm.Of(CommandLine.Root(TextWriter.Null, TextWriter.Null));

    private string[] Offered(string shell, string script, string line) => shell switch
    {
        "bash" => Drive(script, line.Split(' ')),
        "fish" => [.. Lines(Tools.Run("fish", "--no-config", "-c", $"source {script}; complete -C '{line}'")).Select(static l => l.Split('\t')[0])],
        _ => [.. Lines(Tools.Run("zsh", "-f", $"{Tools.Targets}/../KamOtel.Tests/Agent/capture-completion.zsh", script, line))],
    };

    /// <summary>Calls the function as bash does, with the words as it has split them.</summary>
    private static string[] Drive(string script, params string[] words) =>
        [.. Lines(Tools.Run("bash", ["-c", """source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _kamotel; printf '%s\n' "${COMPREPLY[@]}" """, "bash", script, .. words]))];

    private static string[] Lines(string text) => text.Split('\n', StringSplitOptions.RemoveEmptyEntries);
}
