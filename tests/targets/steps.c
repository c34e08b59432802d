// SPDX-License-Identifier: Apache-2.0
/*
 * Lets a program run instruction by instruction between its first SIGSTOP and its second, and
 * writes of every instruction: what the one before was (0 something else, 1 a call, 2 a return),
 * the registers in DWARF's order and the bytes of the stack from 128 below its pointer on.
 *
 *   steps WINDOW MOST PROGRAM ARGUMENT…
 *
 * Before: the process's number. When all is written it waits for the end of its input.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

static int kind(const unsigned char *code)
{
	while ((*code >= 0x40 && *code <= 0x4f) || *code == 0x3e || *code == 0xf2 ||
	       *code == 0xf3 || *code == 0x66)
		code++;
	if (*code == 0xe8 || (*code == 0xff && (code[1] >> 3 & 7) == 2))
		return 1;
	return *code == 0xc3 || *code == 0xc2 ? 2 : 0;
}

static void read_memory(pid_t pid, uint64_t address, void *to, size_t size)
{
	struct iovec here = {to, size};
	struct iovec there = {(void *)address, size};

	memset(to, 0, size);
	process_vm_readv(pid, &here, 1, &there, 1, 0);
}

int main(int argc, char **argv)
{
	size_t window = argc > 3 ? strtoul(argv[1], NULL, 0) : 0;
	long most = argc > 3 ? strtol(argv[2], NULL, 0) : 0;
	unsigned char *bytes = malloc(window + 1);
	uint64_t before = 0, stack_before = 0, top = 0;
	int status, stops = 0;

	if (!window || !bytes)
		return 64;

	pid_t pid = fork();

	if (pid == 0) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		execv(argv[3], argv + 3);
		_exit(65);
	}
	uint64_t told = pid;

	fwrite(&told, sizeof(told), 1, stdout);
	waitpid(pid, &status, 0); /* the exec */
	ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_EXITKILL);
	ptrace(PTRACE_CONT, pid, 0, 0);
	while (waitpid(pid, &status, 0) == pid && WIFSTOPPED(status)) {
		struct user_regs_struct r;
		unsigned char code[16];

		if (WSTOPSIG(status) == SIGSTOP && ++stops == 2)
			break;
		if (stops == 0) {
			/* It became another program on its way. */
			ptrace(PTRACE_CONT, pid, 0, 0);
			continue;
		}
		if (most-- == 0)
			break;
		ptrace(PTRACE_GETREGS, pid, 0, &r);
		read_memory(pid, before, code, sizeof(code));

		read_memory(pid, r.rsp, &top, sizeof(top));
		/* A probe of somebody hides a call: it tells itself by what it left. */
		if (before && *code == 0xcc && r.rsp == stack_before - 8 && top == before + 5)
			*code = 0xe8;

		uint64_t record[18] = {before ? kind(code) : 0,
				       r.rax,
				       r.rdx,
				       r.rcx,
				       r.rbx,
				       r.rsi,
				       r.rdi,
				       r.rbp,
				       r.rsp,
				       r.r8,
				       r.r9,
				       r.r10,
				       r.r11,
				       r.r12,
				       r.r13,
				       r.r14,
				       r.r15,
				       r.rip};

		read_memory(pid, r.rsp - 128, bytes, window);
		fwrite(record, sizeof(record), 1, stdout);
		fwrite(bytes, window, 1, stdout);
		before = r.rip;
		stack_before = r.rsp;
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
	}

	uint64_t end[18] = {~0ull};

	fwrite(end, sizeof(end), 1, stdout);
	fflush(stdout);
	while (getchar() != EOF) {
	}
	return 0;
}
