// SPDX-License-Identifier: GPL-2.0-only
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "events.h"

char LICENSE[] SEC("license") = "GPL";

/* The agent sets the size before the load. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} ring SEC(".maps");

/* What was dropped, by kind: the agent exports it, nothing is lost silently. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, KAMOTEL_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} losses SEC(".maps");

/* Grows with each of them, after it: who sees the same as before need not look. */
__u64 all_losses = 0;

static __always_inline void count_loss(__u32 kind)
{
	__u64 *lost = bpf_map_lookup_elem(&losses, &kind);

	/* Only migration is forbidden here, not preemption: another task may count on this CPU. */
	if (lost)
		__sync_fetch_and_add(lost, 1);
	__sync_fetch_and_add(&all_losses, 1);
}

/* A record of `size` bytes for the current thread, or NULL. */
static __always_inline void *try_reserve(__u64 size, __u16 kind, __u16 flags, __u64 start_ns,
					 const struct kamotel_watched *watched)
{
	struct kamotel_header *header = bpf_ringbuf_reserve(&ring, size, 0);
	__u64 id = bpf_get_current_pid_tgid();

	if (!header)
		return NULL;
	header->time_ns = bpf_ktime_get_boot_ns();
	header->start_ns = start_ns;
	header->instance_ns = watched->instance_ns;
	header->instance_tgid = watched->instance_tgid;
	header->tgid = id >> 32;
	header->tid = (__u32)id;
	header->kind = kind;
	header->flags = flags;
	return header;
}

/* The same; when there is none the loss is counted. */
static __always_inline void *reserve(__u64 size, __u16 kind, __u16 flags, __u64 start_ns,
				     const struct kamotel_watched *watched)
{
	void *record = try_reserve(size, kind, flags, start_ns, watched);

	if (!record)
		count_loss(kind);
	return record;
}

#include "watch.bpf.h"
#include "tasks.bpf.h"
#include "stacks.bpf.h"
#include "thread_locals.bpf.h"
#include "steps.bpf.h"
#include "memory_faults.bpf.h"
#include "files.bpf.h"
#include "fatal_signals.bpf.h"
#include "confirm.bpf.h"

/* Only their BTF is wanted: the agent's tests hold Events.cs against it. */
struct kamotel_exec *unused_exec __attribute__((unused));
struct kamotel_fork *unused_fork __attribute__((unused));
struct kamotel_exit *unused_exit __attribute__((unused));
struct kamotel_call *unused_call __attribute__((unused));
struct kamotel_stack *unused_stack __attribute__((unused));
struct kamotel_fatal_signal *unused_fatal_signal __attribute__((unused));
struct kamotel_enter *unused_enter __attribute__((unused));
struct kamotel_complaint *unused_complaint __attribute__((unused));
struct kamotel_task *unused_task __attribute__((unused));
struct kamotel_host *unused_host __attribute__((unused));
enum kamotel_kind unused_kind __attribute__((unused));
enum kamotel_flags unused_flags __attribute__((unused));
