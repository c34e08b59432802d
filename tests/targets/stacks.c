// SPDX-License-Identifier: Apache-2.0
/*
 * A program that stands still in the middle of a call chain of known truth. It says its registers
 * as of that moment and the return addresses that its functions found themselves, innermost first:
 *
 *   registers HEX*17      in DWARF's order
 *   truth HEX*
 *
 * and waits for a line. What it is to do is told by its arguments, each step calling the next:
 *
 *   PATH:NAME   NAME_call of the library at PATH
 *   deep=N      N frames of recursion
 *   big=N       a frame of N untouched bytes
 *   thread      the rest in another thread
 *   signal      the rest in a signal handler
 *   jit         the rest called by code that no file has
 *   step        stops itself by SIGSTOP before and after the rest, which does not stand still
 *   unload      after the line, unloads every library, loads the next argument's and stands again
 */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void *truth[4096];
static int notes;
static char **steps;
static int stepped;
static void *libraries[16];
static int library_count;
static unsigned long registers[17];

__attribute__((visibility("default"))) void note_caller(void *address)
{
	if (notes < 4096)
		truth[notes++] = address;
}

/* The registers that the caller has when this returns. */
__attribute__((naked, noinline)) static void capture(unsigned long *to)
{
	__asm__("mov %rax, 0(%rdi)\n\t"
		"mov %rdx, 8(%rdi)\n\t"
		"mov %rcx, 16(%rdi)\n\t"
		"mov %rbx, 24(%rdi)\n\t"
		"mov %rsi, 32(%rdi)\n\t"
		"mov %rdi, 40(%rdi)\n\t"
		"mov %rbp, 48(%rdi)\n\t"
		"lea 8(%rsp), %rax\n\t"
		"mov %rax, 56(%rdi)\n\t"
		"mov %r8, 64(%rdi)\n\t"
		"mov %r9, 72(%rdi)\n\t"
		"mov %r10, 80(%rdi)\n\t"
		"mov %r11, 88(%rdi)\n\t"
		"mov %r12, 96(%rdi)\n\t"
		"mov %r13, 104(%rdi)\n\t"
		"mov %r14, 112(%rdi)\n\t"
		"mov %r15, 120(%rdi)\n\t"
		"mov (%rsp), %rax\n\t"
		"mov %rax, 128(%rdi)\n\t"
		"ret");
}

static __attribute__((noinline)) void tell(void)
{
	printf("registers");
	for (int i = 0; i < 17; i++)
		printf(" %lx", registers[i]);
	printf("\ntruth");
	for (int i = notes - 1; i >= 0; i--)
		printf(" %lx", (unsigned long)truth[i]);
	printf("\n");
	fflush(stdout);
}

static __attribute__((noinline)) void stand(void)
{
	note_caller(__builtin_return_address(0));
	capture(registers);
	if (stepped)
		return;
	tell();
	while (getchar() != '\n' && !feof(stdin)) {
	}
	notes--;
}

static void next(void *position);

static __attribute__((noinline)) long deep(int depth, void *position)
{
	volatile long result;

	note_caller(__builtin_return_address(0));
	if (depth == 0) {
		next(position);
		result = 1;
	} else {
		result = deep(depth - 1, position) + 1;
	}
	return result;
}

static __attribute__((noinline)) void big(int size, void *position)
{
	volatile char *room = __builtin_alloca(size);

	note_caller(__builtin_return_address(0));
	room[size - 1] = 1;
	next(position);
	room[size - 1] = 2;
}

static void *volatile signal_position;

static __attribute__((noinline)) void on_signal(int number)
{
	(void)number;
	note_caller(__builtin_return_address(0));
	next(signal_position);
	signal_position = NULL;
}

static __attribute__((noinline)) void *run_thread(void *position)
{
	note_caller(__builtin_return_address(0));
	next(position);
	return NULL;
}

static __attribute__((noinline)) void jit(void *position)
{
	/* sub $8, %rsp; call *%rsi; add $8, %rsp; ret */
	static const unsigned char code[] = {0x48, 0x83, 0xec, 8, 0xff, 0xd6,
					     0x48, 0x83, 0xc4, 8, 0xc3};
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void (*function)(void *, void (*)(void *));

	note_caller(__builtin_return_address(0));
	memcpy(page, code, sizeof(code));
	*(void **)&function = page;
	function(position, next);
	munmap(page, 4096);
}

static __attribute__((noinline)) void library(char *step, void *position)
{
	char *name = strrchr(step, ':');
	char symbol[64];
	long (*call)(void (*)(void *), void *);
	volatile long result;

	note_caller(__builtin_return_address(0));
	snprintf(symbol, sizeof(symbol), "%s_call", name + 1);
	*name = 0;
	libraries[library_count] = dlopen(step, RTLD_LAZY);
	if (!libraries[library_count]) {
		fprintf(stderr, "%s\n", dlerror());
		exit(65);
	}
	*(void **)&call = dlsym(libraries[library_count++], symbol);
	result = call(next, position);
	(void)result;
}

static __attribute__((noinline)) void next(void *position)
{
	char **at = position;

	note_caller(__builtin_return_address(0));
	if (!*at || !strcmp(*at, "unload")) {
		stand();
	} else if (!strncmp(*at, "deep=", 5)) {
		deep(atoi(*at + 5), at + 1);
	} else if (!strncmp(*at, "big=", 4)) {
		big(atoi(*at + 4), at + 1);
	} else if (!strcmp(*at, "thread")) {
		pthread_t thread;

		notes = 0;
		pthread_create(&thread, NULL, run_thread, at + 1);
		pthread_join(thread, NULL);
	} else if (!strcmp(*at, "signal")) {
		notes = 0;
		signal_position = at + 1;
		signal(SIGUSR1, on_signal);
		raise(SIGUSR1);
	} else if (!strcmp(*at, "jit")) {
		jit(at + 1);
	} else if (!strcmp(*at, "step")) {
		stepped = 1;
		raise(SIGSTOP);
		next(at + 1);
		raise(SIGSTOP);
	} else {
		library(*at, at + 1);
	}
	__asm__ volatile("");
}

int main(int argc, char **argv)
{
	(void)argc;
	steps = argv + 1;
	next(steps);
	for (; *steps; steps++) {
		if (strcmp(*steps, "unload"))
			continue;
		while (library_count)
			dlclose(libraries[--library_count]);
		notes = 0;
		next(steps + 1);
	}
	return 0;
}
