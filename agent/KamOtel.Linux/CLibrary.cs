using Microsoft.Win32.SafeHandles;

namespace KamOtel.Linux;

/// <summary>What can be told of a C library by its file alone.</summary>
/// <param name="Family"><c>glibc</c> or <c>musl</c>, whose thread-local values can be read; null when they cannot.</param>
/// <param name="Problem">Why they cannot; null when they can, or when the file is no C library.</param>
public sealed record CLibrary(string? Family, string? Problem)
{
    /// <summary>Looks at a file; null when it is no C library.</summary>
    public static CLibrary? Examine(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        MappedFile read = MappedFile.Read(file);
        return read.Layout is { } layout ? new(layout.Flat ? "musl" : "glibc", null)
            : read.Unsupported is { } problem ? new(null, problem)
            : null;
    }
}
