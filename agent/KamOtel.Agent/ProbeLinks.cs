using System.Runtime.InteropServices;

namespace KamOtel.Agent;

/// <summary>Attachments of probes.</summary>
internal static class ProbeLinks
{
    /// <summary>Side by side: from Linux 6.6 on all of them take as long as one.</summary>
    public static void Detach(SafeHandle[] links)
    {
        const int AtOnce = 32;
        int next = -1;
        Thread[] threads = [.. Enumerable.Range(0, Math.Min(AtOnce, links.Length)).Select(_ => new Thread(() =>
        {
            for (int i; (i = Interlocked.Increment(ref next)) < links.Length;)
            {
                links[i].Dispose();
            }
        }))];
        foreach (Thread thread in threads)
        {
            thread.Start();
        }
        foreach (Thread thread in threads)
        {
            thread.Join();
        }
    }
}
