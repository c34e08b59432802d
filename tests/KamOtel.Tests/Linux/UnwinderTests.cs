using System.Diagnostics;
using System.Runtime.InteropServices;
using KamOtel.Linux;

namespace KamOtel.Tests.Linux;

/// <summary>Frames are right or not there.</summary>
public sealed class UnwinderTests : IDisposable
{
    private static readonly string[] s_hidden = ["-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-Wl,--no-eh-frame-hdr", "-fno-omit-frame-pointer"];
    private readonly Scratch _scratch = new();
    private readonly Unwinder _unwinder = new(new() { Deadline = TimeSpan.FromSeconds(20) });

    public void Dispose()
    {
        _unwinder.Dispose();
        _scratch.Dispose();
    }

    [Fact]
    public void A_chain_through_stripped_libraries_without_frame_pointers_comes_back_whole()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        string second = UnwindTarget.CompileLibrary(_scratch, "second", "-Wl,-z,now,-z,ibtplt");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first", $"{second}:second");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
        target.ShouldHaveTrueFrames(stack);
        string?[] functions = [.. stack.Frames.Select(static frame => frame.Function)];
        functions.Count(static name => name == "first_call").ShouldBe(1);
        functions.Count(static name => name == "second_call").ShouldBe(1);
        functions.ShouldContain("main");
        functions[^1].ShouldBe("_start");

        // The hidden functions have no symbol: they are not taken for the one that stands before them.
        UnwoundFrame[] ofFirst = [.. stack.Frames.Where(frame => frame.Mapping!.File.Path == first)];
        ofFirst.Length.ShouldBe(2);
        ofFirst[0].Function.ShouldBeNull();
        ofFirst[1].Function.ShouldBe("first_call");
        ofFirst[1].Offset.ShouldBeInRange(1u, 200u);
    }

    [Fact]
    public void The_file_address_is_what_the_file_counts()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        using Microsoft.Win32.SafeHandles.SafeFileHandle file = RegularFile.Open(first).Value;
        ElfFunction function = ElfFile.Open(file).Value.FindFunctions(["first_call"]).Value.Found.Single();
        UnwoundFrame frame = stack.Frames.Single(static frame => frame.Function == "first_call");
        frame.FileAddress.ShouldBe(function.Address + frame.Offset);
    }

    [Fact]
    public void A_stack_deeper_than_its_copy_is_truncated_and_right_as_far_as_it_goes()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "deep=200");
        AddressSpace code = target.Code();

        for (int size = 0; size < 4096; size += 72)
        {
            UnwoundStack stack = _unwinder.Unwind(code, target.Copy(size));

            stack.End.ShouldBe(UnwindEnd.Truncated);
            target.ShouldHaveTrueFrames(stack, stack.Frames.Length);
        }
    }

    [Fact]
    public void A_hole_ends_the_stack_where_it_is_needed()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "deep=200");
        AddressSpace code = target.Code();
        int whole = _unwinder.Unwind(code, target.Copy()).Frames.Length;

        int last = 0;
        for (int hole = 0; hole < 4; hole++)
        {
            UnwoundStack stack = _unwinder.Unwind(code, target.Copy(holes: hole));

            stack.End.ShouldBe(UnwindEnd.Truncated);
            stack.Frames.Length.ShouldBeInRange(last + 1, whole - 1);
            target.ShouldHaveTrueFrames(stack, Math.Min(stack.Frames.Length, target.Truth.Length));
            last = stack.Frames.Length;
        }
    }

    [Fact]
    public void More_frames_than_are_told_are_cut()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "deep=900");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy(128 * 1024));

        stack.End.ShouldBe(UnwindEnd.TooDeep);
        stack.Frames.Length.ShouldBe(256);
        target.ShouldHaveTrueFrames(stack, 256);
    }

    [Fact]
    public void Two_windows_reach_over_a_frame_that_neither_holds()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first", "big=300000", $"{first}:first");
        AddressSpace code = target.Code();

        UnwoundStack one = _unwinder.Unwind(code, target.Copy());
        one.End.ShouldBe(UnwindEnd.Truncated);
        target.ShouldHaveTrueFrames(one, one.Frames.Length);

        UnwoundStack two = _unwinder.Unwind(code, target.CopyEnds(16 * 1024, 32 * 1024));
        two.End.ShouldBe(UnwindEnd.Complete, two.Detail);
        target.ShouldHaveTrueFrames(two);
    }

    [Fact]
    public void Code_without_unwind_information_is_the_last_that_is_told()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        string mute = UnwindTarget.CompileLibrary(_scratch, "mute", s_hidden);
        Tools.Run("objcopy", "--remove-section=.eh_frame", mute);
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first", $"{mute}:mute", $"{first}:first");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        stack.End.ShouldBe(UnwindEnd.NoUnwindInfo);
        stack.Detail.ShouldContain("libmute.so");
        target.ShouldHaveTrueFrames(stack, stack.Frames.Length);
        stack.Frames[^1].Mapping!.File.Path.ShouldBe(mute);
        stack.Frames.Count(frame => frame.Mapping!.File.Path == mute).ShouldBe(1);
        stack.Frames.ShouldContain(static frame => frame.Function == "first_call");
    }

    [Fact]
    public void Generated_code_is_unknown_and_the_last()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "jit");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        stack.End.ShouldBe(UnwindEnd.UnknownCode);
        stack.Frames.Length.ShouldBe(3);
        stack.Frames[^1].Mapping.ShouldBeNull();
        target.ShouldHaveTrueFrames(stack, 3);
    }

    [Fact]
    public void A_thread_ends_where_it_started()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "thread", $"{first}:first");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
        target.ShouldHaveTrueFrames(stack);
        stack.Frames.ShouldNotContain(static frame => frame.Function == "main");
        (stack.Frames.Length - target.Truth.Length).ShouldBeInRange(2, 3);
    }

    [Fact]
    public void A_signal_handler_leads_back_to_what_it_interrupted()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "signal");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
        target.ShouldHaveTrueFrames(stack);
        stack.Frames.Select(static frame => frame.Function).ShouldContain("raise");
        stack.Frames.Select(static frame => frame.Function).ShouldContain("main");
    }

    [Theory]
    [InlineData("gcc", "-static-pie")]
    [InlineData("gcc", "-static")]
    [InlineData("gcc", "-no-pie")]
    [InlineData("gcc", "-Wl,-z,noseparate-code")]
    [InlineData("gcc", "-Wl,-z,separate-code")]
    public void Programs_of_every_kind_come_back_whole(string compiler, string option)
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch, compiler, option), "deep=3");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
        target.ShouldHaveTrueFrames(stack);
        stack.Frames[^1].Function.ShouldBeOneOf("_start", null);
    }

    [Theory]
    [InlineData("-static")]
    [InlineData("-pie")]
    public void With_musl_the_program_comes_back_up_to_the_start_that_nobody_describes(string option)
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch, "musl-gcc", option), "deep=3");

        UnwoundStack stack = _unwinder.Unwind(target.Code(), target.Copy());

        target.ShouldHaveTrueFrames(stack);
        stack.End.ShouldBeOneOf(UnwindEnd.NoUnwindInfo, UnwindEnd.Complete);
        stack.Detail.ShouldNotBeEmpty();
    }

    [Fact]
    public void A_copy_is_unwound_by_the_code_of_its_time()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        string other = UnwindTarget.CompileLibrary(_scratch, "other", "-DPAD", "-O0");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first", "unload", $"{other}:other");
        AddressSpace before = target.Code();
        StackCopy copy = target.Copy();
        ulong[] registers = target.Registers;
        ulong[] truth = target.Truth;
        CodeMapping old = before.Mappings.Single(mapping => mapping.File.Path == first);

        target.GoOn();
        AddressSpace after = target.Code();
        after.Mappings.ShouldNotContain(mapping => mapping.File.Path == first);
        after.Mappings.Single(mapping => mapping.File.Path == other).Start.ShouldBe(old.Start);
        UnwoundStack later = _unwinder.Unwind(after, target.Copy());
        UnwoundStack stack = _unwinder.Unwind(before, copy);

        later.End.ShouldBe(UnwindEnd.Complete, later.Detail);
        target.ShouldHaveTrueFrames(later);
        later.Frames.ShouldContain(static frame => frame.Function == "other_call");
        stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
        stack.Frames.Select(static frame => frame.Address).Take(1 + truth.Length).ShouldBe([registers[^1], .. truth]);
        stack.Frames.ShouldContain(static frame => frame.Function == "first_call");
    }

    [Fact]
    public void A_deleted_and_a_replaced_file_are_read_by_their_descriptor()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        string second = UnwindTarget.CompileLibrary(_scratch, "second");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first", $"{second}:second");
        AddressSpace code = target.Code();

        File.Delete(first);
        File.Delete(second);
        Tools.CompileLibrary(second);
        UnwoundStack stack = _unwinder.Unwind(code, target.Copy());

        stack.End.ShouldBe(UnwindEnd.Complete, stack.Detail);
        target.ShouldHaveTrueFrames(stack);
        stack.Frames.ShouldContain(static frame => frame.Function == "second_call");

        // As long as the agent may ask the kernel for the very file.
        if (Environment.IsPrivilegedProcess)
        {
            AddressSpace deleted = target.Code();
            deleted.Mappings.Count(static mapping => mapping.File.Deleted).ShouldBe(2);
            UnwoundStack again = _unwinder.Unwind(deleted, target.Copy());
            again.End.ShouldBe(UnwindEnd.Complete, again.Detail);
            again.Frames.Select(static frame => frame.Address).ShouldBe(stack.Frames.Select(static frame => frame.Address));
        }
    }

    [Fact]
    public void A_file_that_is_none_is_named()
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first");
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), $"{first}:first");
        AddressSpace code = target.Code();
        using Microsoft.Win32.SafeHandles.SafeFileHandle text = RegularFile.Open(_scratch.Write("text\u001b[31m", new string('x', 9000))).Value;
        using var wrong = new CodeFile(text, _scratch["text\u001b[31m"], FileKey.Of(text).Value, deleted: false);
        AddressSpace spoiled = AddressSpace.Create(code.Mappings.Select(mapping => mapping.File.Path == first ? mapping with { File = wrong } : mapping));

        UnwoundStack stack = _unwinder.Unwind(spoiled, target.Copy());

        stack.End.ShouldBe(UnwindEnd.BadFile);
        stack.Detail.ShouldContain("text?[31m: the file is no x86-64 ELF program or library");
        target.ShouldHaveTrueFrames(stack, stack.Frames.Length);
        stack.Frames[^1].Mapping!.File.ShouldBe(wrong);
    }

    [Fact]
    public void Registers_of_no_sense_harm_nobody()
    {
        using UnwindTarget target = UnwindTarget.Start(UnwindTarget.Compile(_scratch), "deep=3");
        AddressSpace code = target.Code();

        _unwinder.Unwind(code, new([.. new ulong[17]], [])).End.ShouldBe(UnwindEnd.UnknownCode);
        _unwinder.Unwind(code, new([.. Enumerable.Repeat(ulong.MaxValue, 17)], [])).End.ShouldBe(UnwindEnd.UnknownCode);
        ulong[] lost = [.. target.Registers];
        lost[7] = ulong.MaxValue - 3;
        _unwinder.Unwind(code, new([.. lost], [new(ulong.MaxValue - 100, new byte[4096], default)])).End.ShouldNotBe(UnwindEnd.Complete);
        _unwinder.Restarts.ShouldBe(0);
    }

    [Fact]
    public void Mappings_that_overlap_are_not_believed()
    {
        using Microsoft.Win32.SafeHandles.SafeFileHandle handle = RegularFile.Open(_scratch.Write("file", "x")).Value;
        using var file = new CodeFile(handle, "file", default, deleted: false);

        AddressSpace space = AddressSpace.Create(
        [
            new(0x9000, 0xa000, 0, file), new(0x1000, 0x3000, 0, file), new(0x2000, 0x4000, 0, file), new(0x3000, 0x5000, 0, file),
            new(0x5000, 0x6000, 0, file), new(0x7000, 0x7000, 0, file),
        ]);

        space.Mappings.Select(static mapping => mapping.Start).ShouldBe([0x5000ul, 0x9000ul]);
    }

    [Theory]
    [InlineData("-Wl,-z,lazy")]
    [InlineData("-Wl,-z,now")]
    [InlineData("-Wl,-z,lazy,-z,ibtplt")]
    [InlineData("-fno-plt")]
    public void After_every_single_instruction_the_frames_are_right(string option)
    {
        string first = UnwindTarget.CompileLibrary(_scratch, "first", option);
        string second = UnwindTarget.CompileLibrary(_scratch, "second", option, "-O1", "-fno-omit-frame-pointer");
        string program = UnwindTarget.Compile(_scratch, options: option);

        StepThrough(4000, program, "step", $"{first}:first", $"{second}:second").ShouldBeGreaterThan(2000);
    }

    [Fact]
    public void In_libcrypto_the_frames_are_right_after_every_single_instruction()
    {
        Tools.Require(File.Exists("/usr/bin/openssl"), "openssl");
        string preload = _scratch["libstep.so"];
        Tools.Run("gcc", "-O2", "-fPIC", "-shared", "-o", preload, $"{Tools.Targets}/step_random.c", "-ldl");

        StepThrough(20_000, "/usr/bin/env", $"LD_PRELOAD={preload}", "/usr/bin/openssl", "rand", "-out", "/dev/null", "16").ShouldBeGreaterThan(10_000);
    }

    /// <summary>Holds every stack against the calls and returns that were counted on the way. Returns how many.</summary>
    private int StepThrough(int most, params string[] program)
    {
        const int Window = 16 * 1024;
        using Process process = Tools.Start(UnwindTarget.CompileStepper(_scratch), [$"{Window}", $"{most}", .. program]);
        using var output = new BinaryReader(process.StandardOutput.BaseStream);
        int pid = (int)output.ReadUInt64();
        ulong kind = output.ReadUInt64();
        kind.ShouldBe(0u, "the target ended before it stopped itself");
        (ulong[] registers, byte[] stack) = ReadStep(output);
        AddressSpace code = UnwindTarget.CodeOf(pid);

        // What nobody tells is only how it got to the first stop; from there on calls and returns are counted.
        UnwoundStack start = Unwind();
        start.End.ShouldBe(UnwindEnd.Complete, start.Detail);
        var callers = new Stack<ulong>(start.Frames.Skip(1).Select(static frame => frame.Address).Reverse());
        int steps = 0;
        var shortened = new List<string>();
        while ((kind = output.ReadUInt64()) != ulong.MaxValue)
        {
            (registers, stack) = ReadStep(output);
            steps++;
            if (kind == 1)
            {
                callers.Push(MemoryMarshal.Read<ulong>(stack.AsSpan(128)));
            }
            else if (kind == 2)
            {
                callers.Pop().ShouldBe(registers[^1]);
            }

            UnwoundStack unwound = Unwind();
            ulong[] truth = [registers[^1], .. callers];
            ulong[] found = [.. unwound.Frames.Select(static frame => frame.Address)];
            UnwoundFrame last = unwound.Frames[^1];
            string place = $"{last.Mapping?.File.Path}+0x{last.FileAddress:x}";
            found.ShouldBe(truth.Take(found.Length), $"instruction {steps} at 0x{registers[^1]:x}, {unwound.End} at {place}");
            if (unwound.End != UnwindEnd.Complete)
            {
                shortened.Add($"{place}: {unwound.End}");
            }
            else
            {
                found.Length.ShouldBe(truth.Length);
            }
        }

        process.StandardInput.Close();
        process.WaitForExit();
        string.Join('\n', shortened.Distinct()).ShouldBeEmpty();
        _unwinder.Restarts.ShouldBe(0);
        return steps;

        UnwoundStack Unwind() => _unwinder.Unwind(code, new([.. registers], [new(registers[7] - 128, stack, default)]));

        static (ulong[] Registers, byte[] Stack) ReadStep(BinaryReader output)
        {
            ulong[] registers = new ulong[StackCopy.RegisterCount];
            foreach (ref ulong register in registers.AsSpan())
            {
                register = output.ReadUInt64();
            }

            return (registers, output.ReadBytes(Window));
        }
    }
}
