/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KAMOTEL_CONFIRM_BPF_H
#define KAMOTEL_CONFIRM_BPF_H

/*
 * Which processes really use the slots that they share. libcrypto gets its slots thousands of times
 * a second, so the agent attaches this for a short window only, and no use makes a record.
 */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kamotel_shared_key);
	__type(value, __u8);
} shared_keys SEC(".maps");

/* When it is full a further process is not counted: a count is proof, no count is none. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct kamotel_shared_use);
	__type(value, __u64);
} shared_uses SEC(".maps");

/* Calls in watched processes, of whatever key and thread: the agent may end the window early. */
__u64 confirm_hits = 0;

/* `key` is the key where the function has loaded it, else its address. */
static __always_inline int count_use(__u64 key, bool loaded)
{
	__u64 id = bpf_get_current_pid_tgid();
	struct kamotel_shared_key shared = {};
	struct kamotel_shared_use use = {};
	struct kamotel_watched *entry;
	__u64 *uses, first = 1;
	__u64 start_ns;

	entry = current_watched(&start_ns);
	if (!entry)
		return 0;
	__sync_fetch_and_add(&confirm_hits, 1);
	if ((__u32)id != id >> 32) /* another thread's slots are its own */
		return 0;
	shared.key = key;
	if (!loaded && bpf_probe_read_user(&shared.key, sizeof(shared.key), (void *)key))
		return 0;
	shared.instance_ns = entry->instance_ns;
	shared.instance_tgid = entry->instance_tgid;
	if (!bpf_map_lookup_elem(&shared_keys, &shared))
		return 0;

	use.start_ns = start_ns;
	use.tgid = id >> 32;
	use.key = shared.key;
	/* An entry is counted up by one thread only, but the agent may empty the map meanwhile. */
	uses = bpf_map_lookup_elem(&shared_uses, &use);
	if (uses)
		__sync_fetch_and_add(uses, 1);
	else
		bpf_map_update_elem(&shared_uses, &use, &first, BPF_NOEXIST);
	return 0;
}

/* void *CRYPTO_THREAD_get_local(CRYPTO_THREAD_LOCAL *key) */
SEC("uprobe")
int kamotel_get(struct pt_regs *ctx)
{
	return count_use(PT_REGS_PARM1(ctx), false);
}

/* The same where the key is loaded: see kamotel_set_key. */
SEC("uprobe")
int kamotel_get_key(struct pt_regs *ctx)
{
	return count_use((__u32)PT_REGS_PARM1(ctx), true);
}

#endif /* KAMOTEL_CONFIRM_BPF_H */
