// SPDX-License-Identifier: Apache-2.0
/*
 * A server that reaches libcrypto through a known chain of files, each compiled from this source:
 *
 *   chain (PART_PROGRAM) → kamailio/modules/asks.so (PART_ASKS) → kamailio/modules/does.so
 * (PART_DOES) → libclient.so (PART_CLIENT) → LIBRARY
 *
 *   chain LIBRARY DIRECTORY SCENARIO
 *
 *   plain      one call
 *   quick      one call, and the process ends in the next instant
 *   fork       one call, then a worker that makes one
 *   thread     one call in another thread
 *   unload     one call; then does.so is unloaded and other.so loaded in its place, a call of it
 *   delete     does.so is removed from its folder between its loading and the call
 *   deep       the frame of `does` has 200 KB: who asked is beyond the copy's first window
 *   deeper     as deep, and that of `asks`, too: nothing leads from the one to the other
 *   segv       instead of the call a pointer that leads nowhere is written through
 *   abort      instead of the call the process aborts
 *   null       instead of the call libclient jumps to address 0
 *   nowhere    instead of the call libclient's return address is overwritten
 *   early      the frame of libclient has 200 KB, and that of `does`: no module in what was copied
 *
 * Waits for the end of its standard input at the end, but for quick.
 */
#define _GNU_SOURCE
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* What each part hands on to the next. */
struct order {
	int (*set_local)(unsigned int *key, void *value);
	unsigned int *key;
	void *value;
	int (*client)(struct order *order);
	int (*does)(struct order *order);
	size_t client_frame, does_frame, asks_frame;
};

/* A frame of this size, and something after the call, so that it is a call and no jump. */
#define WITH_FRAME(size, call)                                                                     \
	do {                                                                                       \
		volatile char *frame = alloca((size) + 16);                                        \
		int result;                                                                        \
		__asm__ volatile("" ::"r"(frame) : "memory");                                      \
		result = call;                                                                     \
		__asm__ volatile("" ::"r"(frame) : "memory");                                      \
		return result + 1;                                                                 \
	} while (0)

#if defined(PART_CLIENT)
int client_connect(struct order *order)
{
	WITH_FRAME(order->client_frame, order->set_local(order->key, order->value));
}
#elif defined(PART_DOES)
int does_connect(struct order *order)
{
	WITH_FRAME(order->does_frame, order->client(order));
}
#elif defined(PART_ASKS)
int asks_init(struct order *order)
{
	WITH_FRAME(order->asks_frame, order->does(order));
}
#else
static const char *directory, *scenario;
static unsigned int key;
static int (*asks)(struct order *order);
static struct order order;

static int is(const char *name)
{
	return !strcmp(scenario, name);
}

static void *load(const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	void *library = dlopen(path, RTLD_NOW);
	if (!library) {
		fprintf(stderr, "chain: %s\n", dlerror());
		_exit(65);
	}
	return library;
}

static __attribute__((noinline)) int write_nowhere(unsigned int *unused, void *value)
{
	*(volatile char *)16 = (char)(unsigned long)value;
	return unused != NULL;
}

static __attribute__((noinline)) int abort_here(unsigned int *unused, void *value)
{
	if (unused || value)
		abort();
	return 0;
}

static __attribute__((noinline)) int return_nowhere(unsigned int *unused, void *value)
{
	void *volatile *place = __builtin_frame_address(0);

	(void)unused;
	(void)value;
	place[1] = (void *)0x1234567;
	place[2] = (void *)0x1234567;
	return 0;
}

static __attribute__((noinline)) void call(unsigned long value)
{
	order.value = (void *)value;
	asks(&order);
}

static void *in_thread(void *unused)
{
	call(0x3333);
	return unused;
}

int main(int argc, char **argv)
{
	int (*init_local)(unsigned int *key, void (*cleanup)(void *));
	char byte;

	if (argc != 4)
		return 64;
	directory = argv[2];
	scenario = argv[3];
	void *crypto = dlopen(argv[1], RTLD_NOW);
	if (!crypto)
		return 66;
	*(void **)&init_local = dlsym(crypto, "CRYPTO_THREAD_init_local");
	*(void **)&order.set_local = dlsym(crypto, "CRYPTO_THREAD_set_local");
	if (!init_local || !order.set_local || !init_local(&key, NULL))
		return 67;
	order.key = &key;
	*(void **)&order.client = dlsym(load("libclient.so"), "client_connect");
	void *does = load("kamailio/modules/does.so");
	*(void **)&order.does = dlsym(does, "does_connect");
	*(void **)&asks = dlsym(load("kamailio/modules/asks.so"), "asks_init");
	if (is("deep") || is("deeper") || is("early"))
		order.does_frame = 200000;
	if (is("deeper"))
		order.asks_frame = 200000;
	if (is("early"))
		order.client_frame = 200000;
	if (is("segv"))
		order.set_local = write_nowhere;
	if (is("abort"))
		order.set_local = abort_here;
	if (is("null"))
		order.set_local = NULL;
	if (is("nowhere"))
		order.set_local = return_nowhere;
	if (is("delete")) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/kamailio/modules/does.so", directory);
		unlink(path);
	}

	if (is("thread")) {
		pthread_t thread;

		pthread_create(&thread, NULL, in_thread, NULL);
		pthread_join(thread, NULL);
	} else {
		call(0x1111);
	}
	if (is("quick"))
		_exit(0);
	if (is("unload")) {
		void *place = (void *)order.does;

		dlclose(does);
		*(void **)&order.does = dlsym(load("kamailio/modules/other.so"), "does_connect");
		printf("%s\n", (void *)order.does == place ? "same place" : "another place");
		call(0x2222);
	}
	if (is("fork") && fork() == 0) {
		call(0x2222);
		_exit(0);
	}
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	while (wait(NULL) > 0)
		;
	return 0;
}
#endif
