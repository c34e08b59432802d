/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_THREAD_LOCALS_BPF_H
#define KAMOTEL_THREAD_LOCALS_BPF_H

/*
 * libcrypto's thread-local calls. Attached to the file, not to a process, so that a server started
 * later is covered from its first instruction; whoever is not watched leaves at once.
 */

DEFINE_RESERVE_WITH_STACK(reserve_call, struct kamotel_call)

static __always_inline int emit_call(struct pt_regs *ctx, __u16 kind, __u64 key_address,
				     __u64 value, __u32 key, __u16 flags)
{
	struct stack_extent extent = {};
	struct kamotel_call *event = NULL;
	struct kamotel_watched *entry;
	__u64 start_ns;

	entry = current_watched(&start_ns);
	if (!entry)
		return 0;
	/* A slot that is cleared has no author. */
	if ((kind != KAMOTEL_SET_LOCAL || value) && wants_stack(entry, kind)) {
		find_stack(ctx, &extent);
		event = reserve_call(ctx, &extent, kind, flags, start_ns, entry);
		if (!event)
			count_loss(KAMOTEL_STACK);
	}
	if (!event)
		event = reserve(sizeof(*event), kind, flags, start_ns, entry);
	if (!event)
		return 0;
	event->key_address = key_address;
	event->value = value;
	event->key = key;
	event->reserved = 0;
	if ((kind == KAMOTEL_SET_LOCAL || kind == KAMOTEL_CLEANUP_LOCAL) &&
	    !(flags & KAMOTEL_KEY_READ)) {
		if (bpf_probe_read_user(&event->key, sizeof(event->key), (void *)key_address))
			event->key = 0;
		else
			event->header.flags |= KAMOTEL_KEY_READ;
	}
	bpf_ringbuf_submit(event, 0);
	return 0;
}

/* int CRYPTO_THREAD_init_local(CRYPTO_THREAD_LOCAL *key, void (*cleanup)(void *)) */
SEC("uprobe")
int kamotel_init(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_INIT_LOCAL, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), 0, 0);
}

/* int CRYPTO_THREAD_set_local(CRYPTO_THREAD_LOCAL *key, void *value) */
SEC("uprobe")
int kamotel_set(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_SET_LOCAL, PT_REGS_PARM1(ctx), PT_REGS_PARM2(ctx), 0, 0);
}

/* int CRYPTO_THREAD_cleanup_local(CRYPTO_THREAD_LOCAL *key) */
SEC("uprobe")
int kamotel_cleanup(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_CLEANUP_LOCAL, PT_REGS_PARM1(ctx), 0, 0, 0);
}

/*
 * The same two at an instruction that is cheaper to probe than the first, and where the function
 * has already loaded the key: it is in the register where its address was.
 */
SEC("uprobe")
int kamotel_set_key(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_SET_LOCAL, 0, PT_REGS_PARM2(ctx), (__u32)PT_REGS_PARM1(ctx),
			 KAMOTEL_KEY_READ);
}

SEC("uprobe")
int kamotel_cleanup_key(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_CLEANUP_LOCAL, 0, 0, (__u32)PT_REGS_PARM1(ctx),
			 KAMOTEL_KEY_READ);
}

/* int CRYPTO_THREAD_set_local_ex(CRYPTO_THREAD_LOCAL_KEY_ID id, OSSL_LIB_CTX *ctx, void *value) */
SEC("uprobe")
int kamotel_set_ex(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_SET_LOCAL_EX, PT_REGS_PARM2(ctx), PT_REGS_PARM3(ctx),
			 (__u32)PT_REGS_PARM1(ctx), KAMOTEL_KEY_READ);
}

/* void CRYPTO_THREAD_clean_local(void) */
SEC("uprobe")
int kamotel_clean(struct pt_regs *ctx)
{
	return emit_call(ctx, KAMOTEL_CLEAN_LOCAL, 0, 0, 0, 0);
}

#endif /* KAMOTEL_THREAD_LOCALS_BPF_H */
