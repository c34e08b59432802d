/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_MEMORY_FAULTS_BPF_H
#define KAMOTEL_MEMORY_FAULTS_BPF_H

/*
 * What a server's memory manager complains of. The probes sit where the messages are logged, so
 * they cost nothing while all is well. As with the steps the agent knows by the address which
 * message it is.
 */

static __always_inline void copy_arguments(__u64 *to, struct pt_regs *ctx)
{
#if defined(__TARGET_ARCH_x86)
	to[0] = ctx->di;
	to[1] = ctx->si;
	to[2] = ctx->dx;
	to[3] = ctx->cx;
	to[4] = ctx->r8;
	to[5] = ctx->r9;
#else
	__builtin_memset(to, 0, KAMOTEL_ARGUMENTS * sizeof(*to));
#endif
}

SEC("uprobe")
int kamotel_complaint(struct pt_regs *ctx)
{
	struct kamotel_complaint *event;
	struct kamotel_watched *entry;
	__u64 start_ns;

	entry = current_watched(&start_ns);
	if (!entry)
		return 0;
	event = reserve(sizeof(*event), KAMOTEL_COMPLAINT, 0, start_ns, entry);
	if (!event)
		return 0;
	event->address = PT_REGS_IP(ctx);
	copy_arguments(event->arguments, ctx);
	__builtin_memset(event->stack, 0, sizeof(event->stack));
	event->stack_read =
		!bpf_probe_read_user(event->stack, sizeof(event->stack), (void *)PT_REGS_SP(ctx));
	event->reserved = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* KAMOTEL_MEMORY_FAULTS_BPF_H */
