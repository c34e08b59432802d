// SPDX-License-Identifier: Apache-2.0
/*
 * What a call costs whose stack is copied, and what one costs whose is not any more: sets a
 * thread-local value of a libcrypto under a stack of DEPTH bytes, first as often as stacks are
 * copied, then as often again, and says both in nanoseconds a call.
 *
 *   sets LIBRARY DEPTH
 */
#include <alloca.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COPIED = 120, SKIPPED = 20, CALLS = 1000 };

static int (*set)(unsigned int *, void *);
static unsigned int key;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static double each(long calls)
{
	double start = now();

	for (long i = 1; i <= calls; i++)
		set(&key, (void *)i);
	return (now() - start) / calls;
}

static __attribute__((noinline)) void measure(size_t depth)
{
	volatile char *frame = alloca(depth + 16);
	struct timespec rest = {0, 300000000};
	double copied, bare;

	memset((char *)frame, 1, depth + 16);
	copied = each(COPIED);
	each(SKIPPED);
	nanosleep(&rest, NULL); /* the agent unwinds what it has got */
	bare = each(CALLS);
	printf("%.0f %.0f\n", copied, bare);
}

int main(int argc, char **argv)
{
	int (*init)(unsigned int *, void (*)(void *));

	if (argc < 3)
		return 64;
	void *library = dlopen(argv[1], RTLD_NOW);
	if (!library)
		return 65;
	*(void **)&init = dlsym(library, "CRYPTO_THREAD_init_local");
	*(void **)&set = dlsym(library, "CRYPTO_THREAD_set_local");
	if (!init || !set || !init(&key, NULL))
		return 66;
	measure(atol(argv[2]));
	return 0;
}
