// SPDX-License-Identifier: Apache-2.0
/*
 * A tiny server whose truth is known: its main process may leave a pointer in a thread-local slot
 * of a libcrypto, then forks workers.
 *
 *   server LIBRARY SCENARIO [WORKERS]
 *
 *   none        no slot is set
 *   shared      root leaves a pointer into shared memory, and the workers keep it: the hazard
 *   private     root leaves a pointer into memory of its own: equal in the workers, and harmless
 *   atfork      as shared, but an at-fork handler clears the slot in the child, by plain pthread
 *   late_clear  as shared, but each worker clears the slot a quarter of a second after its fork
 *   own         root leaves nothing; each worker sets a pointer of its own into shared memory
 *   workers     root clears its slot after the fork; the workers keep the shared pointer
 *   daemon      as shared, after the double fork of a daemon
 *   crash       as shared; a worker dies by SIGSEGV 0.5 s after its fork, then root ends
 *   crash_other as crash, but nothing is shared
 *   orphans     as shared, and the workers outlive root, until their standard input ends
 *   use         as shared, and each worker asks for its slot every millisecond
 *
 * Says `ready PID KEY VALUE` (root's PID, the key in decimal, the value in hexadecimal) when all
 * workers run, and ends when its standard input does.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int (*init_local)(unsigned int *key, void (*cleanup)(void *));
static int (*set_local)(unsigned int *key, void *value);
static void *(*get_local)(unsigned int *key);

static unsigned int key;
static char *segment;
static const char *scenario;
static int *volatile nowhere;

static int is(const char *name)
{
	return !strcmp(scenario, name);
}

static void pause_ms(long milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

	nanosleep(&time, NULL);
}

static void clear_in_child(void)
{
	pthread_setspecific(key, NULL);
}

static void work(int number)
{
	char byte;

	if (is("orphans")) {
		while (read(0, &byte, 1) > 0)
			;
		_exit(0);
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (is("late_clear")) {
		pause_ms(250);
		pthread_setspecific(key, NULL);
	} else if (is("own")) {
		set_local(&key, segment + 4096 + 64 * number);
	} else if ((is("crash") || is("crash_other")) && number == 0) {
		pause_ms(500);
		*nowhere = 1;
	} else if (is("use")) {
		while (get_local(&key))
			pause_ms(1);
	}
	for (;;)
		pause();
}

static void daemonise(void)
{
	for (int i = 0; i < 2; i++) {
		pid_t pid = fork();

		if (pid < 0)
			_exit(71);
		if (pid > 0)
			_exit(0);
		setsid();
	}
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 64;
	scenario = argv[2];
	int workers = argc > 3 ? atoi(argv[3]) : 3;
	char go;

	setpgid(0, 0); /* what it ends is its own group */
	void *library = dlopen(argv[1], RTLD_NOW);
	if (!library) {
		fprintf(stderr, "server: %s\n", dlerror());
		return 65;
	}
	*(void **)&init_local = dlsym(library, "CRYPTO_THREAD_init_local");
	*(void **)&set_local = dlsym(library, "CRYPTO_THREAD_set_local");
	*(void **)&get_local = dlsym(library, "CRYPTO_THREAD_get_local");
	if (!init_local || !set_local || !get_local)
		return 66;
	segment = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (segment == MAP_FAILED || !init_local(&key, NULL))
		return 67;

	if (is("daemon"))
		daemonise();
	if (is("atfork"))
		pthread_atfork(NULL, NULL, clear_in_child);
	void *value = is("private") ? malloc(64) : segment + 64;
	if (is("none") || is("own") || is("crash_other"))
		value = NULL;
	else
		set_local(&key, value);

	for (int i = 0; i < workers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return 71;
		if (pid == 0)
			work(i);
	}
	if (is("workers"))
		set_local(&key, NULL);
	printf("ready %d %u %lx\n", getpid(), key, (unsigned long)value);
	fflush(stdout);
	if (is("crash") || is("crash_other")) {
		wait(NULL);
		kill(0, SIGKILL);
	}
	while (read(0, &go, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	return 0;
}
