using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text.Json;
using KamOtel.Bpf;
using KamOtel.Diagnosis;

namespace KamOtel.KernelTests;

/// <summary>The C and the C# side mean the same bytes: read from the object's own BTF.</summary>
public sealed class LayoutTests : IDisposable
{
    private readonly Scratch _scratch = new();
    private readonly string _object;
    private readonly Dictionary<int, JsonElement> _types;

    public LayoutTests()
    {
        _object = Path.Combine(_scratch.Path, "kamotel.bpf.o");
        using (Stream resource = typeof(KernelSide).Assembly.GetManifestResourceStream("kamotel.bpf.o")!)
        using (FileStream file = File.Create(_object))
        {
            resource.CopyTo(file);
        }
        using JsonDocument document = JsonDocument.Parse(Machine.Run("bpftool", "-j", "btf", "dump", "file", _object));
        _types = document.RootElement.GetProperty("types").EnumerateArray()
            .ToDictionary(static t => t.GetProperty("id").GetInt32(), static t => t.Clone());
    }

    public static TheoryData<string, Type> Records => new()
    {
        { "kamotel_header", typeof(Events.Header) },
        { "kamotel_exec", typeof(Events.ExecRecord) },
        { "kamotel_fork", typeof(Events.ForkRecord) },
        { "kamotel_exit", typeof(Events.ExitRecord) },
        { "kamotel_call", typeof(Events.CallRecord) },
        { "kamotel_stack", typeof(Events.StackRecord) },
        { "kamotel_file", typeof(Events.FileRecord) },
        { "kamotel_fatal_signal", typeof(Events.FatalSignalRecord) },
        { "kamotel_enter", typeof(Events.EnterRecord) },
        { "kamotel_complaint", typeof(Events.ComplaintRecord) },
        { "kamotel_task", typeof(Events.TaskRecord) },
        { "kamotel_host", typeof(Events.HostRecord) },
        { "kamotel_instance", typeof(Events.InstanceKey) },
        { "kamotel_slot_layout", typeof(Events.SlotLayout) },
        { "kamotel_shared_key", typeof(Events.SharedKey) },
        { "kamotel_shared_use", typeof(Events.SharedUseKey) },
        { "kamotel_watched", typeof(Events.WatchedEntry) },
    };

    [Theory]
    [MemberData(nameof(Records))]
    public void Records_agree_in_every_field(string name, Type mirror)
    {
        JsonElement record = Named("STRUCT", name);
        Marshal.SizeOf(mirror).ShouldBe(record.GetProperty("size").GetInt32(), $"size of {name}");
        string[] theirs = [.. record.GetProperty("members").EnumerateArray()
            .Select(m => $"{Pascal(m.GetProperty("name").GetString()!)} at {m.GetProperty("bits_offset").GetInt32() / 8} of {SizeOf(m.GetProperty("type_id").GetInt32())}")];
        string[] ours = [.. mirror.GetFields(BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic)
            .Select(f => $"{f.Name} at {Marshal.OffsetOf(mirror, f.Name)} of {Marshal.SizeOf(f.FieldType)}")];
        ours.ShouldBe(theirs, name);
    }

    [Fact]
    public void The_global_variables_lie_where_they_are_written()
    {
        // Before the load the section's BTF has no offsets yet: the symbols have them.
        string[][] symbols = [.. Machine.Run("readelf", "-sW", _object).Split('\n')
            .Select(static line => line.Split(' ', StringSplitOptions.RemoveEmptyEntries))
            .Where(static words => words.Length == 8 && words[3] == "OBJECT")];
        string section = symbols.Single(static words => words[7] == "wanted_tgid")[6];
        string[] theirs = [.. symbols
            .Where(words => words[6] == section && !words[7].StartsWith("unused_", StringComparison.Ordinal))
            .Select(static words => (Name: words[7], Offset: int.Parse(words[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture)))
            .OrderBy(static symbol => symbol.Offset)
            .Select(static symbol => $"{Pascal(symbol.Name)} at {symbol.Offset}")];
        string[] ours = [.. typeof(Events.Globals).GetFields().Select(static f => $"{f.Name} at {Marshal.OffsetOf<Events.Globals>(f.Name)}")];
        ours.ShouldBe(theirs);
    }

    [Fact]
    public void The_numbers_agree()
    {
        Dictionary<string, int> theirs = Values("kamotel_kind");
        foreach ((string name, int value) in theirs.Where(static pair => pair.Key != "KAMOTEL_KINDS"))
        {
            string text = name["KAMOTEL_".Length..];
            KernelSide.KindNames[value].ShouldBe(text.ToLowerInvariant(), name);
            Constant(Pascal(text.ToLowerInvariant())).ShouldBe(value, name);
            if (name is not ("KAMOTEL_WATCH" or "KAMOTEL_STACK"))
            {
                string kind = name switch
                {
                    "KAMOTEL_ENTER" => nameof(ObservationKind.Entered),
                    "KAMOTEL_COMPLAINT" => nameof(ObservationKind.Complained),
                    _ => Pascal(text.ToLowerInvariant()),
                };
                ((int)Enum.Parse<ObservationKind>(kind)).ShouldBe(value, name);
            }
        }
        Constant(nameof(Events.Kinds)).ShouldBe(theirs["KAMOTEL_KINDS"]);
        foreach ((string name, int value) in Values("kamotel_flags"))
        {
            Constant("Flag" + Pascal(name["KAMOTEL_".Length..].ToLowerInvariant())).ShouldBe(value, name);
        }
    }

    public void Dispose() => _scratch.Dispose();

    private static int Constant(string name) =>
        Convert.ToInt32(typeof(Events).GetField(name, BindingFlags.Static | BindingFlags.NonPublic).ShouldNotBeNull(name).GetRawConstantValue(), CultureInfo.InvariantCulture);

    private static string Pascal(string name) =>
        string.Concat(name.Split('_').Select(static part => char.ToUpperInvariant(part[0]) + part[1..]));

    private Dictionary<string, int> Values(string name) =>
        Named("ENUM", name).GetProperty("values").EnumerateArray().ToDictionary(static v => v.GetProperty("name").GetString()!, static v => v.GetProperty("val").GetInt32());

    private JsonElement Named(string kind, string name) =>
        _types.Values.Single(t => t.GetProperty("kind").GetString() == kind && t.GetProperty("name").GetString() == name);

    private int SizeOf(int id)
    {
        JsonElement type = _types[id];
        return type.GetProperty("kind").GetString() switch
        {
            "TYPEDEF" or "CONST" or "VOLATILE" => SizeOf(type.GetProperty("type_id").GetInt32()),
            "ARRAY" => type.GetProperty("nr_elems").GetInt32() * SizeOf(type.GetProperty("type_id").GetInt32()),
            "PTR" => 8,
            _ => type.GetProperty("size").GetInt32(),
        };
    }
}
