/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_STACKS_BPF_H
#define KAMOTEL_STACKS_BPF_H

/*
 * A copy of the stack at the calls that matter and at crashes, for the agent to find out who
 * called. Libraries have no frame pointers, so the kernel cannot walk the stack itself.
 */

enum {
	/* Calls of one kind in a process whose stacks are copied: before its first fork, and after.
	 */
	MANY_STACKS = 128,
	FEW_STACKS = 8,
	MOST_CHUNKS = 64,
	OUTER_CHUNKS = 16,
};

/* A thread's TLS lies at the far end of its stack; what is further away is another stack. */
#define FAR_AWAY (64ULL << 20)

struct stack_extent {
	__u64 start;
	__u64 outer;
	__u32 chunks;
	__u32 in_outer;
};

static __always_inline int wants_stack(struct kamotel_watched *entry, __u16 kind)
{
	__u64 id = bpf_get_current_pid_tgid();
	__u32 call = kind - KAMOTEL_INIT_LOCAL;
	__u8 most = !entry->forked && (__u32)id == id >> 32 ? MANY_STACKS : FEW_STACKS;

	if (call >= KAMOTEL_CALLS || entry->stacks[call] >= most)
		return 0;
	entry->stacks[call]++;
	return 1;
}

/* From the stack pointer to where the stack began, or as much of both ends as fits. */
static __always_inline void find_stack(struct pt_regs *regs, struct stack_extent *extent)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 start = PT_REGS_SP(regs) & ~(__u64)(KAMOTEL_CHUNK_SIZE - 1);
	__u64 end, chunks;

	if (BPF_CORE_READ(task, pid) == BPF_CORE_READ(task, tgid))
		end = BPF_CORE_READ(task, mm, start_stack);
	else
		end = tls_base_of(task);
	end = (end & ~(__u64)(KAMOTEL_CHUNK_SIZE - 1)) + KAMOTEL_CHUNK_SIZE;

	extent->start = start;
	chunks = (end - start) / KAMOTEL_CHUNK_SIZE;
	if (end <= start || end - start > FAR_AWAY) { /* a stack of its own, of a coroutine */
		extent->chunks = MOST_CHUNKS / 2;
	} else if (chunks <= MOST_CHUNKS) {
		extent->chunks = chunks;
	} else {
		extent->chunks = MOST_CHUNKS;
		extent->in_outer = OUTER_CHUNKS;
		extent->outer = end - OUTER_CHUNKS * KAMOTEL_CHUNK_SIZE;
	}
}

static __always_inline void copy_registers(__u64 *to, struct pt_regs *regs)
{
#if defined(__TARGET_ARCH_x86)
	to[0] = regs->ax;
	to[1] = regs->dx;
	to[2] = regs->cx;
	to[3] = regs->bx;
	to[4] = regs->si;
	to[5] = regs->di;
	to[6] = regs->bp;
	to[7] = regs->sp;
	to[8] = regs->r8;
	to[9] = regs->r9;
	to[10] = regs->r10;
	to[11] = regs->r11;
	to[12] = regs->r12;
	to[13] = regs->r13;
	to[14] = regs->r14;
	to[15] = regs->r15;
	to[16] = regs->ip;
#endif
}

/*
 * `room` chunks are reserved; it is a constant wherever this is called. The verifier walks through
 * the loop turn by turn, and through each way of a branch in it: so it has one, and not three.
 */
static __always_inline void copy_stack(struct kamotel_stack *stack,
				       const struct stack_extent *extent, __u32 room)
{
	__u8 *bytes = (__u8 *)(stack + 1);
	__s64 inner = extent->chunks - extent->in_outer;
	__u64 gap = extent->outer - (extent->start + inner * KAMOTEL_CHUNK_SIZE);
	__u64 holes = 0;

	for (__u32 i = 0; i < room; i++) {
		__u64 beyond_inner = (__u64)((inner - 1 - (__s64)i) >> 63); /* all ones, or zero */
		__u64 from = extent->start + i * KAMOTEL_CHUNK_SIZE + (gap & beyond_inner);
		long error;

		if (i >= extent->chunks)
			break;
		error = bpf_probe_read_user(bytes + i * KAMOTEL_CHUNK_SIZE, KAMOTEL_CHUNK_SIZE,
					    (void *)from);
		holes |= (__u64)error >> 63 << i;
	}
	stack->start = extent->start;
	stack->outer = extent->outer;
	stack->holes = holes;
	stack->chunks = extent->chunks;
	stack->in_outer = extent->in_outer;
}

#define RESERVE_WITH_STACK(room)                                                                   \
	do {                                                                                       \
		event = try_reserve(sizeof(*event) + sizeof(struct kamotel_stack) +                \
					    (room)*KAMOTEL_CHUNK_SIZE,                             \
				    kind, flags | KAMOTEL_HAS_STACK, start_ns, entry);             \
		if (!event)                                                                        \
			return NULL;                                                               \
		copy_registers(((struct kamotel_stack *)(event + 1))->registers, regs);            \
		copy_stack((struct kamotel_stack *)(event + 1), extent, room);                     \
	} while (0)

/*
 * Makes a function that reserves a record with the stack behind it, in the smallest of a few sizes;
 * NULL when there is no room. One for each type: with a void pointer clang 14 tests it a second
 * time, which the verifier of 6.1 does not see through.
 */
#define DEFINE_RESERVE_WITH_STACK(name, type)                                                      \
	static __always_inline type *name(struct pt_regs *regs, const struct stack_extent *extent, \
					  __u16 kind, __u16 flags, __u64 start_ns,                 \
					  const struct kamotel_watched *entry)                     \
	{                                                                                          \
		type *event;                                                                       \
                                                                                                   \
		/* Stacks must not crowd out the events themselves. */                             \
		if (bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) >                                  \
		    bpf_ringbuf_query(&ring, BPF_RB_RING_SIZE) / 2)                                \
			return NULL;                                                               \
		if (extent->chunks <= 8)                                                           \
			RESERVE_WITH_STACK(8);                                                     \
		else if (extent->chunks <= 16)                                                     \
			RESERVE_WITH_STACK(16);                                                    \
		else if (extent->chunks <= 32)                                                     \
			RESERVE_WITH_STACK(32);                                                    \
		else                                                                               \
			RESERVE_WITH_STACK(MOST_CHUNKS);                                           \
		return event;                                                                      \
	}

#endif /* KAMOTEL_STACKS_BPF_H */
