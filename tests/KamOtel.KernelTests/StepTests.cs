using System.Runtime.InteropServices;
using KamOtel.Bpf;
using KamOtel.Diagnosis;
using KamOtel.Linux;
using Microsoft.Win32.SafeHandles;

namespace KamOtel.KernelTests;

/// <summary>Entries into functions of a watched program are told, with the address that tells which.</summary>
public sealed class StepTests
{
    private const string SetLocal = "CRYPTO_THREAD_set_local";

    /// <summary>The links to uprobes that Linux 6.6 brought, and the attachments of before.</summary>
    public static TheoryData<bool> Kinds => Machine.HasUprobeLinks ? [true, false] : [false];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void An_entry_in_the_main_thread_is_told_with_the_address_of_the_function(bool uprobeMulti)
    {
        using var session = new Session(uprobeMulti: uprobeMulti);
        ulong offset = OffsetIn(session.Library, SetLocal);
        using SafeHandle link = session.Kernel.AttachEnter(session.Library, offset);
        (link is SafeFileHandle).ShouldBe(uprobeMulti, "what kind of link it is");
        IReadOnlyList<Deed> deeds = session.Run("before_fork");

        Observation[] entered = [.. session.Seen.Where(static o => o.Kind == ObservationKind.Entered)];
        entered.Length.ShouldBe(deeds.Count(static d => d is { What: "set" } && d.Process == d.Tid));
        entered.ShouldNotBeEmpty();
        entered.ShouldAllBe(o => o.MainThread && o.Address % 4096 == offset % 4096);
        session.Kernel.Received((int)ObservationKind.Entered).ShouldBe(entered.Length);
        // Beside the call itself, in the same process.
        entered.Select(static o => o.Process).Distinct().ShouldBe(session.Calls.Where(static o => o.Kind == ObservationKind.SetLocal).Select(static o => o.Process).Distinct());
    }

    [Fact]
    public void What_is_taken_away_tells_no_more()
    {
        using var session = new Session();
        session.Kernel.AttachEnter(session.Library, OffsetIn(session.Library, SetLocal)).Dispose();
        _ = session.Run("before_fork");
        session.Seen.ShouldNotContain(static o => o.Kind == ObservationKind.Entered);
    }

    [Fact]
    public void Other_threads_have_no_steps()
    {
        using var session = new Session();
        using SafeHandle link = session.Kernel.AttachEnter(session.Library, OffsetIn(session.Library, SetLocal));
        _ = session.Run("other_thread");
        session.Calls.ShouldContain(static o => o.Kind == ObservationKind.SetLocal);
        session.Seen.ShouldNotContain(static o => o.Kind == ObservationKind.Entered);
    }

    [Fact]
    public void A_function_of_the_program_itself_is_one_as_well()
    {
        using var session = new Session();
        string program = Path.Combine(Machine.Targets, "target");
        ulong offset = OffsetIn(program, "main");
        using Target target = session.Start("wait"); // The program is a copy, made now.
        session.CollectUntil(() => target.Deeds.Any(static d => d.What == "waiting"), "the target to wait");
        using SafeHandle link = session.Kernel.AttachEnter($"/proc/{target.Pid}/exe", offset);
        target.Go();
        _ = target.Finish();
        session.Seen.ShouldNotContain(static o => o.Kind == ObservationKind.Entered); // Its main was entered before.
        _ = session.Run("short");
        Observation entered = session.Seen.Where(static o => o.Kind == ObservationKind.Entered).ShouldHaveSingleItem();
        (entered.Address % 4096).ShouldBe(offset % 4096);
    }

    private static ulong OffsetIn(string path, string function)
    {
        using SafeFileHandle file = File.OpenHandle(path);
        return ElfFile.Open(file).Value.FindFunctions([function]).Value.Found.First().FileOffset;
    }
}
