using System.Diagnostics;
using System.Globalization;
using System.Text;
using CsCheck;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.Tests.Linux;

public sealed class ComplaintSitesTests(ITestOutputHelper output) : IDisposable
{
    private const string Kamailio = "/usr/sbin/kamailio";
    private const string Modules = "/usr/lib/x86_64-linux-gnu/kamailio/modules";
    private readonly Scratch _scratch = new();

    public void Dispose() => _scratch.Dispose();

    [Fact]
    public void Measure()
    {
        foreach (string path in Directory.GetFiles(Modules, "*.so").Concat(Enumerable.Repeat(Kamailio, 30)))
        {
            long start = Stopwatch.GetTimestamp();
            ComplaintSites sites = Find(path);
            double ms = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
            output.WriteLine($"{Path.GetFileName(path),-25} {ms:0.0} ms sites {sites.Sites.Length} lost {sites.Lost} pages {sites.Sites.Select(static s => s.FileOffset >> 12).Distinct().Count()} damage {sites.Sites.Count(static s => s.Messages.Any(static m => m.Format.Kind != ComplaintKind.OutOfSharedMemory))} pages {sites.Sites.Where(static s => s.Messages.Any(static m => m.Format.Kind != ComplaintKind.OutOfSharedMemory)).Select(static s => s.FileOffset >> 12).Distinct().Count()} shared {sites.Sites.Count(static s => s.Messages.Length > 1)}");
        }
        foreach (ComplaintSite site in Find(Kamailio).Sites)
        {
            output.WriteLine($"{site.Address:x} {string.Join(" | ", site.Messages)}");
        }
    }

    private static ComplaintSites Find(string path)
    {
        Tools.Require(File.Exists(path), path);
        using SafeFileHandle file = File.OpenHandle(path);
        return ComplaintSites.Find(file).Value;
    }
}
