using System.Buffers.Binary;

namespace KamOtel.Tests.Linux;

/// <summary>Makes of an honest ELF file one that asks its reader for far too much.</summary>
internal static class ElfBomb
{
    public static void Arm(string kind, ref byte[] image)
    {
        switch (kind)
        {
            case "many segments":
                Put16(image, 56, 0xfffe);
                break;
            case "many sections":
                Put16(image, 60, 0);
                EachSection(image, static (image, at, index) => Put64(image, at + 32, index == 0 ? 1ul << 40 : Get64(image, at + 32)));
                break;
            case "huge sections":
                EachSection(image, static (image, at, _) => Put64(image, at + 32, 1ul << 44));
                break;
            case "compressed sections":
                // SHF_COMPRESSED, with a header that promises a terabyte.
                EachSection(image, static (image, at, _) =>
                {
                    Put64(image, at + 8, Get64(image, at + 8) | 0x800);
                    ulong offset = Get64(image, at + 24);
                    if (BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(at + 4)) == 3 && offset + 24 < (ulong)image.Length)
                    {
                        Put64(image, (int)offset, 1);
                        Put64(image, (int)offset + 8, 1ul << 40);
                    }
                });
                break;
            case "endless unwind table":
                // A search table of four thousand million entries.
                EachSegment(image, static (image, at) =>
                {
                    if (BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(at)) == 0x6474e550)
                    {
                        int table = (int)Get64(image, at + 8);
                        BinaryPrimitives.WriteUInt32LittleEndian(image.AsSpan(table + 8), uint.MaxValue);
                        Put64(image, at + 32, 1ul << 60);
                    }
                });
                break;
        }
    }

    private static void EachSection(byte[] image, Action<byte[], int, int> change)
    {
        int at = (int)Get64(image, 40);
        for (int i = 0; at + 64 <= image.Length; i++, at += 64)
        {
            change(image, at, i);
        }
    }

    private static void EachSegment(byte[] image, Action<byte[], int> change)
    {
        int at = (int)Get64(image, 32);
        int count = BinaryPrimitives.ReadUInt16LittleEndian(image.AsSpan(56));
        for (int i = 0; i < count; i++, at += 56)
        {
            change(image, at);
        }
    }

    private static ulong Get64(byte[] image, int at) => BinaryPrimitives.ReadUInt64LittleEndian(image.AsSpan(at));

    private static void Put64(byte[] image, int at, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(image.AsSpan(at), value);

    private static void Put16(byte[] image, int at, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(image.AsSpan(at), value);
}
