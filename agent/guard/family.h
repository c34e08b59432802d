// SPDX-License-Identifier: Apache-2.0
#ifndef KAMOTEL_GUARD_FAMILY_H
#define KAMOTEL_GUARD_FAMILY_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct relative {
	pid_t pid;
	pid_t parent;
	unsigned long long start; /* in ticks: with it a pid names one process for good */
	bool ours;
	bool child; /* our own, not a child's */
};

/*
 * All living descendants of this process; *count tells how many. The array is valid until the next
 * call. Whoever daemonises is one as well: this process is its subreaper.
 */
struct relative *family(size_t *count);

/* Sends a signal, unless the pid is another process's by now. True when it was sent. */
bool signal_relative(const struct relative *to, int signal);

#endif
