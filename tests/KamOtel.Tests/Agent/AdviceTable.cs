using KamOtel.Agent;
using KamOtel.Diagnosis;

namespace KamOtel.Tests.Agent;

/// <summary>The file of knowledge as rows of tables in the documentation.</summary>
internal static class AdviceTable
{
    /// <summary>All entries: name, condition, text, source.</summary>
    public static IEnumerable<string> All(string folder) => AdviceFile.Load().Advice.Select(entry =>
        $"| `{entry.Id}` | {string.Join(", ", entry.When.Verdict.Select(static v => $"`{Words.Of(v)}`"))} | {Condition(entry.When)} | {Text(entry)} | {Link(entry.Source, folder)} |");

    /// <summary>Those of a verdict, for its runbook: condition, text, source.</summary>
    public static IEnumerable<string> Of(Func<AdviceEntry, bool> which, string folder) => AdviceFile.Load().Advice.Where(which).Select(entry =>
        $"| {Condition(entry.When)} | {Text(entry)} | {Link(entry.Source, folder)} |");

    private static string Condition(AdviceCondition when)
    {
        string?[] parts =
        [
            when.Runs ? "that runs" : null,
            Range("Kamailio", when.Kamailio),
            Range("OpenSSL", when.OpenSsl),
            OneOf("`tls_threads_mode` ", when.TlsThreadsMode.Select(static m => m is { } mode ? $"{mode}" : "absent")),
            OneOf("TLS by ", when.TlsBackEnd.Select(static b => b is null ? "no module" : $"`{b}`")),
            OneOf("with ", when.Modules.Select(static m => $"`{m}`")),
            OneOf("slot ", when.Slots.Select(static s => $"`{s}`")),
            OneOf("set by ", when.Authors.Select(static a => a is null ? "nobody that was seen" : $"`{a}`")),
            OneOf("asked by ", when.AskedBy.Select(static a => a == AdviceCondition.Any ? "a module that was seen" : $"`{a}`")),
            OneOf("", when.Phase.Select(Words.Of).Select(static p => p.Replace('_', ' '))),
            OneOf("gap ", when.Gaps.Select(static g => $"`{Words.Of(g)}`")),
            OneOf("inspection ", when.Inspection.Select(static i => $"`{Words.Of(i)}`")),
        ];
        string[] said = [.. parts.OfType<string>()];
        return said.Length == 0 ? "always" : string.Join("; ", said);
    }

    private static string? Range(string what, VersionRange? range) => range switch
    {
        null => null,
        { From: { } from, Before: { } before } => $"{what} from {from} and before {before}",
        { From: { } from } => $"{what} from {from}",
        _ => $"{what} before {range.Before}",
    };

    private static string? OneOf(string before, IEnumerable<string> values) =>
        values.ToArray() is { Length: > 0 } some ? before + string.Join(" or ", some) : null;

    /// <summary>What is filled in is set in italics.</summary>
    private static string Text(AdviceEntry entry) => entry.Text.Replace("{", "*", StringComparison.Ordinal).Replace("}", "*", StringComparison.Ordinal);

    private static string Link(string source, string folder) =>
        source.StartsWith("docs/", StringComparison.Ordinal)
            ? $"[{Path.GetFileNameWithoutExtension(source.Split('#')[0])}]({Path.GetRelativePath(folder, source.Split('#')[0])}{(source.Contains('#', StringComparison.Ordinal) ? "#" + source.Split('#')[1] : "")})"
            : source.Contains("github.com", StringComparison.Ordinal) ? $"[#{source.Split('/')[^1]}]({source})" : $"[{new Uri(source).Host}]({source})";
}
