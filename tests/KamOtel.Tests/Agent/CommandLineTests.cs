using KamOtel.Agent;

namespace KamOtel.Tests.Agent;

public sealed class CommandLineTests
{
    [Fact]
    public async Task The_version_is_one_line()
    {
        (int code, string output, string error) = await Run("--version");
        code.ShouldBe(ExitCode.Ok);
        output.ShouldMatch(@"^kamotel \d+\.\d+\.\d+ \(revision [^ ,]+, libbpf [^)]+\)\n$");
        error.ShouldBeEmpty();
    }

    [Fact]
    public async Task The_help_names_every_option_with_its_form()
    {
        (int code, string output, string error) = await Run("run", "--help");
        code.ShouldBe(ExitCode.Ok);
        error.ShouldBeEmpty();
        foreach (Setting setting in Settings.All)
        {
            output.ShouldContain(setting.Option);
            output.ShouldContain($"<{setting.Form}>");
        }
        output.ShouldContain("Exit status");
        output.Split('\n').ShouldAllBe(static line => line.Length <= 200);
    }

    [Theory]
    [InlineData("run", "(default 127.0.0.1:9464)")]
    [InlineData("doctor", "(default 127.0.0.1:9464)")]
    [InlineData("record", "(default: they are not served)")]
    [InlineData("replay", "(default: they are not served)")]
    public async Task The_help_tells_where_the_command_listens_without_being_told(string command, string told)
    {
        (_, string output, _) = await Run(command, "--help");
        output.Split('\n').ShouldContain(line => line.Contains("--listen", StringComparison.Ordinal) && line.Contains(told, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("'--no-such' is no command or option", "run", "--no-such")]
    [InlineData("'fly' is no command or option", "fly")]
    [InlineData("--listen", "run", "--listen")]
    [InlineData("--listen: a value is missing", "run", "--listen", "127.0.0.1:0", "--listen")]
    [InlineData("--config: a value is missing", "run", "--config", "/nonexistent", "--config")]
    [InlineData("--listen: 'here' is not of the form ADDRESS:PORT", "run", "--listen", "here")]
    [InlineData("--color: 'green' is not one of", "run", "--color", "green")]
    [InlineData("/nonexistent: cannot be read", "run", "--config", "/nonexistent")]
    [InlineData("'-' is no file", "record", "-")]
    [InlineData("'-' is no file", "replay", "-")]
    [InlineData("'tcsh' is not one of bash, zsh, fish", "completion", "tcsh")]
    [InlineData("--color: 'green' is not one of", "doctor", "--color", "green")]
    [InlineData("", "")]
    public async Task A_mistake_is_said_in_a_line_with_the_way_to_the_help(string problem, params string[] arguments)
    {
        (int code, string output, string error) = await Run(arguments);
        code.ShouldBe(ExitCode.Usage);
        output.ShouldBeEmpty();
        error.ShouldStartWith("kamotel: error: ");
        error.ShouldContain(problem);
        error.ShouldEndWith("--help'.\n");
        error.Split('\n').Length.ShouldBe(3);
    }

    [Fact]
    public async Task Without_a_command_the_mistake_is_said()
    {
        (int code, _, string error) = await Run();
        code.ShouldBe(ExitCode.Usage);
        error.ShouldBe("kamotel: error: a command is missing\nTry 'kamotel --help'.\n");
    }

    private static async Task<(int Code, string Output, string Error)> Run(params string[] arguments)
    {
        using var output = new StringWriter();
        using var error = new StringWriter();
        int code = await CommandLine.RunAsync(arguments, output, error);
        return (code, output.ToString(), error.ToString());
    }
}
