// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile process: a page of its memory never comes, and whoever reads it waits for it.
 *
 *   stall memory            says where such memory is
 *   stall thread            what its Thread#1 keeps thread-local lies there; it forks a worker
 * first stall arguments FILLER  the middle of its command line lies there: FILLER has some ten
 * thousand characters
 *
 * Says `ready PID ADDRESS` and stays until its standard input ends.
 */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ul

/* No library from here on: it would look for the thread's own memory. */
static long call(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(first), "S"(second), "d"(third)
			 : "rcx", "r11", "memory");
	return result;
}

static char *never(void *at, size_t size)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register range = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int file = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	char *memory = mmap(at, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | (at ? MAP_FIXED : 0), -1, 0);

	range.range.start = (uintptr_t)memory;
	range.range.len = size;
	if (file < 0 || memory == MAP_FAILED || ioctl(file, UFFDIO_API, &api) ||
	    ioctl(file, UFFDIO_REGISTER, &range)) {
		perror("userfaultfd");
		exit(1);
	}
	return memory;
}

int main(int argc, char **argv)
{
	char *memory;
	char byte;

	if (argc == 3) {
		memory = never((void *)(((uintptr_t)argv[2] + 2 * PAGE) & ~(PAGE - 1)), PAGE);
	} else {
		memory = never(NULL, 16 * PAGE);
		if (!strcmp(argv[1], "thread") && fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			pause();
		}
	}
	printf("ready %d %lx\n", getpid(), (unsigned long)memory);
	fflush(stdout);
	if (!strcmp(argv[1], "thread"))
		call(SYS_arch_prctl, ARCH_SET_FS, (long)(memory + 8 * PAGE), 0);
	while (call(SYS_read, 0, (long)&byte, 1) > 0)
		;
	call(SYS_exit_group, 0, 0, 0);
}
