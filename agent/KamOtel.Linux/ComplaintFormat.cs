using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>What a format of <c>printf</c> says of the arguments of a complaint; their numbers count from 0 after the format.</summary>
/// <param name="Kind">What it complains of.</param>
/// <param name="Pointer">The memory that it is about.</param>
/// <param name="File">Who called the memory manager: the source file, <c>tls: tls_init.c</c>.</param>
/// <param name="Function">The function there.</param>
/// <param name="Line">The line there, where the format names no function.</param>
public sealed record ComplaintFormat(ComplaintKind Kind, int? Pointer, int? File, int? Function, int? Line)
{
    private static readonly byte[] Caller = "called from %s:"u8.ToArray();

    /// <summary>Reads a format; one that makes no sense has no arguments.</summary>
    internal static ComplaintFormat Read(ReadOnlySpan<byte> format, ComplaintText text)
    {
        int? pointer = null, file = null, function = null, line = null;
        int caller = format.IndexOf(Caller);
        int fileAt = caller < 0 ? -1 : caller + Caller.Length - 3;
        int argument = 0, pointers = 0, afterFile = -1;
        for (int at = 0; at < format.Length;)
        {
            if (format[at] != '%')
            {
                at++;
                continue;
            }
            int start = at++;
            int stars = 0;
            for (; at < format.Length && " #+-'.*0123456789hljztLq".Contains((char)format[at], StringComparison.Ordinal); at++)
            {
                stars += format[at] == '*' ? 1 : 0;
            }
            if (at == format.Length)
            {
                break;
            }
            byte conversion = format[at++];
            if (conversion == '%')
            {
                continue;
            }
            argument += stars;
            if (conversion == 'p' && ++pointers == text.Pointer)
            {
                pointer = argument;
            }
            if (start == fileAt)
            {
                file = argument;
                afterFile = argument + 1;
            }
            else if (argument == afterFile && format[(fileAt + 3)..start].Trim((byte)' ').IsEmpty)
            {
                (function, line) = conversion switch
                {
                    (byte)'s' => ((int?)argument, (int?)null),
                    (byte)'d' or (byte)'u' => (null, argument),
                    _ => (null, null),
                };
            }
            argument++;
        }
        return new ComplaintFormat(text.Kind, pointer, file, function, line);
    }
}
