using KamOtel.Dashboards;

// KamOtel.Dashboards [REPOSITORY]: writes every generated file anew. A test compares them with what is committed.
string repository = args.Length > 0 ? args[0] : ".";
foreach (GeneratedFile file in Generated.Files)
{
    string path = Path.Combine(repository, file.Path);
    _ = Directory.CreateDirectory(Path.GetDirectoryName(path)!);
    if (!File.Exists(path) || File.ReadAllText(path) != file.Text)
    {
        File.WriteAllText(path, file.Text);
        Console.WriteLine($"wrote {file.Path}");
    }
}
