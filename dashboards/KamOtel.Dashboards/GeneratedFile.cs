namespace KamOtel.Dashboards;

/// <summary>A file that is made from this source and committed.</summary>
/// <param name="Path">Its path in the repository.</param>
/// <param name="Text">All of it, with a line feed at its end.</param>
internal sealed record GeneratedFile(string Path, string Text);
