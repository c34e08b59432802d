using System.Text;
using KamOtel.Diagnosis;

namespace KamOtel.Linux;

/// <summary>Words by which a message of a server is known for a complaint.</summary>
/// <param name="Kind">Of what.</param>
/// <param name="Text">Stands in the format of the message, and in no other's.</param>
/// <param name="Pointer">Which <c>%p</c> of the format is the memory that it is about, counted from 1; 0: none is.</param>
internal sealed record ComplaintText(ComplaintKind Kind, string Text, int Pointer)
{
    /// <summary>The same as the file has it.</summary>
    public byte[] Bytes { get; } = Encoding.ASCII.GetBytes(Text);
}

/// <summary>
/// The messages of Kamailio's memory managers (qm, fm, tlsf) and of its modules that are complaints. One message is one
/// complaint; no complaint is what follows one or lists it: the lines of a status dump (<c>         * beginning overwritten</c>)
/// and the second line about a neighbour (<c>prev. fragm. tail overwritten [</c>).
/// </summary>
internal static class ComplaintTexts
{
    /// <summary>The longest format that is looked at, in bytes.</summary>
    public const int MaxFormat = 1024;

    /// <summary>Each text has one of these: few enough to look for them alone.</summary>
    public static IReadOnlyList<byte[]> Marks { get; } = ["shm"u8.ToArray(), "shared mem"u8.ToArray(), "frag"u8.ToArray(), "freed pointer"u8.ToArray(), "bad pointer"u8.ToArray()];

    /// <summary>All of them.</summary>
    public static IReadOnlyList<ComplaintText> All { get; } =
    [
        new(ComplaintKind.AlreadyFreed, "freeing already freed pointer", 1),
        new(ComplaintKind.AlreadyFreed, "trying to realloc an already freed pointer", 1),
        new(ComplaintKind.Overwritten, "fragm. %p (address %p) beginning overwritten", 2),
        new(ComplaintKind.Overwritten, "fragm. %p (address %p) end overwritten", 2),
        new(ComplaintKind.Overwritten, "prev. fragm. tail overwritten(", 2),
        new(ComplaintKind.BadPointer, "bad pointer %p (out of memory block", 1),
        new(ComplaintKind.BadFragment, "fragm. %p (address %p) bad size", 2),
        new(ComplaintKind.BadFragment, "fragm. %p (address %p) size in qm_frag and qm_frag_end does not match", 2),
        new(ComplaintKind.BadFragment, "different free frag. count", 0),
        .. new[]
        {
            "could not allocate shared memory",
            "couldn't allocate shared memory",
            "cannot allocate shared memory",
            "Cannot allocate shared memory",
            "Unable to allocate shared memory",
            "Unable to allocated shared memory",
            "failed to allocated shared memory",
            "shared memory alloc failed",
            "no more shared mem",
            "No more shared mem",
            "no shared memory left",
            "No shared memory left",
            "no shared memory for ",
            "not enough shared memory",
            "Not enough shared memory",
            "No enough shared memory",
            "out of shared memory",
            "Out of shared mem",
            "no more shm",
            "No more shm",
            "no shm more memory",
            "not more shm mem",
            "no enough shm mem",
            "no shm mem",
            "no shm left",
            "no shmem",
            "No shmem",
            "out of shm",
            "Out of shm",
            "short of cell shmem",
            "short of tmcb shmem",
            "cannot alloc shm mem",
            "cannot alloc reply shmem",
            "cannot allocate shm",
            "Cannot allocate shm",
            "cannot get shm memory",
            "failed to get shm mem",
            "shm malloc failed",
            "shm_malloc failed",
            "error in shm_malloc",
            "Unable to shm_malloc",
            "Failed to shm_malloc",
            "shm_malloc %d bytes returned NULL",
            "not enough memory for safe operation: shm",
        }.Select(static text => new ComplaintText(ComplaintKind.OutOfSharedMemory, text, 0)),
    ];
}
