using System.Diagnostics;

namespace KamOtel.EndToEndTests;

/// <summary>Waiting: always a poll, always with a deadline, always saying for what.</summary>
internal static class Until
{
    /// <summary>Long enough for a busy machine; a test that passes never waits so long.</summary>
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <summary>Polls until <paramref name="probe"/> gives something, and returns it.</summary>
    /// <param name="what">What is waited for: it ends the sentence "waited in vain for …".</param>
    /// <param name="probe">Null means: not yet.</param>
    /// <param name="patience"><see cref="Patience"/> unless given.</param>
    /// <param name="state">What to tell about the state of affairs when it fails.</param>
    public static async Task<T> Found<T>(
        string what, Func<Task<T?>> probe, TimeSpan? patience = null, Func<string>? state = null)
        where T : class
    {
        TimeSpan limit = patience ?? Patience;
        var watch = Stopwatch.StartNew();
        while (true)
        {
            TestContext.Current.CancellationToken.ThrowIfCancellationRequested();
            if (await probe() is { } found)
            {
                return found;
            }
            if (watch.Elapsed > limit)
            {
                Assert.Fail($"Waited {limit.TotalSeconds:0} s in vain for {what}.\n{state?.Invoke()}");
            }
            await Task.Delay(50, TestContext.Current.CancellationToken);
        }
    }

    /// <summary>Polls until <paramref name="probe"/> gives something, and returns it.</summary>
    public static Task<T> Found<T>(string what, Func<T?> probe, TimeSpan? patience = null, Func<string>? state = null)
        where T : class =>
        Found(what, () => Task.FromResult(probe()), patience, state);

    /// <summary>Polls until it is so.</summary>
    public static Task True(string what, Func<bool> probe, TimeSpan? patience = null, Func<string>? state = null) =>
        Found(what, () => probe() ? "" : null, patience, state);

    /// <summary>Polls until it is so.</summary>
    public static Task True(
        string what, Func<Task<bool>> probe, TimeSpan? patience = null, Func<string>? state = null) =>
        Found(what, async () => await probe() ? "" : null, patience, state);
}
