/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_STEPS_BPF_H
#define KAMOTEL_STEPS_BPF_H

/*
 * The steps of a server's start: functions of its executable and of its modules. The agent knows by
 * the address which one was entered: attach cookies would say it, but came with 5.15 only.
 */

SEC("uprobe")
int kamotel_enter(struct pt_regs *ctx)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct kamotel_watched *entry;
	struct kamotel_enter *event;
	__u64 start_ns;

	if ((__u32)id != id >> 32) /* a start is Thread#1's affair */
		return 0;
	entry = current_watched(&start_ns);
	if (!entry)
		return 0;
	event = reserve(sizeof(*event), KAMOTEL_ENTER, 0, start_ns, entry);
	if (!event)
		return 0;
	event->address = PT_REGS_IP(ctx);
	bpf_ringbuf_submit(event, 0);
	return 0;
}

#endif /* KAMOTEL_STEPS_BPF_H */
