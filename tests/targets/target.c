// SPDX-License-Identifier: Apache-2.0
/*
 * A tiny program with a known truth: it makes thread-local calls of a libcrypto and prints each of
 * them, before it makes it, so that a test can compare what was seen with what was done.
 *
 *   target LIBRARY SCENARIO [COUNT]
 *
 * Lines on standard output, one a deed, written with one write(2) each:
 *   init|set|get|cleanup|set_ex|clean PID TID KEY VALUE      (KEY and VALUE in hexadecimal)
 *   thread PID TID SELF                                  (SELF: pthread_self(), in hexadecimal)
 *   fork PARENT CHILD · exit PID CODE · signal PID NUMBER · exec PID · waiting PID
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int (*init_local)(unsigned int *key, void (*cleanup)(void *));
static int (*set_local)(unsigned int *key, void *value);
static void *(*get_local)(unsigned int *key);
static int (*cleanup_local)(unsigned int *key);
static int (*set_local_ex)(int id, void *context, void *value);
static void (*clean_local)(void);

static unsigned int key, other_key;
static long count;
static int quiet;

static void say(const char *format, ...)
{
	char line[256];
	va_list arguments;

	if (quiet)
		return;
	va_start(arguments, format);
	int length = vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (write(1, line, length) != length)
		_exit(99);
}

static int tid(void)
{
	return (int)syscall(SYS_gettid);
}

static void init(void)
{
	say("init %d %d 0 0\n", getpid(), tid());
	if (!init_local(&key, NULL))
		_exit(98);
}

static void set(unsigned long value)
{
	say("set %d %d %x %lx\n", getpid(), tid(), key, value);
	set_local(&key, (void *)value);
}

/* A call under a frame of `size` bytes that nobody touched, between two marks. */
static __attribute__((noinline)) void set_below(size_t size)
{
	volatile unsigned long outer_mark = 0x6f757465726d6b31;
	volatile char *big = __builtin_alloca(size);
	volatile unsigned long *inner_mark = (unsigned long *)__builtin_alloca(4096);

	*inner_mark = 0x696e6e65726d6b32;
	__asm__ volatile("" ::"r"(big), "r"(inner_mark), "r"(&outer_mark) : "memory");
	set(0x1111);
	__asm__ volatile("" ::"r"(big), "r"(inner_mark), "r"(&outer_mark) : "memory");
}

static void get(unsigned int *from, long times)
{
	for (long i = 0; i < times; i++) {
		say("get %d %d %x 0\n", getpid(), tid(), *from);
		get_local(from);
	}
}

static void pause_ms(long milliseconds)
{
	struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};

	nanosleep(&time, NULL);
}

/* Waits for a byte, or for the end of the input. */
static void wait_for_go(void)
{
	char go;

	say("waiting %d\n", getpid());
	if (read(0, &go, 1) < 0)
		_exit(68);
}

/* Runs `child` in a forked process and waits for it. */
static void in_child(void (*child)(void))
{
	fflush(NULL);
	pid_t pid = fork();

	if (pid == 0) {
		say("fork %d %d\n", getppid(), getpid());
		child();
		say("exit %d 0\n", getpid());
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void nothing(void)
{
}

static void worker_sets(void)
{
	set(0x2222);
}

static void worker_clears(void)
{
	set(0);
}

static void worker_execs(void)
{
	say("exec %d\n", getpid());
	execl("/bin/true", "true", NULL);
	_exit(97);
}

static void worker_aborts(void)
{
	say("signal %d %d\n", getpid(), SIGABRT);
	abort();
}

static void worker_segfaults(void)
{
	say("signal %d %d\n", getpid(), SIGSEGV);
	raise(SIGSEGV);
}

/* What the slot of a worker's main thread holds when it dies. */
static const unsigned long last_value = 0x7e57000011112222;

static void worker_writes_to_nowhere(void)
{
	volatile int *volatile nowhere = NULL;

	set(last_value);
	say("signal %d %d\n", getpid(), SIGSEGV);
	*nowhere = 1;
}

static void worker_sets_and_aborts(void)
{
	set(last_value);
	worker_aborts();
}

static void *thread_segfaults(void *unused)
{
	set(0x3333);
	worker_segfaults();
	return unused;
}

static void worker_dies_of_its_thread(void)
{
	pthread_t thread;

	set(last_value);
	pthread_create(&thread, NULL, thread_segfaults, NULL);
	pthread_join(thread, NULL);
}

static void on_signal(int unused)
{
	(void)unused;
}

/* Signals that kill nobody, or have nothing to do with memory. */
static void worker_survives(void)
{
	set(last_value);
	signal(SIGSEGV, on_signal);
	raise(SIGSEGV);
	signal(SIGABRT, SIG_IGN);
	raise(SIGABRT);
}

static void worker_terminates(void)
{
	set(last_value);
	say("signal %d %d\n", getpid(), SIGTERM);
	raise(SIGTERM);
}

static void *thread_gets(void *unused)
{
	get(&key, 3);
	return unused;
}

static void get_in_all_ways(void)
{
	pthread_t thread;

	get(&key, count);
	get(&other_key, 2);
	pthread_create(&thread, NULL, thread_gets, NULL);
	pthread_join(thread, NULL);
}

static void worker_gets(void)
{
	get_in_all_ways();
	get(&key, 1);
}

static void *thread_sets(void *unused)
{
	(void)unused;
	set(0x3333);
	return NULL;
}

static void *thread_waits(void *unused)
{
	(void)unused;
	say("thread %d %d %lx\n", getpid(), tid(), (unsigned long)pthread_self());
	for (;;)
		pause();
}

/* Keys, cleanup functions and values at random: `count` rounds. */
static void *mix(void *seed)
{
	unsigned long state = (unsigned long)seed;
	unsigned int own = 0;

	for (long i = 0; i < count; i++) {
		state = state * 6364136223846793005UL + 1442695040888963407UL;
		unsigned long cleanup = i % 3 ? state : 0;

		say("init %d %d 0 %lx\n", getpid(), tid(), cleanup);
		if (!init_local(&own, (void (*)(void *))cleanup))
			_exit(98);
		for (int j = 0; j < 4; j++) {
			unsigned long value = j == 1 ? 0 : j == 2 ? -1UL : state ^ (state >> j);

			say("set %d %d %x %lx\n", getpid(), tid(), own, value);
			set_local(&own, (void *)value);
			if (set_local_ex) {
				int id = (int)(state >> 60);

				say("set_ex %d %d %x %lx\n", getpid(), tid(), id, value);
				set_local_ex(id, &own, (void *)value);
			}
		}
		say("cleanup %d %d %x 0\n", getpid(), tid(), own);
		cleanup_local(&own);
		if (clean_local) {
			say("clean %d %d 0 0\n", getpid(), tid());
			clean_local();
		}
	}
	return NULL;
}

static void mix_in_threads(void)
{
	pthread_t threads[2];

	for (long i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, mix, (void *)(i + 1)))
			_exit(96);
	mix((void *)(unsigned long)getpid());
	for (long i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* A process of 1 + `more` threads, which all say who they are and wait. */
static void be_threads(long more)
{
	pthread_t thread;

	say("thread %d %d %lx\n", getpid(), tid(), (unsigned long)pthread_self());
	for (long i = 0; i < more; i++)
		if (pthread_create(&thread, NULL, thread_waits, NULL))
			_exit(96);
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 64;
	const char *scenario = argv[2];
	count = argc > 3 ? atol(argv[3]) : 0;

	if (!strcmp(scenario, "late")) /* nobody can know the library before it is opened */
		pause_ms(300);

	void *library = dlopen(argv[1], RTLD_NOW);
	if (!library) {
		fprintf(stderr, "target: %s\n", dlerror());
		return 65;
	}
	*(void **)&init_local = dlsym(library, "CRYPTO_THREAD_init_local");
	*(void **)&set_local = dlsym(library, "CRYPTO_THREAD_set_local");
	*(void **)&get_local = dlsym(library, "CRYPTO_THREAD_get_local");
	*(void **)&cleanup_local = dlsym(library, "CRYPTO_THREAD_cleanup_local");
	*(void **)&set_local_ex = dlsym(library, "CRYPTO_THREAD_set_local_ex");
	*(void **)&clean_local = dlsym(library, "CRYPTO_THREAD_clean_local");
	if (!init_local || !set_local || !cleanup_local)
		return 66;

	if (!strcmp(scenario, "fatal")) { /* `count` keys are taken already */
		pthread_key_t taken;

		for (long i = 0; i < count; i++)
			if (pthread_key_create(&taken, NULL))
				return 69;
	}

	init();
	if (!strcmp(scenario, "before_fork")) {
		set(0x1111);
		in_child(nothing);
	} else if (!strcmp(scenario, "deep")) {
		set_below(count);
	} else if (!strcmp(scenario, "other_thread")) {
		pthread_t thread;

		pthread_create(&thread, NULL, thread_sets, NULL);
		pthread_join(thread, NULL);
		in_child(nothing);
	} else if (!strcmp(scenario, "worker")) {
		set(0x1111);
		in_child(worker_sets);
		in_child(worker_clears);
	} else if (!strcmp(scenario, "cleared")) {
		set(0x1111);
		set(0);
		set(0x4444);
		say("cleanup %d %d %x 0\n", getpid(), tid(), key);
		cleanup_local(&key);
		in_child(nothing);
	} else if (!strcmp(scenario, "exec")) {
		set(0x1111);
		in_child(worker_execs);
	} else if (!strcmp(scenario, "signals")) {
		in_child(worker_aborts);
		in_child(worker_segfaults);
	} else if (!strcmp(scenario, "fatal")) {
		set(0x1111);
		wait_for_go();
		in_child(worker_writes_to_nowhere);
		in_child(worker_sets_and_aborts);
	} else if (!strcmp(scenario, "fatal_thread")) {
		wait_for_go();
		in_child(worker_dies_of_its_thread);
	} else if (!strcmp(scenario, "not_fatal")) {
		wait_for_go();
		in_child(worker_survives);
		in_child(worker_terminates);
	} else if (!strcmp(scenario, "deaths")) {
		for (long i = 0; i < count; i++)
			in_child(worker_segfaults);
	} else if (!strcmp(scenario, "gets")) {
		if (!get_local || !init_local(&other_key, NULL))
			return 67;
		set(0x1111);
		wait_for_go();
		get_in_all_ways();
		in_child(worker_gets);
		in_child(nothing);
		in_child(worker_gets);
		wait_for_go();
		get_in_all_ways();
	} else if (!strcmp(scenario, "short")) {
		set(0x1111);
		pause_ms(5);
	} else if (!strcmp(scenario, "forks")) {
		for (long i = 0; i < count; i++)
			in_child(worker_sets);
	} else if (!strcmp(scenario, "burst")) {
		quiet = 1;
		for (long i = 1; i <= count; i++)
			set(i);
		quiet = 0;
	} else if (!strcmp(scenario, "late")) {
		/* Calls of which some come before the probes, and the rest after them. */
		for (long i = 1; i <= count; i++) {
			struct timespec now;

			clock_gettime(CLOCK_BOOTTIME, &now);
			say("at %lld\n", now.tv_sec * 1000000000LL + now.tv_nsec);
			set(i);
			pause_ms(10);
		}
	} else if (!strcmp(scenario, "extended")) {
		if (!set_local_ex || !clean_local)
			return 67;
		say("set_ex %d %d 3 5555\n", getpid(), tid());
		set_local_ex(3, (void *)0x10, (void *)0x5555);
		in_child(nothing);
		say("clean %d %d 0 0\n", getpid(), tid());
		clean_local();
	} else if (!strcmp(scenario, "mixed")) {
		mix_in_threads();
		in_child(mix_in_threads);
	} else if (!strcmp(scenario, "threads")) {
		/* One process of three threads, and `count` workers of two. */
		pid_t *workers = calloc(count + 1, sizeof(*workers));

		for (long i = 0; i < count; i++) {
			workers[i] = fork();
			if (workers[i] == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				be_threads(1);
				for (;;)
					pause();
			}
		}
		be_threads(2);
		wait_for_go();
		for (long i = 0; i < count; i++) {
			kill(workers[i], SIGTERM);
			waitpid(workers[i], NULL, 0);
		}
	} else if (!strcmp(scenario, "wait")) {
		set(0x1111);
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			say("fork %d %d\n", getppid(), getpid());
			pause();
		}
		wait_for_go();
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
	} else {
		return 64;
	}
	say("exit %d 0\n", getpid());
	return 0;
}
