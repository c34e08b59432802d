// SPDX-License-Identifier: GPL-2.0-only
/* The least that a uprobe can do: what is left is the trap. */
#define SEC(name) __attribute__((section(name), used))

char LICENSE[] SEC("license") = "GPL";

SEC("uprobe")
int trap(void *context)
{
	(void)context;
	return 0;
}
