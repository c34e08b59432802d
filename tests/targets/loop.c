// SPDX-License-Identifier: Apache-2.0
/*
 * What a call costs: waits for a line on standard input, asks a libcrypto for a thread-local value
 * COUNT times, or as often as the line says, or sets it, says the nanoseconds of one call, and so on
 * until its input ends.
 *
 *   loop LIBRARY COUNT [set]
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int argc, char **argv)
{
	unsigned int key;
	char line[16];

	if (argc < 3)
		return 64;
	void *library = dlopen(argv[1], RTLD_NOW);
	if (!library)
		return 65;
	int (*init)(unsigned int *, void (*)(void *));
	void *(*get)(unsigned int *);
	int (*set)(unsigned int *, void *);
	*(void **)&init = dlsym(library, "CRYPTO_THREAD_init_local");
	*(void **)&get = dlsym(library, "CRYPTO_THREAD_get_local");
	*(void **)&set = dlsym(library, "CRYPTO_THREAD_set_local");
	if (!init || !get || !set || !init(&key, NULL))
		return 66;
	int sets = argc > 3;

	printf("key %u\n", key);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		long count = atol(line) > 0 ? atol(line) : atol(argv[2]);
		double start = now();

		if (sets) {
			for (long i = 1; i <= count; i++)
				set(&key, (void *)i);
		} else {
			for (long i = 0; i < count; i++)
				get(&key);
		}
		printf("%.1f\n", (now() - start) / count);
		fflush(stdout);
	}
	return 0;
}
