using System.Text;
using CsCheck;
using KamOtel.Diagnosis;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

public sealed class ComplaintFormatTests
{
    [Theory]
    [InlineData("BUG: freeing already freed pointer (%p), called from %s: %s(%d), first free %s: %s(%ld) - aborting\n", 0, 1, 2, null)]
    [InlineData("%2d(%d) %s: %.*s%s%s%sBUG: freeing already freed pointer (%p), called from %s: %s(%d), first free %s: %s(%ld)", 8, 9, 10, null)]
    [InlineData("%s: %.*s%s%s%sBUG: freeing already freed pointer (%p), called from %s: %s(%d)", 6, 7, 8, null)]
    [InlineData("BUG: qm: fragm. %p (address %p) beginning overwritten (%lx)! Memory allocator was called from %s:%u. Fragment marked by %s:%lu. Exec from %s:%u.\n", 1, 3, null, 4)]
    [InlineData("BUG: qm: prev. fragm. tail overwritten(%lx, %lx)[%p:%p]! Memory allocator was called from %s:%u. Fragment", 3, 4, null, 5)]
    [InlineData("BUG: bad pointer %p (out of memory block (%p)!), called from %s: %s(%d) - ignoring\n", 0, 2, 3, null)]
    [InlineData("BUG: bad pointer %p (out of memory block!) - aborting\n", 0, null, null, null)]
    [InlineData("BUG: trying to realloc an already freed pointer %p , fragment %p -- aborting\n", 0, null, null, null)]
    [InlineData("100%% of %5.*lf bad pointer %p (out of memory block", 2, null, null, null)]
    [InlineData("no more shared memory to allocate %d\n", null, null, null, null)]
    [InlineData("bad pointer %p (out of memory block!) called from %s:", 0, 1, null, null)]
    [InlineData("bad pointer %p (out of memory block!) called from %s: %", 0, 1, null, null)]
    [InlineData("bad pointer %p (out of memory block!) called from %s: and then %s", 0, 1, null, null)]
    public void The_conversions_tell_which_argument_is_what(string format, int? pointer, int? file, int? function, int? line)
    {
        ComplaintText text = ComplaintTexts.All.Single(t => format.Contains(t.Text, StringComparison.Ordinal));
        ComplaintFormat read = ComplaintFormat.Read(Encoding.ASCII.GetBytes(format), text);
        (read.Pointer, read.File, read.Function, read.Line).ShouldBe((pointer, file, function, line));
        read.Kind.ShouldBe(text.Kind);
    }

    [Fact]
    public void No_format_is_too_strange() => Gen.Char["%*.sdpl0 :(a"].Array[0, 60].Sample(static characters =>
    {
        string format = new(characters);
        foreach (int pointer in new[] { 0, 1, 2 })
        {
            ComplaintFormat read = ComplaintFormat.Read(Encoding.ASCII.GetBytes("called from %s:" + format), new ComplaintText(ComplaintKind.BadPointer, "x", pointer));
            read.File.ShouldBe(0);
        }
    });
}
