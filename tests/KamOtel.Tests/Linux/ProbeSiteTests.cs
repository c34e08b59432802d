using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>The site of a probe: one trap where that is certain, else the entry.</summary>
public sealed class ProbeSiteTests
{
    /// <summary>As the assembler writes them; what comes after the site is there because a compiler leaves it there.</summary>
    [Theory]
    // set_local(key*, value)
    [InlineData(2, true, "48 83 ec 08  8b 3f  e8 00 00 00 00  48 83 c4 08  c3", 6u, true, SiteKind.Call)] // Debian 12, OpenSSL 3.0
    [InlineData(2, true, "f3 0f 1e fa  48 83 ec 08  8b 3f  e8 00 00 00 00  48 83 c4 08  c3", 10u, true, SiteKind.Call)] // -fcf-protection
    [InlineData(2, true, "55  8b 3f  48 89 e5  e8 00 00 00 00  5d  c3", 0u, false, SiteKind.Push)] // a frame pointer
    [InlineData(2, true, "f3 0f 1e fa  55  48 89 e5  c3", 4u, false, SiteKind.Push)] // -O0 -fcf-protection
    [InlineData(2, true, "f3 0f 1e fa  41 54  41 5c  c3", 4u, false, SiteKind.Push)] // push %r12
    [InlineData(2, true, "48 89 f8  48 85 ff  74 01  c3  c3", 6u, false, SiteKind.Jump)] // a branch: it is passed whichever way it goes
    [InlineData(2, true, "48 85 ff  0f 84 01 00 00 00  c3  c3", 3u, false, SiteKind.Jump)]
    [InlineData(2, true, "90  c3", 0u, false, SiteKind.Nop)]
    [InlineData(2, true, "0f 1f 44 00 00  48 83 ec 08  8b 3f  e8 00 00 00 00  c3", 11u, true, SiteKind.Call)] // room for ftrace: a long nop is not emulated everywhere
    [InlineData(2, true, "66 90  90  c3", 2u, false, SiteKind.Nop)]
    // get_local(key*), cleanup_local(key*), init_local(key*, cleanup), clean_local()
    [InlineData(1, true, "8b 3f  e9 00 00 00 00", 2u, true, SiteKind.Jump)]
    [InlineData(1, true, "31 f6  8b 3f  eb 00  c3", 4u, true, SiteKind.Jump)] // the second argument is nobody's
    [InlineData(2, false, "48 83 ec 08  e8 00 00 00 00  c3", 4u, false, SiteKind.Call)]
    [InlineData(0, false, "31 ff  31 f6  e9 00 00 00 00", 4u, false, SiteKind.Jump)]
    // Doubt
    [InlineData(2, false, "48 83 ec 08  8b 3f  e8 00 00 00 00  c3", 0u, false, SiteKind.ArgumentMoved)] // the pointer is wanted
    [InlineData(2, true, "48 89 fb  48 89 f7  e8 00 00 00 00  c3", 0u, false, SiteKind.ArgumentMoved)]
    [InlineData(2, true, "31 f6  8b 3f  eb 00  c3", 0u, false, SiteKind.ArgumentMoved)]
    [InlineData(2, true, "8b 3f  8b 3f  e9 00 00 00 00", 0u, false, SiteKind.ArgumentMoved)] // loaded twice: what is it now?
    [InlineData(2, true, "8b 7f 04  e9 00 00 00 00", 0u, false, SiteKind.ArgumentMoved)] // another field
    [InlineData(2, true, "48 8b 3f  e9 00 00 00 00", 0u, false, SiteKind.ArgumentMoved)] // 64 bits
    [InlineData(2, true, "40 b7 01  90  c3", 0u, false, SiteKind.ArgumentMoved)] // mov $1,%dil
    [InlineData(3, false, "31 d2  90  c3", 0u, false, SiteKind.ArgumentMoved)]
    [InlineData(1, true, "c7 07 00 00 00 00  75 01  c3  c3", 0u, false, SiteKind.ArgumentMoved)] // movl $0,(%rdi): the key is another
    [InlineData(1, true, "c7 07 00 00 00 00  8b 3f  75 01  c3  c3", 0u, false, SiteKind.ArgumentMoved)]
    [InlineData(1, true, "8b 3f  c7 00 00 00 00 00  75 01  c3  c3", 8u, true, SiteKind.Jump)] // it was loaded before
    [InlineData(1, true, "48 89 44 24 08  75 01  c3  c3", 5u, false, SiteKind.Jump)] // the canary, in the function's own frame
    [InlineData(2, false, "c7 07 00 00 00 00  75 01  c3  c3", 6u, false, SiteKind.Jump)] // the address is wanted, not what is there
    [InlineData(2, true, "c3", 0u, false, SiteKind.NoneEmulated)]
    [InlineData(2, true, "ff 25 00 00 00 00", 0u, false, SiteKind.NoneEmulated)] // jmp *got
    [InlineData(2, true, "ff 15 00 00 00 00  90  c3", 0u, false, SiteKind.NoneEmulated)] // call *mcount@got
    [InlineData(2, true, "f2 e8 00 00 00 00  c3", 0u, false, SiteKind.NoneEmulated)] // bnd call
    [InlineData(2, true, "48 83 ec 08  90  ff c8  75 fb  c3", 0u, false, SiteKind.Repeated)]
    [InlineData(2, true, "48 83 ec 08  90  e8 f6 ff ff ff  c3", 4u, false, SiteKind.Nop)] // calls itself from the start: a call as any other
    [InlineData(2, true, "48 83 ec 08  90  ff e0", 0u, false, SiteKind.Unclear)] // jmp *%rax
    [InlineData(2, true, "48 83 ec 08  90  06", 0u, false, SiteKind.Unclear)]
    [InlineData(2, true, "48 83 ec 08", 0u, false, SiteKind.Unclear)]
    [InlineData(2, true, "e8 00", 0u, false, SiteKind.Unclear)]
    [InlineData(2, true, "", 0u, false, SiteKind.Unclear)]
    public void The_first_instruction_that_is_emulated_is_taken_where_that_is_certain(int arguments, bool keyByPointer, string code, uint offset, bool keyLoaded, SiteKind kind) =>
        ProbeSite.Choose(Convert.FromHexString(code.Replace(" ", "", StringComparison.Ordinal)), arguments, keyByPointer, callsAreSafe: true)
            .ShouldBe(new ProbeSite(offset, keyLoaded, kind));

    [Theory]
    [InlineData("48 83 ec 08  8b 3f  e8 00 00 00 00  c3", SiteKind.ShadowStack)]
    [InlineData("8b 3f  e9 00 00 00 00", SiteKind.Jump)]
    public void A_call_is_not_taken_where_the_kernel_would_break_it(string code, SiteKind kind) =>
        ProbeSite.Choose(Convert.FromHexString(code.Replace(" ", "", StringComparison.Ordinal)), 2, keyByPointer: true, callsAreSafe: false).Kind.ShouldBe(kind);

    [Theory]
    [InlineData("6.18", "flags\t\t: fpu user_shstk", true)]
    [InlineData("6.17.9", "flags\t\t: fpu user_shstk avx", false)]
    [InlineData("6.17.9", "flags\t\t: fpu avx\nflags\t\t: fpu user_shstk", false)]
    [InlineData("6.17.9", "flags\t\t: fpu user_shstk_not avx", true)]
    [InlineData("6.6", "", false)]
    [InlineData("6.5.13", "flags\t\t: fpu user_shstk", true)]
    public void Calls_are_emulated_right_unless_the_kernel_forgets_the_shadow_stack(string kernel, string processors, bool safe) =>
        EmulatedCalls.AreSafe(Version.Parse(kernel), processors).ShouldBe(safe);
}
