namespace KamOtel.EndToEndTests;

/// <summary>This machine under an overlay, with a real systemd or with none: <c>systemd-machine</c> says how.</summary>
internal sealed class SystemdMachine : IAsyncDisposable
{
    private static readonly string Script = Path.Combine(Requirements.Repository, "tests", "KamOtel.EndToEndTests", "systemd-machine");

    private readonly Scratch _scratch = new();
    private readonly RunningProgram _process;
    private readonly bool _systemd;

    private SystemdMachine(bool systemd)
    {
        _systemd = systemd;
        _process = RunningProgram.Start(Script, ["run", _scratch["machine"], .. systemd ? Array.Empty<string>() : ["--without-systemd"]]);
    }

    /// <summary>Starts it and waits until commands run in it.</summary>
    /// <param name="systemd">Services are managed.</param>
    public static async Task<SystemdMachine> Start(bool systemd = true)
    {
        Requirements.Bpf();
        Requirements.Program("nsenter");
        Requirements.Program("/lib/systemd/systemd");
        var machine = new SystemdMachine(systemd);
        try
        {
            await Until.True(
                "the machine to be up",
                async () =>
                {
                    machine._process.Alive.ShouldBeTrue($"it ended\n{machine._process}");
                    Ended up = await machine.Run("sh", "-c", systemd ? "test -S /run/systemd/private && systemctl is-active basic.target" : "test -c /dev/null");
                    return up.Code == 0 && (await File.ReadAllTextAsync($"/proc/{machine._process.Pid}/comm")).Trim() == (systemd ? "systemd" : "sleep");
                },
                state: machine._process.ToString);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <summary>Runs a command in it.</summary>
    public Task<Ended> Run(string program, params string[] arguments) => RunningProgram.Run(Script, ["enter", $"{_process.Pid}", program, .. arguments]);

    /// <summary>The same, and it must succeed. What it wrote to its standard output.</summary>
    public async Task<string> Do(string program, params string[] arguments)
    {
        Ended ended = await Run(program, arguments);
        ended.Code.ShouldBe(0, $"{program} {string.Join(' ', arguments)}\n{ended}");
        return ended.Output.TrimEnd('\n');
    }

    /// <summary>A file in it, or its new text.</summary>
    public Task<string> Read(string path) => Do("cat", path);

    /// <inheritdoc cref="Read"/>
    public async Task Write(string path, string text)
    {
        Ended ended = await RunningProgram.Run(
            Script, ["enter", $"{_process.Pid}", "sh", "-c", "mkdir -p \"$(dirname \"$0\")\" && cat > \"$0\"", path], input: text);
        ended.Code.ShouldBe(0, ended.ToString());
    }

    /// <summary>A property of a unit, as <c>systemctl show</c> has it.</summary>
    public Task<string> Property(string unit, string name) => Do("systemctl", "show", "--value", "--property", name, unit);

    /// <summary>What a unit logged since it was started last, a line a message.</summary>
    public async Task<string> Log(string unit) =>
        await Do("journalctl", "--no-pager", "--quiet", "--output", "cat", $"_SYSTEMD_INVOCATION_ID={await Property(unit, "InvocationID")}");

    /// <summary>The files and folders that are there and not on this machine.</summary>
    public async Task<string[]> NewPaths()
    {
        // Seen from outside its root, where both are. A device with the number 0,0 says that a file of this machine is gone.
        const string List = "cd \"$0\" && find . -mindepth 1 \\( -type c -o -printf '%P\\n' \\) | while IFS= read -r path; do [ -e \"/$path\" ] || [ -L \"/$path\" ] || echo \"/$path\"; done";
        Ended ended = await RunningProgram.Run("nsenter", ["--target", $"{_process.Pid}", "--mount", "sh", "-c", List, Path.Combine(_scratch["machine"], "up")]);
        ended.Code.ShouldBe(0, ended.ToString());
        return ended.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (_systemd && _process.Alive)
        {
            // Ended in order they take their private folders in /tmp along.
            _ = await Run("systemctl", "stop", "kamotel.service", "kamailio.service");
        }
        Ended ended = await RunningProgram.Run(Script, ["end", _scratch["machine"]]);
        await _process.DisposeAsync();
        _scratch.Dispose();
        ended.Code.ShouldBe(0, ended.ToString());
    }
}
