/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_WATCH_BPF_H
#define KAMOTEL_WATCH_BPF_H

/* Which processes are ours: exec, fork, exit. */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, char[KAMOTEL_NAME_SIZE]);
	__type(value, __u8);
} watched_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct kamotel_watched);
} watched SEC(".maps");

static __always_inline __u64 start_of(struct task_struct *task)
{
	return BPF_CORE_READ(task, group_leader, start_boottime);
}

static __always_inline struct kamotel_watched *find_watched(__u32 tgid, __u64 start_ns)
{
	struct kamotel_watched *entry = bpf_map_lookup_elem(&watched, &tgid);

	if (entry && entry->start_ticks != start_ns / KAMOTEL_TICK_NS)
		return NULL;
	return entry;
}

/* Most tasks are not ours: one look-up, before anything else is read. */
static __always_inline struct kamotel_watched *current_watched(__u64 *start_ns)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (!bpf_map_lookup_elem(&watched, &tgid))
		return NULL;
	*start_ns = start_of((struct task_struct *)bpf_get_current_task());
	return find_watched(tgid, *start_ns);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(kamotel_exec, struct task_struct *task, pid_t old_pid, struct linux_binprm *bprm)
{
	__u32 tgid = task->tgid;
	__u64 start_ns = start_of(task);
	struct kamotel_watched *before = find_watched(tgid, start_ns);
	struct kamotel_watched now = {};
	char name[KAMOTEL_NAME_SIZE] = {};
	struct kamotel_exec *event;
	__u16 flags = 0;

	bpf_probe_read_kernel_str(name, sizeof(name), task->comm);
	if (bpf_map_lookup_elem(&watched_names, name)) {
		now.start_ticks = start_ns / KAMOTEL_TICK_NS;
		now.instance_ns = bpf_ktime_get_boot_ns();
		now.instance_tgid = tgid;
		flags = KAMOTEL_WATCHED;
		if (bpf_map_update_elem(&watched, &tgid, &now, BPF_ANY))
			count_loss(KAMOTEL_WATCH);
	} else if (before) {
		now = *before;
		bpf_map_delete_elem(&watched, &tgid);
	} else {
		return 0;
	}

	event = reserve(sizeof(*event), KAMOTEL_EXEC, flags, start_ns, &now);
	if (!event)
		return 0;
	__builtin_memcpy(event->name, name, sizeof(name));
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(kamotel_fork, struct task_struct *parent, struct task_struct *child)
{
	__u32 child_tgid = child->tgid;
	struct kamotel_watched *entry;
	struct kamotel_watched inherited;
	struct kamotel_fork *event;
	__u64 start_ns, child_start_ns;

	entry = current_watched(&start_ns);
	if (!entry || child->pid != child->tgid) /* a thread, not a process */
		return 0;

	child_start_ns = child->start_boottime;
	inherited = *entry;
	/* Who daemonises goes on in the child; whoever forks again has forked a worker. */
	__builtin_memset(inherited.stacks, 0, sizeof(inherited.stacks));
	if (!entry->forked) {
		entry->forked = 1;
		__builtin_memset(entry->stacks, 0, sizeof(entry->stacks));
	}
	inherited.start_ticks = child_start_ns / KAMOTEL_TICK_NS;
	if (bpf_map_update_elem(&watched, &child_tgid, &inherited, BPF_ANY))
		count_loss(KAMOTEL_WATCH);

	event = reserve(sizeof(*event), KAMOTEL_FORK, 0, start_ns, &inherited);
	if (!event)
		return 0;
	event->child_start_ns = child_start_ns;
	event->child_tgid = child_tgid;
	event->reserved = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(kamotel_exit, struct task_struct *task)
{
	__u32 tgid = task->tgid;
	__u64 start_ns;
	struct kamotel_watched *entry = current_watched(&start_ns);
	struct kamotel_watched last;
	struct kamotel_exit *event;
	__u32 status = 0;
	__u16 flags = 0;

	if (!entry)
		return 0;
	last = *entry;

	/* Two threads may both see no other alive: only one of them deletes the entry. */
	if (BPF_CORE_READ(task, signal, live.counter) == 0 &&
	    bpf_map_delete_elem(&watched, &tgid) == 0) {
		flags = KAMOTEL_LAST_THREAD;
		status = BPF_CORE_READ(task, signal, group_exit_code);
		if (!status)
			status = BPF_CORE_READ(task, group_leader, exit_code);
	}

	event = reserve(sizeof(*event), KAMOTEL_EXIT, flags, start_ns, &last);
	if (!event)
		return 0;
	event->status = status;
	event->reserved = 0;
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* KAMOTEL_WATCH_BPF_H */
