// SPDX-License-Identifier: Apache-2.0
/*
 * The server of a drill: a hazard that harms nobody. Its main process leaves a pointer into shared
 * memory in a thread-local slot, as Kamailio's does with OpenSSL's state, and forks workers, which
 * keep it and never touch it.
 *
 *   kamotel-drill SECONDS
 *
 * It has libcrypto's thread-local functions in itself, under their names, so that the agent takes
 * it for a program with a static libcrypto, and sees the call. Says `ready PID KEY VALUE` when all
 * workers run, and ends when its standard input does, or the time is over.
 */
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 3, SHARED_BYTES = 1 << 20, ATTACH_NS = 300000000 };

/* As OpenSSL 3.0 has them. */
__attribute__((noinline, used)) int CRYPTO_THREAD_init_local(pthread_key_t *key,
							     void (*cleanup)(void *))
{
	return pthread_key_create(key, cleanup) == 0;
}

__attribute__((noinline, used)) int CRYPTO_THREAD_set_local(pthread_key_t *key, void *value)
{
	return pthread_setspecific(*key, value) == 0;
}

__attribute__((noinline, used)) void *CRYPTO_THREAD_get_local(pthread_key_t *key)
{
	return pthread_getspecific(*key);
}

/* Until the main process ends, however that is: then nobody holds the other end. */
static void work(const int life[2])
{
	char none;

	close(life[1]);
	while (read(life[0], &none, 1) < 0)
		;
	_exit(0);
}

static void wait_until(long seconds)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	struct timespec begin, now;
	char ignored[64];

	clock_gettime(CLOCK_BOOTTIME, &begin);
	for (now = begin; now.tv_sec - begin.tv_sec < seconds; clock_gettime(CLOCK_BOOTTIME, &now))
		if (poll(&input, 1, 200) > 0 && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0)
			return;
}

int main(int argc, char **argv)
{
	pthread_key_t key;
	int life[2];

	if (argc != 2 || pipe(life))
		return 64;
	/* Who reads what it says may go at any time. */
	signal(SIGPIPE, SIG_IGN);
	char *shared = mmap(NULL, SHARED_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			    -1, 0);
	if (shared == MAP_FAILED || !CRYPTO_THREAD_init_local(&key, NULL))
		return 71;
	/* No server waits, but this one shall show that the call is seen: the agent attaches meanwhile. */
	nanosleep(&(struct timespec){.tv_nsec = ATTACH_NS}, NULL);
	/* Not at its beginning: as an allocator would have it. */
	void *value = shared + 0x1250;

	if (!CRYPTO_THREAD_set_local(&key, value))
		return 71;
	for (int i = 0; i < WORKERS; i++) {
		pid_t worker = fork();

		if (worker < 0)
			return 71;
		if (worker == 0)
			work(life);
	}
	close(life[0]);
	printf("ready %d %u %p\n", getpid(), key, value);
	fflush(stdout);
	wait_until(strtol(argv[1], NULL, 10));
	close(life[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
