/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_FATAL_SIGNALS_BPF_H
#define KAMOTEL_FATAL_SIGNALS_BPF_H

/*
 * A watched process is about to die of what memory corruption looks like. Its exit tells so, too,
 * but then its memory is gone; here it can still be said what its Thread#1 held, and where it was.
 */

enum {
	SIGILL = 4,
	SIGABRT = 6,
	SIGBUS = 7,
	SIGFPE = 8,
	SIGSEGV = 11,
};

/* Where a signal came from: kill(2) and sigqueue(3). A fault and abort(3) have other codes. */
enum {
	SI_USER = 0,
	SI_QUEUE = -1,
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kamotel_instance);
	__type(value, struct kamotel_slot_layout);
} slot_layouts SEC(".maps");

/* Where the blocks of slots are; 0: there is none. */
static __always_inline void find_blocks(const struct kamotel_slot_layout *layout, __u64 tls_base,
					__u64 addresses[KAMOTEL_BLOCKS])
{
	const void *table = (void *)(tls_base + layout->table_offset);

	if (!layout->flat) {
		bpf_probe_read_user(addresses, KAMOTEL_BLOCKS * sizeof(*addresses), table);
		return;
	}
	bpf_probe_read_user(addresses, sizeof(*addresses), table);
	if (addresses[0])
		addresses[1] = addresses[0] + KAMOTEL_BLOCK_SIZE;
}

static __always_inline __u32 copy_block(__u64 *block, __u64 address, __u32 bit)
{
	/* The ring's memory is used again and again: nothing old may leave with the record. */
	__builtin_memset(block, 0, KAMOTEL_BLOCK_SIZE);
	if (!address || bpf_probe_read_user(block, KAMOTEL_BLOCK_SIZE, (void *)address))
		return 0;
	return bit;
}

DEFINE_RESERVE_WITH_STACK(reserve_death, struct kamotel_fatal_signal)

/* Whom another process kills has not crashed: where it was then says nothing. */
static __always_inline int has_crashed(struct kernel_siginfo *info)
{
	int code = BPF_CORE_READ(info, si_code);

	return code != SI_USER && code != SI_QUEUE;
}

SEC("tp_btf/signal_deliver")
int BPF_PROG(kamotel_fatal_signal, int signal, struct kernel_siginfo *info,
	     struct k_sigaction *action)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 addresses[KAMOTEL_BLOCKS] = {};
	struct kamotel_instance instance = {};
	struct kamotel_slot_layout *layout;
	struct kamotel_fatal_signal *event = NULL;
	struct stack_extent extent = {};
	struct pt_regs *regs;
	struct kamotel_watched *entry;
	__u64 start_ns;

	if (signal != SIGSEGV && signal != SIGABRT && signal != SIGBUS && signal != SIGILL &&
	    signal != SIGFPE)
		return 0;
	entry = current_watched(&start_ns);
	if (!entry || BPF_CORE_READ(action, sa.sa_handler)) /* caught or ignored: nobody dies */
		return 0;

	/* The user's registers: before 5.15 nobody gives them. */
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_task_pt_regs) &&
	    has_crashed(info)) {
		regs = (struct pt_regs *)bpf_task_pt_regs(bpf_get_current_task_btf());
		find_stack(regs, &extent);
		event = reserve_death(regs, &extent, KAMOTEL_FATAL_SIGNAL, 0, start_ns, entry);
		if (!event)
			count_loss(KAMOTEL_STACK);
	}
	if (!event)
		event = reserve(sizeof(*event), KAMOTEL_FATAL_SIGNAL, 0, start_ns, entry);
	if (!event)
		return 0;
	instance.since_ns = entry->instance_ns;
	instance.tgid = entry->instance_tgid;
	layout = bpf_map_lookup_elem(&slot_layouts, &instance);
	if (layout)
		find_blocks(layout, tls_base_of(BPF_CORE_READ(task, group_leader)), addresses);

	event->signal = signal;
	event->blocks_read = copy_block(event->blocks[0], addresses[0], 1) |
			     copy_block(event->blocks[1], addresses[1], 2) |
			     copy_block(event->blocks[2], addresses[2], 4) |
			     copy_block(event->blocks[3], addresses[3], 8);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* KAMOTEL_FATAL_SIGNALS_BPF_H */
