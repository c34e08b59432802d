using System.Text;
using System.Text.Json;
using KamOtel.Diagnosis;

namespace KamOtel.Agent;

/// <summary>Log lines on standard error: <c>kamotel: warning: …</c>, or a JSON object a line.</summary>
internal sealed class StderrLoggerProvider(TextWriter writer, bool json) : ILoggerProvider
{
    public ILogger CreateLogger(string categoryName) => new StderrLogger(writer, json, categoryName);

    public void Dispose()
    {
    }

    private sealed class StderrLogger(TextWriter writer, bool json, string category) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => logLevel != LogLevel.None;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception, Func<TState, Exception?, string> formatter)
        {
            string text = PlainText.Of(formatter(state, exception).ReplaceLineEndings(" "));
            string line = json ? Json(logLevel, text, exception) : $"kamotel: {Name(logLevel)}: {text}{(exception is null ? "" : $": {exception}")}";
            lock (writer)
            {
                writer.WriteLine(line);
                writer.Flush();
            }
        }

        private static string Name(LogLevel level) => level switch
        {
            LogLevel.Critical => "critical",
            LogLevel.Error => "error",
            LogLevel.Warning => "warning",
            LogLevel.Information => "info",
            LogLevel.Debug => "debug",
            _ => "trace",
        };

        private string Json(LogLevel level, string text, Exception? exception)
        {
            using var buffer = new MemoryStream();
            using (var line = new Utf8JsonWriter(buffer))
            {
                line.WriteStartObject();
                line.WriteString("time", DateTimeOffset.UtcNow);
                line.WriteString("level", Name(level));
                line.WriteString("category", category);
                line.WriteString("message", text);
                if (exception is not null)
                {
                    line.WriteString("exception", exception.ToString());
                }
                line.WriteEndObject();
            }
            return Encoding.UTF8.GetString(buffer.ToArray());
        }
    }
}
