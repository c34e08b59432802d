namespace KamOtel.Diagnosis;

/// <summary>
/// What OpenSSL keeps in a slot, as far as the functions on the stack show it. A libcrypto without symbols names its exported
/// functions only, so it is the first of them, and how many others stand between it and the call. The rules hold for the
/// builds of 3.0 that they were tried with; what they do not cover has no name.
/// </summary>
public static class SlotNames
{
    /// <summary>Exported functions that ask for the error state themselves, and call it: most others jump to it and leave no trace.</summary>
    private static readonly string[] AskForErrors = ["ERR_set_mark", "ERR_clear_error", "ERR_clear_last_mark", "ERR_pop_to_mark", "ERR_new", "ERR_set_debug"];

    /// <summary>The name of the slot that a call sets; null when the stack does not show it.</summary>
    public static string? Of(CallChain chain, ulong value)
    {
        if (chain.Frames.IsEmpty)
        {
            return null;
        }
        string file = chain.Frames[0].File;
        int unnamed = chain.Frames.Skip(1).TakeWhile(f => f.File == file && f.Function is null).Count();
        if (unnamed + 1 >= chain.Frames.Length || chain.Frames[unnamed + 1] is not { Function: { } asked } frame || frame.File != file)
        {
            return null;
        }
        bool asksForErrors = AskForErrors.Contains(asked, StringComparer.Ordinal);
        return (SlotValue.KindOf(value), unnamed, asked) switch
        {
            (SlotValueKind.Sentinel, 0, "OPENSSL_init_crypto") => "in_init_config",
            // Its pointer is set in the same way as others' are: the mark that comes first names the key.
            (SlotValueKind.Sentinel, <= 1, _) when asksForErrors => "err_state",
            (SlotValueKind.Pointer, 2, _) when asksForErrors => "destructor_key",
            (SlotValueKind.Pointer, 0, "RAND_get0_public") => "rand_public",
            (SlotValueKind.Pointer, 0, "RAND_get0_private") => "rand_private",
            (SlotValueKind.Pointer, 0, "ASYNC_init_thread") => "async_pool",
            (SlotValueKind.Pointer, 0, "ASYNC_start_job") => "async_context",
            (SlotValueKind.Pointer, 0, "OSSL_LIB_CTX_set0_default") => "default_context",
            _ => null,
        };
    }
}
