// SPDX-License-Identifier: Apache-2.0
/* Who descends from this process, out of /proc: not every kernel lists children. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "family.h"

/* False: it is gone, or a zombie, which nobody need end. */
static bool read_stat(pid_t pid, struct relative *out)
{
	char path[32], text[1024], state, *after;
	int file, length;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		return false;
	length = read(file, text, sizeof(text) - 1);
	close(file);
	if (length <= 0)
		return false;
	text[length] = '\0';
	/* The name may hold anything, parentheses too; what follows holds none. */
	after = strrchr(text, ')');
	if (!after || sscanf(after + 1,
			     " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d "
			     "%*d %*d %llu",
			     &state, &out->parent, &out->start) != 3)
		return false;
	out->pid = pid;
	return state != 'Z' && state != 'X';
}

static int by_pid(const void *left, const void *right)
{
	return ((const struct relative *)left)->pid - ((const struct relative *)right)->pid;
}

struct relative *family(size_t *count)
{
	static struct relative *all;
	static size_t room;
	size_t known = 0, kept = 0;
	pid_t self = getpid();
	struct dirent *entry;
	bool more = true;
	DIR *proc = opendir("/proc");

	*count = 0;
	if (!proc)
		return all;
	while ((entry = readdir(proc))) {
		if (!isdigit((unsigned char)entry->d_name[0]))
			continue;
		if (known == room) {
			size_t larger = room ? 2 * room : 1024;
			struct relative *grown = realloc(all, larger * sizeof(*all));

			if (!grown)
				break;
			all = grown;
			room = larger;
		}
		if (read_stat(atoi(entry->d_name), &all[known])) {
			all[known].child = all[known].ours = all[known].parent == self;
			known++;
		}
	}
	closedir(proc);
	qsort(all, known, sizeof(*all), by_pid);
	while (more) {
		more = false;
		for (size_t i = 0; i < known; i++) {
			struct relative parent = {.pid = all[i].parent}, *found;

			if (all[i].ours)
				continue;
			found = bsearch(&parent, all, known, sizeof(*all), by_pid);
			if (found && found->ours)
				all[i].ours = more = true;
		}
	}
	for (size_t i = 0; i < known; i++) {
		if (all[i].ours)
			all[kept++] = all[i];
	}
	*count = kept;
	return all;
}

bool signal_relative(const struct relative *to, int signal)
{
	int handle = syscall(SYS_pidfd_open, to->pid, 0);
	struct relative now;
	bool sent;

	if (handle < 0)
		return false;
	sent = read_stat(to->pid, &now) && now.start == to->start &&
	       syscall(SYS_pidfd_send_signal, handle, signal, NULL, 0) == 0;
	close(handle);
	return sent;
}
