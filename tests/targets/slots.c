// SPDX-License-Identifier: Apache-2.0
/*
 * Holds thread-local values of known truth and says what they are, a line each:
 *   thread PID TID POINTER              a thread and its thread pointer, in hexadecimal
 *   slot TID KEY VALUE OWNER MEMORY     OWNER: none|self|LIBRARY, MEMORY: shared|private
 *   shared START END                    the memory that is mapped shared
 *   child PID                           with "fork": a forked process, whose slots are as told
 *   ready
 * Then it waits for the end of its input. Usage: slots [fork [COUNT]] [busy] [map COUNT] [library
 * FILE]
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS	    48
#define SHARED_SIZE 65536

static pthread_key_t keys[KEYS];
static char *shared;
static pthread_barrier_t told;

static void destructor(void *value)
{
	(void)value;
}

static int tid(void)
{
	return (int)syscall(SYS_gettid);
}

static void tell_thread(void)
{
	printf("thread %d %d %lx\n", getpid(), tid(), (unsigned long)pthread_self());
}

static void hold(pthread_key_t key, void *value, const char *owner)
{
	int is_shared = (char *)value >= shared && (char *)value < shared + SHARED_SIZE;

	pthread_setspecific(key, value);
	printf("slot %d %x %lx %s %s\n", tid(), (unsigned)key, (unsigned long)value, owner,
	       is_shared ? "shared" : "private");
}

static void *other_thread(void *unused)
{
	(void)unused;
	tell_thread();
	hold(keys[2], shared + 512, "none");
	hold(keys[46], shared + 1024, "none");
	hold(keys[6], (void *)-1, "none");
	pthread_barrier_wait(&told);
	pause();
	return NULL;
}

static void *busy_thread(void *value)
{
	for (;;)
		*(void *volatile *)value = (char *)*(void *volatile *)value + 1;
	return NULL;
}

static void make_keys(void)
{
	for (int i = 0; i < KEYS; i++)
		if (pthread_key_create(&keys[i], i % 3 == 0 ? destructor : NULL))
			exit(70);

	/* A key whose values outlive it: glibc leaves them where they are. */
	pthread_setspecific(keys[4], shared);
	pthread_key_delete(keys[4]);

	/* The same, and made again: the old value is not the new key's. */
	pthread_setspecific(keys[5], shared);
	pthread_key_delete(keys[5]);
	if (pthread_key_create(&keys[5], NULL))
		exit(71);

	/* Set, and cleared. */
	pthread_setspecific(keys[8], shared);
	pthread_setspecific(keys[8], NULL);
}

/* Where the C library keeps a value of this thread: found by looking for it. */
static void **place_of(void *value)
{
	unsigned long *at = (unsigned long *)pthread_self();

	for (int i = 0; i < 300; i++)
		if (at[i] == (unsigned long)value)
			return (void **)&at[i];
	exit(72);
}

static void wait_for_end(void)
{
	char byte;

	while (read(0, &byte, 1) > 0) {
	}
}

int main(int argc, char **argv)
{
	int children = 0;
	int busy = 0;
	int life[2];

	shared = mmap(NULL, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 73;
	printf("shared %lx %lx\n", (unsigned long)shared, (unsigned long)(shared + SHARED_SIZE));
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "fork")) {
			children = i + 1 < argc ? atoi(argv[++i]) : 1;
		} else if (!strcmp(argv[i], "busy")) {
			busy = 1;
		} else if (!strcmp(argv[i], "map") && i + 1 < argc) {
			/* Neighbours differ, so that the kernel cannot join them. */
			for (int n = atoi(argv[++i]); n > 0; n--)
				mmap(NULL, 4096, n % 2 ? PROT_READ : PROT_NONE,
				     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		}
#ifndef STATIC
		else if (!strcmp(argv[i], "library") && i + 1 < argc) {
			void *library = dlopen(argv[++i], RTLD_NOW);
			void (*cleanup)(void *) =
				library ? (void (*)(void *))dlsym(library,
								  "CRYPTO_THREAD_clean_local")
					: NULL;
			pthread_key_t key;

			if (!cleanup || pthread_key_create(&key, cleanup))
				return 74;
			hold(key, shared + 2048, "library");
		}
#endif
		else {
			return 64;
		}
	}

	make_keys();
	tell_thread();
	hold(keys[0], shared, "self");
	hold(keys[1], malloc(8), "none");
	hold(keys[3], &children, "self");
	hold(keys[7], (void *)-1, "none");
	hold(keys[10], shared + SHARED_SIZE - 1, "none");
	hold(keys[11], shared + SHARED_SIZE, "none");
	hold(keys[40], shared + 256, "none");
	hold(keys[42], "text", "self");
	fflush(stdout);

	if (pipe(life))
		return 76;
	for (int i = 0; i < children; i++) {
		pid_t child = fork();

		if (child == 0) {
			char byte;

			/* Ends when its parent does, however that ends. */
			close(1);
			close(life[1]);
			_exit(read(life[0], &byte, 1) != 0);
		}
		printf("child %d\n", child);
	}

	pthread_t thread;

	pthread_barrier_init(&told, NULL, 2);
	if (pthread_create(&thread, NULL, busy ? busy_thread : other_thread,
			   busy ? place_of(pthread_getspecific(keys[0])) : NULL))
		return 75;
	if (!busy)
		pthread_barrier_wait(&told);
	puts("ready");
	fflush(stdout);
	wait_for_end();
	close(life[1]);
	while (wait(NULL) > 0) {
	}
	return 0;
}
