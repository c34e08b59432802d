using System.Globalization;
using System.Text;
using System.Xml;

namespace KamOtel.Agent;

/// <summary>
/// The report that continuous integration shows, in the form of JUnit: a test case a configuration, a failure for a hazard,
/// an error where nobody could tell. The file is made before anything runs.
/// </summary>
internal sealed class JUnitReport : IDisposable
{
    private const string Suite = "kamotel check";

    private readonly string _path;
    private readonly FileStream _file;

    private JUnitReport(string path, FileStream file) => (_path, _file) = (path, file);

    /// <summary>Makes the file, empty, or empties it.</summary>
    /// <exception cref="CommandException">It cannot be made; the message says why.</exception>
    public static JUnitReport Create(string path)
    {
        try
        {
            return path.Length == 0
                ? throw new UsageException("--junit: the name of the file is empty")
                : new(path, new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.ReadWrite));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new CommandException(ExitCode.CannotCreate, $"{path}: the report cannot be written there: {(Directory.Exists(path) ? "it is a folder" : e.Message)}");
        }
    }

    /// <summary>Writes all of it.</summary>
    /// <exception cref="IOException">The disk refuses; the message names the file.</exception>
    public void Write(IReadOnlyList<CheckResult> results)
    {
        try
        {
            using (XmlWriter xml = XmlWriter.Create(_file, new XmlWriterSettings { Indent = true, Encoding = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false), CloseOutput = false }))
            {
                Write(xml, results);
            }
            _file.Flush();
        }
        catch (IOException e)
        {
            throw new IOException($"{_path}: the report could not be written to its end: {e.Message}", e);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            _file.Dispose();
        }
        catch (IOException)
        {
            // What could not be written was told when it was.
        }
    }

    /// <summary>What XML cannot carry, not even escaped, becomes U+FFFD.</summary>
    internal static string Text(string text)
    {
        var result = new StringBuilder(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            // Half a pair comes as U+FFFD already.
            _ = result.Append(rune.Value > char.MaxValue || XmlConvert.IsXmlChar((char)rune.Value) ? rune.ToString() : "\uFFFD");
        }
        return result.ToString();
    }

    private static void Write(XmlWriter xml, IReadOnlyList<CheckResult> results)
    {
        xml.WriteStartDocument();
        xml.WriteStartElement("testsuites");
        Counts(xml, results);
        xml.WriteStartElement("testsuite");
        Counts(xml, results);
        foreach (CheckResult result in results)
        {
            xml.WriteStartElement("testcase");
            xml.WriteAttributeString("classname", Suite);
            xml.WriteAttributeString("name", Text(result.Name));
            xml.WriteAttributeString("time", Seconds(result.Duration));
            string details = Text(string.Join('\n', CheckTable.Details(result)));
            if (result.Code != ExitCode.Ok)
            {
                xml.WriteStartElement(result.Code == ExitCode.Hazard ? "failure" : "error");
                xml.WriteAttributeString("type", Words.Of(result.Verdict));
                xml.WriteAttributeString("message", Text(result.Reason));
                xml.WriteString(details);
                xml.WriteEndElement();
            }
            else
            {
                xml.WriteElementString("system-out", details);
            }
            xml.WriteEndElement();
        }
        xml.WriteEndElement();
        xml.WriteEndElement();
        xml.WriteEndDocument();
    }

    private static void Counts(XmlWriter xml, IReadOnlyList<CheckResult> results)
    {
        xml.WriteAttributeString("name", Suite);
        xml.WriteAttributeString("tests", Number(results.Count));
        xml.WriteAttributeString("failures", Number(results.Count(static r => r.Code == ExitCode.Hazard)));
        xml.WriteAttributeString("errors", Number(results.Count(static r => r.Code is not (ExitCode.Ok or ExitCode.Hazard))));
        xml.WriteAttributeString("time", Seconds(TimeSpan.FromTicks(results.Sum(static r => r.Duration.Ticks))));
    }

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Seconds(TimeSpan time) => time.TotalSeconds.ToString("0.000", CultureInfo.InvariantCulture);
}
