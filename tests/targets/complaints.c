// SPDX-License-Identifier: Apache-2.0
/*
 * Complains as Kamailio's memory managers do, by a macro like its LOG: through a function pointer,
 * or to a stream with a prefix. What it logs it writes to its standard output, so that the truth is
 * known: each message, and before it "stderr" or "slog".
 *
 *   complaints LIBRARY SCENARIO COUNT
 *
 * As a module (-DMODULE, -shared) it only has no memory.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct log_data {
	const char *file;
	unsigned line;
};

void (*log_function)(struct log_data *data, const char *format, ...)
	__attribute__((visibility("hidden")));
int to_stream __attribute__((visibility("hidden")));

#define LOG(format, args...)                                                                       \
	do {                                                                                       \
		struct log_data data = {__FILE__, __LINE__};                                       \
		if (to_stream)                                                                     \
			fprintf(stdout, "%2d(%d) %s: %.*s%s%s%s" format, 0, (int)getpid(),         \
				"CRITICAL", 0, "", "", "<core> [x.c:1]: ", "", ##args);            \
		else                                                                               \
			log_function(&data, "" format, ##args);                                    \
	} while (0)

static void log_really(struct log_data *data, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	(void)data;
}

__attribute__((noinline)) int no_memory(int want)
{
	if (want)
		LOG("could not allocate shared memory from shm pool\n");
	return want;
}

#ifdef MODULE
int module_call(int stream)
{
	log_function = log_really;
	to_stream = stream;
	return no_memory(1);
}
#else
#include <dlfcn.h>

__attribute__((noinline)) void freed(void *p, const char *file, const char *function, unsigned line)
{
	LOG("BUG: freeing already freed pointer (%p), called from %s: %s(%d), first free %s: "
	    "%s(%ld) - aborting\n",
	    p, file, function, line, "other: first.c", "first", 7L);
}

__attribute__((noinline)) void beginning(char *f, const char *file, unsigned line)
{
	LOG("BUG: qm: fragm. %p (address %p) beginning overwritten (%lx)! Memory allocator was "
	    "called from %s:%u. Fragment marked by %s:%lu. Exec from %s:%u.\n",
	    f, f + 56, 0xf0f0ul, file, line, "core: a.c", 5L, "core: b.c", 6);
}

__attribute__((noinline)) void tail(char *f, const char *file, unsigned line)
{
	LOG("BUG: qm: prev. fragm. tail overwritten(%lx, %lx)[%p:%p]! Memory allocator was called "
	    "from %s:%u. Fragment marked by %s:%lu. Exec from %s:%u.\n",
	    1ul, 2ul, f, f + 56, file, line, "core: a.c", 5L, "core: b.c", 6);
	LOG("BUG: qm: prev. fragm. tail overwritten [%p:%p] - fragment marked by %s:%lu\n", f,
	    f + 56, "core: a.c", 5L);
}

__attribute__((noinline)) void status(char *f)
{
	LOG("         * beginning overwritten(%lx)!\n", 3ul);
	LOG("         * end overwritten(%lx, %lx)!\n", 3ul, (unsigned long)f);
	LOG("shared memory was not initialized\n");
}

__attribute__((noinline)) void bad_pointer(void *p)
{
	LOG("BUG: bad pointer %p (out of memory block!) - aborting\n", p);
}

struct fragment {
	unsigned long check;
	const char *next;
	char memory[48];
};

/* A worker writes past its fragment of shared memory; another one finds that, and dies of it. */
static int corrupt(void)
{
	const unsigned long check = 0xf0f0f0f0;
	struct fragment *shared =
		mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t last;

	if (shared == MAP_FAILED)
		return 1;
	shared[0].check = shared[1].check = check;
	shared[1].next = "";
	if (fork() == 0) {
		char *at = shared[0].memory;

		/* Not by its own type, whose end the compiler knows. */
		__asm__("" : "+r"(at));
		memset(at, 'A', sizeof(shared[0].memory) + 2 * sizeof(unsigned long));
		_exit(0);
	}
	wait(NULL);
	last = fork();
	if (last == 0) {
		if (shared[1].check != check)
			beginning((char *)&shared[1], "htable: ht_api.c", 9);
		fflush(stdout);
		_exit(*(volatile const char *)shared[1].next);
	}
	waitpid(last, NULL, 0);
	if (fork() == 0) {
		getchar();
		_exit(0);
	}
	wait(NULL);
	return 0;
}

static void complain(int i)
{
	char *address = (char *)0x7e0000001000 + i * 4096;
	char on_stack[32] = "tls: stack.c";

	freed(address, "tls: tls_init.c", "ser_free", 317);
	freed(address + 8, on_stack, on_stack, 1); /* no constants: nobody reads them */
	beginning(address, "core: core/tcp_main.c", 12);
	tail(address, "htable: ht_api.c", 4000000000u);
	bad_pointer(address);
	status(address);
	no_memory(1);
}

int main(int argc, char **argv)
{
	const char *scenario = argc > 2 ? argv[2] : "";
	int count = argc > 3 ? atoi(argv[3]) : 1;

	log_function = log_really;
	setvbuf(stdout, NULL, _IOFBF, 1 << 16);
	getchar(); /* until its probes are there, or not */
	to_stream = !strcmp(scenario, "stream");
	if (!strcmp(scenario, "module")) {
		void *module = dlopen(argv[1], RTLD_NOW);
		int (*call)(int) = module ? (int (*)(int))dlsym(module, "module_call") : NULL;

		if (!call)
			return 1;
		puts("loaded");
		fflush(stdout);
		getchar();
		for (int i = 0; i < count; i++)
			call(i & 1);
		return 0;
	}
	if (!strcmp(scenario, "corrupt"))
		return corrupt();
	if (!strcmp(scenario, "fork")) {
		for (int i = 0; i < count; i++) {
			if (fork() == 0) {
				complain(i);
				fflush(stdout);
				abort();
			}
			wait(NULL);
		}
		return 0;
	}
	for (int i = 0; i < count; i++)
		complain(i);
	return 0;
}
#endif
