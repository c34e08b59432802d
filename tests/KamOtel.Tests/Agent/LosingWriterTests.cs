using System.Text;
using KamOtel.Agent;
using Microsoft.Extensions.Logging;

namespace KamOtel.Tests.Agent;

public sealed class LosingWriterTests
{
    [Fact]
    public async Task What_can_be_written_is_written()
    {
        using var written = new StringWriter();
        await using var writer = new LosingWriter(written);
        writer.Write('a');
        writer.Write("b");
        writer.WriteLine("c");
        await writer.WriteLineAsync("d");
        await writer.FlushAsync(TestContext.Current.CancellationToken);
        written.ToString().ShouldBe("abc\nd\n");
    }

    [Fact]
    public async Task What_cannot_be_written_is_lost_and_nothing_else()
    {
        using var full = new FullWriter();
        await using var writer = new LosingWriter(full);
        using var provider = new StderrLoggerProvider(writer, json: false);
        provider.CreateLogger("test").LogWarning("a line");
        await writer.WriteLineAsync("another");
        full.Tries.ShouldBeGreaterThanOrEqualTo(2);
    }

    private sealed class FullWriter : TextWriter
    {
        public int Tries { get; private set; }

        public override Encoding Encoding => Encoding.UTF8;

        public override void Write(char value)
        {
            Tries++;
            throw new IOException("No space left on device");
        }
    }
}
