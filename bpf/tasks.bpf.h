/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_TASKS_BPF_H
#define KAMOTEL_TASKS_BPF_H

/* What the kernel knows of processes and their threads, so that nobody is stopped or traced for it. */

/* One process only; 0: all. From 6.1 on the iterator visits no other anyway. */
pid_t wanted_task = 0;

/* Where the threads of watched processes keep their thread-local storage. */
static __always_inline __u64 tls_base_of(struct task_struct *task)
{
#if defined(__TARGET_ARCH_x86)
	return BPF_CORE_READ(task, thread.fsbase);
#elif defined(__TARGET_ARCH_arm64)
	return BPF_CORE_READ(task, thread.uw.tp_value);
#endif
}

/*
 * Another one whenever the process maps something else, so that who knows its mappings need not read
 * them again: what is written for its memory lock counts (from 6.4 on), and programs that it executed.
 * 0: not known, or the mappings change right now.
 */
static __always_inline __u64 maps_version_of(struct task_struct *task)
{
	struct mm_struct *mm = task->mm;
	struct mm_struct___number *before = (void *)mm;
	__u32 changes;

	if (bpf_core_field_exists(mm->mm_lock_seq)) {
		changes = BPF_CORE_READ(mm, mm_lock_seq.sequence);
		if (changes & 1)
			return 0;
	} else if (bpf_core_field_exists(before->mm_lock_seq)) {
		changes = BPF_CORE_READ(before, mm_lock_seq);
	} else {
		return 0;
	}
	return (BPF_CORE_READ(task, self_exec_id) << 32 | changes) + 1;
}

SEC("iter/task")
int kamotel_task(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct kamotel_task thread = {};

	/* Without memory: a thread of the kernel, or one that ended and waits to be reaped. */
	if (!task || !task->mm || (wanted_task && task->tgid != wanted_task))
		return 0;
	thread.start_ns = start_of(task);
	thread.tgid = task->tgid;
	if (!find_watched(thread.tgid, thread.start_ns))
		return 0;
	thread.tls_base = tls_base_of(task);
	thread.maps_version = maps_version_of(task);
	thread.tid = task->pid;
	/* What does not fit any more is asked for again at the next read. */
	bpf_seq_write(ctx->meta->seq, &thread, sizeof(thread));
	return 0;
}

/*
 * What the host that a process runs on is called, as the process sees it: of wanted_task, watched or
 * not. No file tells it of another's: /proc/PID/root/etc/hostname is whatever the image has there.
 */
SEC("iter/task")
int kamotel_host(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct kamotel_host host = {};
	struct uts_namespace *uts;

	if (!task || task->tgid != wanted_task || task->pid != task->tgid)
		return 0;
	uts = BPF_CORE_READ(task, nsproxy, uts_ns); /* none: it is ending */
	if (!uts)
		return 0;
	host.start_ns = task->start_boottime;
	host.tgid = task->tgid;
	host.namespace = BPF_CORE_READ(uts, ns.inum);
	bpf_core_read_str(host.name, sizeof(uts->name.nodename), &uts->name.nodename);
	bpf_seq_write(ctx->meta->seq, &host, sizeof(host));
	return 0;
}

#endif /* KAMOTEL_TASKS_BPF_H */
